/* mix_sources — the checkpoints that a command line of `mdlm mix` names, and its options. */
#pragma once
#include "store/files.h"

typedef struct MixSource {
  char path[FILES_PATH];
  bool weighted;
  double weight; /* if weighted */
} MixSource;

typedef struct MixSources {
  MixSource *list;
  int n, room, folders;
  const char *weights; /* "ema", "live" or "" */
  int64_t last;        /* of each directory: so many; 0: all */
  int64_t step;        /* only up to this step; −1: all */
  double sigma;        /* relative width of a power-law average; 0: a sum is wanted */
} MixSources;

/** mix_sources_read — from FILE, FILE=WEIGHT, DIRECTORY and key=value words; directories become the numbered checkpoints
 *  in them, with sigma also last.h5.
 *  Errors  ERR_USAGE, ERR_DATA naming the word */
int mix_sources_read(MixSources *s, int n, char *const *words);
void mix_sources_destroy(MixSources *s);
