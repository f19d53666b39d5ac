/* vocab — token ids back to text, from the vocabulary bytes that a data file or checkpoint carries. */
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef enum VocabKind { VOCAB_BYTE_BPE, VOCAB_WORDPIECE, VOCAB_CHARS } VocabKind;

/* Vocab — what the attributes of a data file's /vocab group say. */
typedef struct Vocab {
  char tokenizer[64]; /* name: "bpe", "gpt2", "bert-base-uncased", "text8", "json:…"             */
  char hash[40];      /* xxh3-128 of the tokenizer's definition, hex                             */
  VocabKind kind;
  int64_t size; /* V, including the mask token                                             */
  int32_t mask, bos, eos, pad;
  int64_t n_bytes;
  char *bytes;      /* [n_bytes] the tokens' bytes, one after another, id order                */
  int64_t *offsets; /* [size+1] token i is bytes[offsets[i] … offsets[i+1])                    */
} Vocab;

typedef struct H5 H5;
/** vocab_load — read and check the group /vocab of f. ERR_DATA naming file and what is wrong; then v is clear. */
int vocab_load(Vocab *v, H5 *f);
/** vocab_store — write the group /vocab of f. */
int vocab_store(const Vocab *v, H5 *f);
/** vocab_destroy — NULL-safe, clears v. */
void vocab_destroy(Vocab *v);
/** vocab_copy — a deep copy. */
int vocab_copy(Vocab *to, const Vocab *from);
/** vocab_same — OK if a and b have the same size, special ids and hash; ERR_DATA naming both files and the difference.
 */
int vocab_same(const Vocab *a, const char *file_a, const Vocab *b, const char *file_b);
/** vocab_text — the text of ids[n] as UTF-8 in *text (mem_free it). bos, eos and pad end or vanish as in `special`:
 *  0 drop them, 1 show them as their names. The mask token shows as "[MASK]" always. */
int vocab_text(const Vocab *v, const int32_t *ids, int64_t n, int special, char **text);
