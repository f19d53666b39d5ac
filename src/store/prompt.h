/* prompt — tokens that samples must have, and holes between them.
 *
 * HDF5: /tokens [N,L'] of whole numbers, the mask id marks a hole; the attribute tokenizer_hash, or hash of /vocab,
 * where there is one, must be that of the vocabulary. input/prompt.py makes such a file of text, and tokenized data and
 * samples are of this form. Else text: a prompt a line, token ids with blanks between them and `_` for a hole; an empty
 * line is holes throughout. */
#pragma once
#include "store/vocab.h"
#include <stdbool.h>

typedef struct Prompts {
  int64_t n;       /* prompts */
  int64_t length;  /* of a sample */
  int32_t *tokens; /* [n,length], the mask id at holes; those behind the end of a prompt too */
} Prompts;

/** prompts_read — the prompts of the file, for samples of `length` tokens.
 *  Errors  ERR_DATA naming file, row or line, and what is wrong: nothing in it, more than length tokens, no token id */
int prompts_read(Prompts *p, const char *path, const Vocab *v, int64_t length);
/** prompts_none — one prompt without a fixed token. */
int prompts_none(Prompts *p, const Vocab *v, int64_t length);
/** prompts_of — the length tokens that sample i starts from: prompt i mod n. */
const int32_t *prompts_of(const Prompts *p, int64_t sample);
/** prompts_destroy — NULL-safe, clears p. */
void prompts_destroy(Prompts *p);
