#include "store/tokens.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/h5.h"
#include <string.h>

struct Tokens {
  H5 *f;
  int64_t rows, width, vocab;
  int32_t mask;
  int64_t *lengths; /* [rows]; NULL: every row has `width` tokens */
  int64_t *wide;    /* [width] */
};

int64_t tokens_rows(const Tokens *t) { return t->rows; }
int64_t tokens_width(const Tokens *t) { return t->width; }
const char *tokens_path(const Tokens *t) { return h5_path(t->f); }
int64_t tokens_length(const Tokens *t, int64_t row) { return t->lengths ? t->lengths[row] : t->width; }

/* The attributes tokenizer and hash belong to /vocab in a data file, to / in a file of samples. */
int tokens_vocabulary(H5 *f, const Vocab *v, const char *owner) {
  bool whole = h5_exists(f, "/vocab");
  const char *at = whole ? "/vocab" : "/", *name = whole ? "hash" : "tokenizer_hash";
  char hash[sizeof v->hash], tokenizer[sizeof v->tokenizer];
  CHECK(h5_has(f, at, "tokenizer") && h5_has(f, at, name), ERR_DATA,
        "%s does not name its tokenizer: no group /vocab, no attributes tokenizer and tokenizer_hash", h5_path(f));
  TRY(h5_get_text(f, at, "tokenizer", tokenizer, sizeof tokenizer));
  TRY(h5_get_text(f, at, name, hash, sizeof hash));
  CHECK(strcmp(hash, v->hash) == 0, ERR_DATA,
        "%s holds tokens of %s (%s), %s reads those of %s (%s): translate them with mdlm-retokenize", h5_path(f),
        tokenizer, hash, owner, v->tokenizer, v->hash);
  if (!whole) return OK;
  Vocab own;
  TRY(vocab_load(&own, f));
  int err = vocab_same(v, owner, &own, h5_path(f));
  vocab_destroy(&own);
  return err;
}

static int lengths_load(Tokens *t) {
  H5Info info;
  if (!h5_exists(t->f, "/lengths")) return OK;
  TRY(h5_info(t->f, "/lengths", &info));
  CHECK(info.rank == 1 && info.dims[0] == t->rows && h5_whole(info.type), ERR_DATA,
        "%s: /lengths must be %lld integers, one per row of /tokens", tokens_path(t), (long long)t->rows);
  TRY(mem_alloc(&t->lengths, (size_t)t->rows * sizeof *t->lengths));
  TRY(h5_read(t->f, "/lengths", H5_I64, 1, &t->rows, t->lengths));
  for (int64_t i = 0; i < t->rows; i++)
    CHECK(t->lengths[i] >= 1 && t->lengths[i] <= t->width, ERR_DATA, "%s: the length of row %lld is %lld, L is %lld",
          tokens_path(t), (long long)i, (long long)t->lengths[i], (long long)t->width);
  return OK;
}

static int load(Tokens *t, const char *path, const Vocab *v, const char *owner) {
  H5Info info;
  TRY(h5_open(&t->f, path, false));
  CHECK(h5_exists(t->f, "/tokens"), ERR_DATA, "%s: no data set /tokens [N,L]", path);
  TRY(h5_info(t->f, "/tokens", &info));
  CHECK(info.rank == 2 && info.dims[0] > 0 && info.dims[1] > 0 && h5_whole(info.type), ERR_DATA,
        "%s: /tokens must be a matrix [N,L] of integers", path);
  TRY(tokens_vocabulary(t->f, v, owner));
  t->rows = info.dims[0], t->width = info.dims[1], t->vocab = v->size, t->mask = v->mask;
  TRY(mem_alloc(&t->wide, (size_t)t->width * sizeof *t->wide));
  return lengths_load(t);
}

int tokens_open(Tokens **out, const char *path, const Vocab *v, const char *owner) {
  TRY(mem_alloc(out, sizeof **out));
  int err = load(*out, path, v, owner);
  if (err) tokens_close(out);
  return err;
}

void tokens_close(Tokens **t) {
  if (!*t) return;
  h5_close(&(*t)->f);
  mem_free(&(*t)->lengths);
  mem_free(&(*t)->wide);
  mem_free(t);
}

int tokens_read(Tokens *t, int64_t row, int32_t *ids) {
  TRY(h5_read_rows(t->f, "/tokens", H5_I64, row, 1, t->wide));
  for (int64_t l = 0; l < t->width; l++) ids[l] = (int32_t)t->wide[l]; /* padding may hold any value */
  for (int64_t l = 0; l < tokens_length(t, row); l++) {
    CHECK(t->wide[l] >= 0 && t->wide[l] < t->vocab, ERR_DATA,
          "%s: row %lld has token %lld at position %lld, the vocabulary has %lld tokens", tokens_path(t),
          (long long)row, (long long)t->wide[l], (long long)l, (long long)t->vocab);
    CHECK(ids[l] != t->mask, ERR_DATA, "%s: row %lld is unfinished: it has a mask token at position %lld",
          tokens_path(t), (long long)row, (long long)l);
  }
  return OK;
}
