#include "store/vocab.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/h5.h"
#include <ctype.h>
#include <stdbool.h>
#include <string.h>

static const char *const kinds[] = {"byte_bpe", "wordpiece", "chars"};
enum { KINDS = sizeof kinds / sizeof *kinds };

void vocab_destroy(Vocab *v) {
  if (!v) return;
  mem_free(&v->bytes);
  mem_free(&v->offsets);
  memset(v, 0, sizeof *v);
}

int vocab_copy(Vocab *to, const Vocab *from) {
  int err;
  *to = *from;
  to->bytes = NULL;
  to->offsets = NULL;
  TRY_TO(failed, mem_alloc(&to->bytes, (size_t)from->n_bytes));
  TRY_TO(failed, mem_alloc(&to->offsets, (size_t)(from->size + 1) * sizeof *to->offsets));
  if (from->n_bytes > 0) memcpy(to->bytes, from->bytes, (size_t)from->n_bytes);
  memcpy(to->offsets, from->offsets, (size_t)(from->size + 1) * sizeof *to->offsets);
  return OK;
failed:
  vocab_destroy(to);
  return err;
}

int vocab_same(const Vocab *a, const char *file_a, const Vocab *b, const char *file_b) {
  const struct {
    const char *name;
    int64_t a, b;
  } numbers[] = {{"size", a->size, b->size},    {"mask token", a->mask, b->mask}, {"bos token", a->bos, b->bos},
                 {"eos token", a->eos, b->eos}, {"pad token", a->pad, b->pad},    {"kind", a->kind, b->kind}};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    CHECK(numbers[i].a == numbers[i].b, ERR_DATA, "the vocabularies of %s and %s differ: %s %lld and %lld", file_a,
          file_b, numbers[i].name, (long long)numbers[i].a, (long long)numbers[i].b);
  CHECK(strcmp(a->hash, b->hash) == 0, ERR_DATA,
        "the vocabularies of %s and %s differ: tokenizer %s with hash %s and %s with hash %s", file_a, file_b,
        a->tokenizer, a->hash, b->tokenizer, b->hash);
  return OK;
}

/* ---- in a file ---- */

static int special_load(H5 *f, const char *name, int64_t lowest, int64_t size, int32_t *id) {
  int64_t value;
  TRY(h5_get_int(f, "/vocab", name, &value));
  CHECK(value >= lowest && value < size, ERR_DATA, "%s: the %s token of /vocab is %lld, the vocabulary has %lld tokens",
        h5_path(f), name, (long long)value, (long long)size);
  *id = (int32_t)value;
  return OK;
}

static int attributes_load(Vocab *v, H5 *f) {
  char kind[32];
  TRY(h5_get_text(f, "/vocab", "tokenizer", v->tokenizer, sizeof v->tokenizer));
  TRY(h5_get_text(f, "/vocab", "hash", v->hash, sizeof v->hash));
  TRY(h5_get_text(f, "/vocab", "kind", kind, sizeof kind));
  int k = 0;
  while (k < KINDS && strcmp(kind, kinds[k]) != 0) k++;
  CHECK(k < KINDS, ERR_DATA, "%s: the kind of /vocab is \"%s\", byte_bpe, wordpiece or chars was expected", h5_path(f),
        kind);
  v->kind = (VocabKind)k;
  TRY(h5_get_int(f, "/vocab", "size", &v->size));
  CHECK(v->size >= 2 && v->size < INT32_MAX, ERR_DATA, "%s: the size of /vocab is %lld, at least 2 was expected",
        h5_path(f), (long long)v->size);
  TRY(special_load(f, "mask", 0, v->size, &v->mask));
  TRY(special_load(f, "bos", -1, v->size, &v->bos)); /* -1: the tokenizer has none */
  TRY(special_load(f, "eos", -1, v->size, &v->eos));
  return special_load(f, "pad", -1, v->size, &v->pad);
}

