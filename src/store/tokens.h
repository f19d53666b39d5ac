/* tokens — rows of token ids in one HDF5 file, whatever made them: samples of `mdlm sample` or a data file.
 *
 *   /tokens  [N,L] whole numbers;  /lengths [N], 1 ≤ length ≤ L: how many of a row are real, all where it is absent
 * A data file has its vocabulary, a file of samples names it: attributes tokenizer and tokenizer_hash of /. */
#pragma once
#include "store/vocab.h"

typedef struct Tokens Tokens;

/** tokens_open — of the vocabulary v, which is that of the file `owner`. Not collective.
 *  Errors  ERR_DATA naming the file: unreadable, no rows, wrong shape or type, no vocabulary or another one */
int tokens_open(Tokens **t, const char *path, const Vocab *v, const char *owner);
/** tokens_close — NULL-safe, clears the handle. */
void tokens_close(Tokens **t);
int64_t tokens_rows(const Tokens *t);
int64_t tokens_width(const Tokens *t); /* L */
const char *tokens_path(const Tokens *t);
/** tokens_length — real tokens of that row. */
int64_t tokens_length(const Tokens *t, int64_t row);
/** tokens_read — ids[L] := that row. ERR_DATA naming row and value where a real one is no token, or the mask. */
int tokens_read(Tokens *t, int64_t row, int32_t *ids);
