/* init — a new run that begins with the weights of another: run.init. */
#pragma once
#include "base/config.h"
#include "dist/comm.h"
#include "model/params.h"
#include "store/vocab.h"

/** init_weights — tensors of the file run.init, found by name, replace those of p where the shape is the same; rows of
 *  tokens are found by token (vocab_map), so that the vocabularies may differ. A network with modulations that the file
 *  does not have begins with open branches, as the file's. Logs what is taken, new and not used. *digest: of the file's
 *  weights. p->value is bound afterwards. Collective.
 *  Errors  ERR_USAGE: no tensor fits; ERR_DATA, ERR_MEMORY, ERR_DEVICE */
int init_weights(Params *p, const Config *cfg, const Vocab *vocab, Comm *comm, char digest[33]);