static int tokens_load(Vocab *v, H5 *f) {
  H5Info info;
  TRY(h5_info(f, "/vocab/bytes", &info));
  CHECK(info.rank == 1 && info.type == H5_U8, ERR_DATA, "%s: /vocab/bytes is not a vector of uint8", h5_path(f));
  v->n_bytes = info.dims[0];
  TRY(mem_alloc(&v->bytes, (size_t)v->n_bytes));
  TRY(h5_read(f, "/vocab/bytes", H5_U8, 1, &v->n_bytes, v->bytes));
  int64_t n = v->size + 1;
  TRY(h5_info(f, "/vocab/offsets", &info));
  CHECK(info.rank == 1 && info.dims[0] == n && h5_whole(info.type), ERR_DATA,
        "%s: /vocab/offsets must be %lld integers, one more than the size of /vocab", h5_path(f), (long long)n);
  TRY(mem_alloc(&v->offsets, (size_t)n * sizeof *v->offsets));
  TRY(h5_read(f, "/vocab/offsets", H5_I64, 1, &n, v->offsets));
  CHECK(v->offsets[0] == 0 && v->offsets[v->size] == v->n_bytes, ERR_DATA,
        "%s: /vocab/offsets runs from %lld to %lld, /vocab/bytes has %lld", h5_path(f), (long long)v->offsets[0],
        (long long)v->offsets[v->size], (long long)v->n_bytes);
  for (int64_t i = 0; i < v->size; i++)
    CHECK(v->offsets[i] <= v->offsets[i + 1], ERR_DATA, "%s: /vocab/offsets descends after token %lld", h5_path(f),
          (long long)i);
  return OK;
}

int vocab_load(Vocab *v, H5 *f) {
  int err;
  memset(v, 0, sizeof *v);
  TRY_TO(failed, attributes_load(v, f));
  TRY_TO(failed, tokens_load(v, f));
  return OK;
failed:
  vocab_destroy(v);
  return err;
}

int vocab_store(const Vocab *v, H5 *f) {
  int64_t n = v->size + 1;
  TRY(h5_group(f, "/vocab"));
  TRY(h5_set_str(f, "/vocab", "tokenizer", v->tokenizer));
  TRY(h5_set_str(f, "/vocab", "hash", v->hash));
  TRY(h5_set_str(f, "/vocab", "kind", kinds[v->kind]));
  TRY(h5_set_int(f, "/vocab", "size", v->size));
  TRY(h5_set_int(f, "/vocab", "mask", v->mask));
  TRY(h5_set_int(f, "/vocab", "bos", v->bos));
  TRY(h5_set_int(f, "/vocab", "eos", v->eos));
  TRY(h5_set_int(f, "/vocab", "pad", v->pad));
  TRY(h5_write(f, "/vocab/bytes", H5_U8, 1, &v->n_bytes, v->bytes));
  return h5_write(f, "/vocab/offsets", H5_U64, 1, &n, v->offsets);
}

/* ---- text ---- */

/* The text of one token, and for WordPiece whether it continues the word. */
typedef struct Piece {
  const char *s;
  int64_t n;
  bool shown, glued; /* shown: a special token, never punctuation */
  bool breaks;       /* a line break before this one */
} Piece;

typedef struct Text {
  char *s; /* NULL: only count */
  int64_t n;
} Text;

static void text_add(Text *t, const char *s, int64_t n) {
  if (t->s && n > 0) memcpy(t->s + t->n, s, (size_t)n);
  t->n += n;
}

/* *p := the text for id; false if there is none. */
static bool piece_of(const Vocab *v, int32_t id, VocabSpecial special, Piece *p) {
  p->s = v->bytes + v->offsets[id];
  p->n = v->offsets[id + 1] - v->offsets[id];
  p->shown = id == v->mask || id == v->bos || id == v->eos || id == v->pad;
  p->glued = false;
  if (id == v->mask) return p->s = "[MASK]", p->n = 6, true;
  if (p->shown && special != VOCAB_SHOW) return false;
  if (p->shown && p->n == 0) {
    p->s = id == v->bos ? "[BOS]" : id == v->eos ? "[EOS]" : "[PAD]";
    p->n = 5;
  }
  if (v->kind == VOCAB_WORDPIECE && !p->shown && p->n > 2 && memcmp(p->s, "##", 2) == 0)
    p->s += 2, p->n -= 2, p->glued = true;
  return true;
}

static bool is_mark(const Piece *p, const char *marks) {
  return !p->shown && p->n == 1 && *p->s && strchr(marks, *p->s);
}
static bool is_word_byte(char c) { return isalnum((unsigned char)c) || (unsigned char)c >= 0x80; }
static bool ends_in_digit(const Piece *p) { return !p->shown && p->n > 0 && isdigit((unsigned char)p->s[p->n - 1]); }
static bool is_digits(const Piece *p) {
  int64_t i = 0;
  while (i < p->n && isdigit((unsigned char)p->s[i])) i++;
  return !p->shown && i == p->n && i > 0;
}
static bool starts_word(const Piece *p) { return !p->shown && p->n > 0 && is_word_byte(p->s[0]); }

