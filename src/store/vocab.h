/* vocab — the vocabulary that a data file or a checkpoint contains, and token ids back to text. */
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef enum VocabKind { VOCAB_BYTE_BPE, VOCAB_WORDPIECE, VOCAB_CHARS } VocabKind;

/* Vocab — a data file's group /vocab. */
typedef struct Vocab {
  char tokenizer[64]; /* name: "bpe", "bert-base-uncased", "text8", "json:…" */
  char hash[40];      /* XXH3-128 of the tokenizer's definition, in hex */
  VocabKind kind;
  int64_t size;                /* V, including the mask token */
  int32_t mask, bos, eos, pad; /* −1 if the tokenizer has none; there is always a mask */
  int64_t n_bytes;
  char *bytes;      /* [n_bytes] the bytes of all tokens, concatenated in the order of ids */
  int64_t *offsets; /* [size+1] token i is bytes[offsets[i] … offsets[i+1]) */
} Vocab;

typedef struct H5 H5;
/** vocab_load — read and check the group /vocab of f. ERR_DATA naming the file and the problem, with v cleared. */
int vocab_load(Vocab *v, H5 *f);
/** vocab_store — write the group /vocab of f. */
int vocab_store(const Vocab *v, H5 *f);
/** vocab_destroy — NULL-safe, clears v. */
void vocab_destroy(Vocab *v);
/** vocab_copy — a deep copy. */
int vocab_copy(Vocab *to, const Vocab *from);
/** vocab_same — OK if a and b have the same size, kind, special ids and hash; else ERR_DATA naming both files and the
 *  difference. */
int vocab_same(const Vocab *a, const char *file_a, const Vocab *b, const char *file_b);
/* VocabSpecial — what becomes of bos, eos and pad in a text. The mask token is always shown as [MASK]. */
typedef enum VocabSpecial {
  VOCAB_DROP,  /* nothing */
  VOCAB_SHOW,  /* their own text, or [BOS], [EOS] and [PAD] if they have none */
  VOCAB_BREAK, /* a line break where sequences or documents meet, none at the ends of the text */
} VocabSpecial;
/** vocab_text — *text := the text of ids[n] as UTF-8; the caller frees it (mem_free). */
int vocab_text(const Vocab *v, const int32_t *ids, int64_t n, VocabSpecial special, char **text);
