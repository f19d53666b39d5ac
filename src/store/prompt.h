/* prompt — the tokens that samples must contain, and the holes between them that sampling fills.
 *
 * HDF5: /tokens [N,L'] of integers, with the mask id for a hole. If the file has the attribute tokenizer_hash, or
 * a group /vocab with the attribute hash, it must match the vocabulary. mdlm-prompt makes such a file from text;
 * tokenized data and samples have this form too.
 * Text: one prompt per line, token ids separated by blanks, with `_` for a hole; an empty line is all holes. */
#pragma once
#include "store/vocab.h"

typedef struct Prompts {
  int64_t n;       /* prompts */
  int64_t length;  /* of a sample */
  int32_t *tokens; /* [n,length], the mask id at holes and after the end of a prompt */
} Prompts;

/** prompts_read — the prompts of the file, for samples of `length` tokens.
 *  Errors  ERR_DATA naming file, row or line, and the problem: empty, more than length tokens, not a token id */
int prompts_read(Prompts *p, const char *path, const Vocab *v, int64_t length);
/** prompts_none — one prompt of holes only. */
int prompts_none(Prompts *p, const Vocab *v, int64_t length);
/** prompts_of — the tokens [length] that a sample starts from: prompt number sample mod n. */
const int32_t *prompts_of(const Prompts *p, int64_t sample);
/** prompts_destroy — NULL-safe, clears p. */
void prompts_destroy(Prompts *p);