/* "s" of "it ' s", "t" of "don ' t" … */
static bool is_contraction(const Piece *p) {
  static const char *const words[] = {"s", "t", "m", "d", "re", "ve", "ll"};
  for (size_t i = 0; !p->shown && i < sizeof words / sizeof *words; i++)
    if (p->n == (int64_t)strlen(words[i]) && memcmp(p->s, words[i], (size_t)p->n) == 0) return true;
  return false;
}

/* Whether WordPiece text has a blank between `last` and `next`; `before` precedes last and `after` follows next. BERT's
 * tokenizer splits every punctuation mark off its word; this rejoins the common cases. */
static bool blank_between(const Piece *before, const Piece *last, const Piece *next, const Piece *after) {
  if (next->glued || next->breaks) return false;
  if (is_mark(next, ".,!?;:')")) return false;
  if (is_mark(last, "(")) return false;
  if (is_mark(last, "'") && is_contraction(next)) return false;
  if (is_mark(next, "-") && starts_word(last) && after && starts_word(after)) return false;
  if (is_mark(last, "-") && before && starts_word(before) && starts_word(next)) return false;
  if (before && ends_in_digit(before) && is_digits(next))
    return !is_mark(last, ".:") && !(is_mark(last, ",") && next->n == 3);
  return true;
}

static bool next_piece(const Vocab *v, const int32_t *ids, int64_t n, int64_t *i, VocabSpecial special, Piece *p) {
  bool framed = false;
  for (; *i < n; framed = true)
    if (piece_of(v, ids[(*i)++], special, p)) return p->breaks = framed && special == VOCAB_BREAK, true;
  return false;
}

static void text_join(Text *t, const Vocab *v, const int32_t *ids, int64_t n, VocabSpecial special) {
  Piece p[4] = {{0}}; /* before, last, next, after */
  bool have[4] = {false, false, false, false};
  int64_t i = 0;
  have[3] = next_piece(v, ids, n, &i, special, &p[3]);
  while (have[3]) {
    memmove(p, p + 1, 3 * sizeof *p);
    memmove(have, have + 1, 3 * sizeof *have);
    have[3] = next_piece(v, ids, n, &i, special, &p[3]);
    if (v->kind == VOCAB_WORDPIECE && have[1] &&
        blank_between(have[0] ? &p[0] : NULL, &p[1], &p[2], have[3] ? &p[3] : NULL))
      text_add(t, " ", 1);
    if (p[2].breaks && have[1]) text_add(t, "\n", 1);
    text_add(t, p[2].s, p[2].n);
  }
}

/* Length of the well-formed UTF-8 character at s (n bytes left), 0 if it is malformed. NUL counts as malformed: it
 * would end the text. */
static int utf8_length(const unsigned char *s, int64_t n) {
  if (s[0] == 0) return 0;
  if (s[0] < 0x80) return 1;
  int length = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : 0;
  if (length == 0 || length > n) return 0;
  for (int i = 1; i < length; i++)
    if ((s[i] & 0xc0) != 0x80) return 0;
  if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90)) return 0; /* overlong */
  if ((s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0; /* surrogates, beyond U+10FFFF */
  return length;
}

static void text_repair(Text *out, const char *s, int64_t n) {
  for (int64_t i = 0; i < n;) {
    int length = utf8_length((const unsigned char *)s + i, n - i);
    text_add(out, length ? s + i : "\xef\xbf\xbd", length ? length : 3);
    i += length ? length : 1;
  }
}

int vocab_text(const Vocab *v, const int32_t *ids, int64_t n, VocabSpecial special, char **text) {
  Text raw = {0}, out = {0};
  *text = NULL;
  for (int64_t i = 0; i < n; i++)
    CHECK(ids[i] >= 0 && ids[i] < v->size, ERR_DATA,
          "token %d at position %lld is not in the vocabulary of %lld tokens", (int)ids[i], (long long)i,
          (long long)v->size);
  text_join(&raw, v, ids, n, special);
  TRY(mem_alloc(&raw.s, (size_t)raw.n + 1));
  raw.n = 0;
  text_join(&raw, v, ids, n, special);
  text_repair(&out, raw.s, raw.n);
  int err = mem_alloc(&out.s, (size_t)out.n + 1);
  out.n = 0;
  if (err == OK) text_repair(&out, raw.s, raw.n);
  mem_free(&raw.s);
  *text = out.s;
  return err;
}
