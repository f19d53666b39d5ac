/* deck_job — the job of a sampler as the deck's section `sample` describes it. */
#pragma once
#include "network/network.h"
#include "sampling/guidance.h"

/** deck_label — *label := the class of sample.label, −1: none. names: those of the classes, one a line, or NULL.
 *  ERR_USAGE: there is no such class, or none at all */
int deck_label(const Config *cfg, const char *names, int32_t *label);
/** deck_label_name — *name := that of the class, "" if it has none; the caller frees it (mem_free). ERR_MEMORY */
int deck_label_name(const char *names, int32_t label, char **name);
/** deck_job — all but which samples, where they go, and the progress. The pointers are those of the network. */
SamplerJob deck_job(const Config *cfg, Network *net, int32_t label);
