/* match — whether weights trained under one deck mean the same under another. */
#pragma once
#include "base/config.h"

/** network_match — OK if weights trained under the deck `trained` mean under `cfg` what they meant there.
 *  Errors  ERR_USAGE naming `path`, their file, and the first key that differs */
int network_match(const Config *cfg, const Config *trained, const char *path);
