/* match — whether weights trained under one deck mean the same under another, and what else differs. */
#pragma once
#include "base/config.h"

/** network_match — OK if weights trained under the deck `trained` mean under `cfg` what they meant there.
 *  Errors  ERR_USAGE naming `path`, their file, and the first key that differs */
int network_match(const Config *cfg, const Config *trained, const char *path);
/** network_deck — *trained := the deck stored in the checkpoint at `path`. Keys that this version does not have are told
 *  in one warning. The caller config_frees it. */
int network_deck(Config *trained, const char *deck, const char *path);
/** network_changes — one warning for each key that differs from the deck of a checkpoint, with both values. Only keys of
 *  these sections, and not those in `quiet`: both are words separated by blanks.
 *  Errors  ERR_MEMORY */
int network_changes(const Config *cfg, const Config *trained, int64_t step, const char *sections, const char *quiet);
