/* partial — the finished items of an interrupted computation, in a file beside its output: OUTPUT.part.
 *
 *   /results  [n, columns]  of the computation's type
 *   /done     [n] uint8     1: finished
 *   attributes of /         format "mdlm-partial", format_version, key
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
 *  with one that does not fit: that is warned of with the first line of the key that differs. Not collective.
 *  Errors  ERR_MEMORY */
int partial_read(const Partial *p, void *results, uint8_t *done, int64_t *found);
/** partial_write — the file anew; an interrupted write leaves the old one. ERR_IO. */
int partial_write(const Partial *p, const void *results, const uint8_t *done);
