/* weights — a deck's network with the weights of a checkpoint: where eval, profile, sample, score, logits begin. */
#pragma once
#include "base/config.h"
#include "dist/comm.h"
#include "network/network.h"
#include "store/checkpoint.h"
#include "store/files.h"

/** weights_path — `given` if not empty, else best.h5 of run.dir, last.h5 or previous.h5; ERR_DATA if there is none. */
int weights_path(const Config *cfg, const char *given, char path[FILES_PATH]);
/** weights_state — the state of that checkpoint; its deck must describe the same network as cfg.
 *  ERR_DATA; ERR_USAGE naming the key */
int weights_state(const Config *cfg, H5 *f, CheckpointState *state);
/** weights_open — a network for `batch` sequences with the "ema" or "live" weights of the checkpoint. key: the deck's
 *  word for the batch, which an error names. Not collective. */
int weights_open(Network *net, const Config *cfg, const Comm *comm, H5 *f, const char *which,
                 const CheckpointState *state, int64_t length, const char *key, int64_t batch);
