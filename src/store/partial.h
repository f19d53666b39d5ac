/* partial — the finished items of an interrupted computation, in a file beside its output: OUTPUT.part.
 *
 *   /results  [n, columns]  of the computation's type
 *   /done     [n] uint8     1: finished
 *   attributes of /         format "mdlm-partial", format_version, key
 * Results that do not fit into memory are in the data sets of the unfinished output instead, and the attribute
 * `finished` says of how many items from the first on.
 * The key names all that the results are a function of, besides the number of the item, in lines "name = value". */
#pragma once
#include "store/h5.h"

typedef struct Partial {
  const char *path; /* not owned, nor the key */
  const char *key;
  H5Type type;
  int64_t n, columns;
} Partial;

#define PARTIAL_SUFFIX ".part"

/** partial_read — results [n, columns] and done [n] from the file, and *found := how many are done; 0 without a file, or
 *  with one that does not fit: that is warned of with the first line of the key that differs. Items with a NaN or an
 *  infinity count as not done: they are computed, and reported, anew. Not collective.
 *  Errors  ERR_MEMORY */
int partial_read(const Partial *p, void *results, uint8_t *done, int64_t *found);
/** partial_write — the file anew; an interrupted write leaves the old one. ERR_IO. */
int partial_write(const Partial *p, const void *results, const uint8_t *done);
/** partial_open — the unfinished output at path, open for writing, and *finished; *f := NULL without a file, or with one
 *  that does not fit, as above. If the process is killed, the items that were finished before are still there.
 *  Errors  ERR_MEMORY */
int partial_open(H5 **f, const char *path, const char *key, int64_t *finished);
/** partial_keep — close the unfinished output *f, a draft or one from partial_open, and keep it at path. ERR_IO. */
int partial_keep(H5 **f, const char *path, const char *key, int64_t finished);
/** partial_complete — the last item is written: *f is no partial file any more. */
int partial_complete(H5 *f);
