/* tokens — rows of token ids in one HDF5 file: samples of `mdlm sample` or a data file.
 *
 *   /tokens   [N,L]  integers
 *   /lengths  [N]    1 ≤ length ≤ L: the number of real tokens in a row; without it all are real
 * A data file contains its vocabulary; a file of samples names it: the attributes tokenizer and tokenizer_hash of /. */
#pragma once
#include "store/vocab.h"

typedef struct Tokens Tokens;

/** tokens_open — open the file at path; its vocabulary must be v, which came from the file `owner`. Not collective.
 *  Errors  ERR_DATA naming the file: unreadable, no rows, wrong shape or type, no vocabulary or a different one */
int tokens_open(Tokens **t, const char *path, const Vocab *v, const char *owner);
/** tokens_vocabulary — whether an open file holds tokens of vocabulary v, which came from the file `owner`. ERR_DATA */
int tokens_vocabulary(H5 *f, const Vocab *v, const char *owner);
/** tokens_close — NULL-safe, clears the handle. */
void tokens_close(Tokens **t);
int64_t tokens_rows(const Tokens *t);
int64_t tokens_width(const Tokens *t); /* L */
const char *tokens_path(const Tokens *t);
/** tokens_length — the number of real tokens in that row. */
int64_t tokens_length(const Tokens *t, int64_t row);
/** tokens_read — ids[L] := that row. ERR_DATA naming row and value if a real token is the mask or not in the
 *  vocabulary. */
int tokens_read(Tokens *t, int64_t row, int32_t *ids);
