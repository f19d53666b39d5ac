#include "store/shards.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/files.h"
#include "store/h5.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { FORMAT_VERSION = 1, VERIFY_TOKENS = 1 << 20, PIECE_ROWS = 1 << 16, TRUST_TOKENS = 1 << 25 };
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "digests are defined over little-endian bytes");

typedef struct ShardFile {
  H5 *f;
  int64_t read;        /* number of the last call of shards_read that read from it */
  int64_t first, rows; /* the file has rows first … first+rows−1 of the whole */
  char digest[40];
  int64_t classes; /* of /label; 0: it has none */
} ShardFile;

struct Shards {
  char *spec;
  ShardFile *files;
  int n_files, room;
  int64_t rows, length;
  int64_t classes;   /* the most of any file */
  char *class_names; /* of the first file */
  int64_t reads;     /* calls of shards_read */
  Vocab vocab;
  Protocol protocol;
};

/* ---- attributes ---- */

int protocol_load(Protocol *p, H5 *f) {
  int64_t wrap;
  TRY(h5_get_within(f, "/", "wrap", 0, 1, &wrap));
  p->wrap = (int)wrap;
  TRY(h5_get_text(f, "/", "detokenizer", p->detokenizer, sizeof p->detokenizer));
  TRY(h5_get_text(f, "/", "source", p->source, sizeof p->source));
  return h5_get_text(f, "/", "split", p->split, sizeof p->split);
}

int protocol_store(const Protocol *p, H5 *f) {
  TRY(h5_set_int(f, "/", "wrap", p->wrap));
  TRY(h5_set_str(f, "/", "detokenizer", p->detokenizer));
  TRY(h5_set_str(f, "/", "source", p->source));
  return h5_set_str(f, "/", "split", p->split);
}

static int protocol_same(const Protocol *a, const char *file_a, const Protocol *b, const char *file_b) {
  CHECK(a->wrap == b->wrap, ERR_DATA, "%s and %s differ: wrap %d and %d", file_a, file_b, a->wrap, b->wrap);
  const char *const texts[][3] = {
      {"detokenizer", a->detokenizer, b->detokenizer}, {"source", a->source, b->source}, {"split", a->split, b->split}};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    CHECK(strcmp(texts[i][1], texts[i][2]) == 0, ERR_DATA, "%s and %s differ: %s \"%s\" and \"%s\"", file_a, file_b,
          texts[i][0], texts[i][1], texts[i][2]);
  return OK;
}

/* An attribute that older files lack: compared where both have it. */
static int word_same(H5 *a, H5 *b, const char *name) {
  char text[2][64];
  if (!h5_has(a, "/", name) || !h5_has(b, "/", name)) return OK;
  TRY(h5_get_text(a, "/", name, text[0], sizeof text[0]));
  TRY(h5_get_text(b, "/", name, text[1], sizeof text[1]));
  CHECK(strcmp(text[0], text[1]) == 0, ERR_DATA, "%s and %s differ: %s \"%s\" and \"%s\"", h5_path(a), h5_path(b), name,
        text[0], text[1]);
  return OK;
}

static int framing_same(H5 *a, H5 *b) {
  TRY(word_same(a, b, "framing"));
  TRY(word_same(a, b, "protocol"));
  return word_same(a, b, "variant");
}

/* ---- opening ---- */

static int shapes_check(H5 *f, int64_t *rows, int64_t *length) {
  H5Info tokens, lengths;
  TRY(h5_info(f, "/tokens", &tokens));
  TRY(h5_info(f, "/lengths", &lengths));
  CHECK(tokens.rank == 2, ERR_DATA, "%s: /tokens has %d dimensions, [N,L] was expected", h5_path(f), tokens.rank);
  CHECK(tokens.type == H5_U16 || tokens.type == H5_U32, ERR_DATA, "%s: /tokens is neither uint16 nor uint32",
        h5_path(f));
  CHECK(tokens.dims[0] > 0 && tokens.dims[1] > 0, ERR_DATA, "%s: /tokens is [%lld,%lld]: it has no sequence",
        h5_path(f), (long long)tokens.dims[0], (long long)tokens.dims[1]);
  CHECK(tokens.dims[1] <= INT32_MAX, ERR_DATA, "%s: /tokens has rows of %lld tokens, which is too long", h5_path(f),
        (long long)tokens.dims[1]);
  CHECK(lengths.rank == 1 && lengths.dims[0] == tokens.dims[0], ERR_DATA,
        "%s: /lengths has %lld values, /tokens has %lld rows", h5_path(f),
        lengths.rank == 1 ? (long long)lengths.dims[0] : 0, (long long)tokens.dims[0]);
  CHECK(lengths.type == H5_U32 || lengths.type == H5_U16, ERR_DATA, "%s: /lengths is not uint32", h5_path(f));
  *rows = tokens.dims[0];
  *length = tokens.dims[1];
  return OK;
}

/* *names := those of the classes of a file with labels. */
static int labels_open(ShardFile *file, char **names) {
  H5Info label;
  const char *path = h5_path(file->f);
  if (!h5_exists(file->f, "/label")) return mem_strdup(names, "");
  TRY(h5_info(file->f, "/label", &label));
  CHECK(label.rank == 1 && label.dims[0] == file->rows && h5_whole(label.type), ERR_DATA,
        "%s: /label must be %lld integers, one per row of /tokens", path, (long long)file->rows);
  TRY(h5_get_within(file->f, "/label", "classes", 1, INT32_MAX, &file->classes));
  if (!h5_has(file->f, "/label", "names")) return mem_strdup(names, "");
  TRY(h5_get_str(file->f, "/label", "names", names));
  int64_t lines = 1;
  for (const char *c = *names; *c; c++) lines += *c == '\n';
  CHECK(**names == 0 || lines == file->classes, ERR_DATA, "%s: /label has %lld classes and %lld names", path,
        (long long)file->classes, (long long)lines);
  return OK;
}

/* Names fix which class a number is; without them the numbers do. */
static int classes_same(const Shards *a, const char *file_a, const char *names, const char *file_b) {
  CHECK(strcmp(a->class_names, names) == 0, ERR_DATA,
        "%s and %s name their classes differently: make one with --label-classes of the other", file_a, file_b);
  return OK;
}

static int file_same(const Shards *s, const ShardFile *file, int64_t length, const char *names) {
  const char *first = h5_path(s->files[0].f), *path = h5_path(file->f);
  Vocab vocab;
  Protocol protocol;
  CHECK(length == s->length, ERR_DATA, "%s has rows of %lld tokens, %s of %lld", path, (long long)length, first,
        (long long)s->length);
  TRY(vocab_load(&vocab, file->f));
  int err = vocab_same(&s->vocab, first, &vocab, path);
  vocab_destroy(&vocab);
  if (err != OK) return err;
  TRY(protocol_load(&protocol, file->f));
  TRY(protocol_same(&s->protocol, first, &protocol, path));
  CHECK((file->classes > 0) == (s->files[0].classes > 0), ERR_DATA, "%s and %s differ: only one of them has /label",
        path, first);
  TRY(classes_same(s, first, names, path));
  return framing_same(s->files[0].f, file->f);
}

/* Rows that are read twice would count twice, in training and in the intervals of evaluations. */
static int rows_new(const Shards *s, const ShardFile *file) {
  for (const ShardFile *other = s->files; other < file; other++)
    CHECK(strcmp(other->digest, file->digest) != 0, ERR_USAGE,
          "%s and %s hold the same rows (digest %s): name one of them", h5_path(other->f), h5_path(file->f),
          file->digest);
  return OK;
}

static int file_add(Shards *s, const char *path) {
  int64_t length = 0;
  if (s->n_files == s->room) {
    int room = 2 * s->room + 4;
    TRY(mem_realloc(&s->files, (size_t)s->room * sizeof *s->files, (size_t)room * sizeof *s->files));
    s->room = room;
  }
  ShardFile *file = &s->files[s->n_files];
  TRY(h5_open(&file->f, path, false));
  s->n_files++; /* from here on shards_close closes it */
  file->first = s->rows;
  TRY(h5_check_format(file->f, "tokenized data as mdlm-prepare makes it", "mdlm-data", FORMAT_VERSION));
  TRY(shapes_check(file->f, &file->rows, &length));
  TRY(h5_get_text(file->f, "/", "digest", file->digest, sizeof file->digest));
  s->rows += file->rows;
  char *names = NULL;
  int err = labels_open(file, &names);
  if (file->classes > s->classes) s->classes = file->classes;
  if (err == OK && s->n_files > 1) err = file_same(s, file, length, names);
  if (err == OK) err = rows_new(s, file);
  if (s->n_files == 1)
    s->class_names = names;
  else
    mem_free(&names);
  if (err || s->n_files > 1) return err;
  s->length = length;
  TRY(vocab_load(&s->vocab, file->f));
  return protocol_load(&s->protocol, file->f);
}

static int matching_add(void *s, const char *path) { return file_add(s, path); }

static int patterns_add(Shards *s) {
  char *copy;
  int err = OK;
  if (access(s->spec, F_OK) == 0) return file_add(s, s->spec); /* a comma may be part of its name */
  TRY(mem_strdup(&copy, s->spec));
  char *list = copy;
  for (char *p; err == OK && (p = files_next(&list, ","));) err = files_matching(p, matching_add, s);
  mem_free(&copy);
  if (err != OK) return err;
  CHECK(s->n_files > 0, ERR_DATA, "no data file is named by \"%s\"", s->spec);
  return OK;
}

static void digest_text(XXH128_hash_t hash, char text[40]) {
  XXH128_canonical_t bytes;
  XXH128_canonicalFromHash(&bytes, hash);
  for (int i = 0; i < 16; i++) snprintf(text + 2 * i, 3, "%02x", bytes.digest[i]);
}

void digest_bytes(char digest[40], const void *bytes, size_t n) { digest_text(XXH3_128bits(bytes, n), digest); }

/* The digest of a single file, or for several files the digest of their digests' text. */
static int digests_combine(Shards *s) {
  XXH3_state_t *state = XXH3_createState();
  CHECK(state, ERR_MEMORY, "out of memory for a checksum");
  XXH3_128bits_reset(state);
  for (int i = 0; i < s->n_files; i++) XXH3_128bits_update(state, s->files[i].digest, strlen(s->files[i].digest));
  if (s->n_files == 1)
    strcpy(s->protocol.digest, s->files[0].digest);
  else
    digest_text(XXH3_128bits_digest(state), s->protocol.digest);
  XXH3_freeState(state);
  return OK;
}

int shards_open(Shards **out, const char *spec) {
  Shards *s;
  int err;
  *out = NULL;
  TRY(mem_alloc(&s, sizeof *s));
  TRY_TO(failed, mem_strdup(&s->spec, spec));
  TRY_TO(failed, patterns_add(s));
  TRY_TO(failed, digests_combine(s));
  *out = s;
  return OK;
failed:
  shards_close(&s);
  return err;
}

void shards_close(Shards **s) {
  if (!*s) return;
  for (int i = 0; i < (*s)->n_files; i++) h5_close(&(*s)->files[i].f);
  vocab_destroy(&(*s)->vocab);
  mem_free(&(*s)->class_names);
  mem_free(&(*s)->files);
  mem_free(&(*s)->spec);
  mem_free(s);
}

int shards_mix(const Shards *a, const Shards *b) {
  const char *path_a = h5_path(a->files[0].f), *path_b = h5_path(b->files[0].f);
  CHECK(a->length == b->length, ERR_DATA, "%s has rows of %lld tokens, %s of %lld", path_b, (long long)b->length,
        path_a, (long long)a->length);
  TRY(vocab_same(&a->vocab, path_a, &b->vocab, path_b));
  CHECK(a->protocol.wrap == b->protocol.wrap, ERR_DATA, "%s and %s differ: wrap %d and %d", path_a, path_b,
        a->protocol.wrap, b->protocol.wrap);
  if (a->classes > 0 && b->classes > 0) TRY(classes_same(a, path_a, b->class_names, path_b));
  return word_same(a->files[0].f, b->files[0].f, "framing");
}

int64_t shards_rows(const Shards *s) { return s->rows; }
int64_t shards_length(const Shards *s) { return s->length; }
const Vocab *shards_vocab(const Shards *s) { return &s->vocab; }
const Protocol *shards_protocol(const Shards *s) { return &s->protocol; }
const char *shards_spec(const Shards *s) { return s->spec; }
int64_t shards_classes(const Shards *s) { return s->classes; }
const char *shards_class_names(const Shards *s) { return s->class_names; }

int shards_suit(const Shards *s, int64_t classes, const char *names, const char *owner) {
  for (int i = 0; i < s->n_files; i++)
    CHECK(s->files[i].classes <= classes, ERR_DATA, "%s has labels of %lld classes, %s has model.classes = %lld",
          h5_path(s->files[i].f), (long long)s->files[i].classes, owner, (long long)classes);
  CHECK(!*s->class_names || !*names || strcmp(s->class_names, names) == 0, ERR_DATA,
        "%s names its classes differently from %s: make it with --label-classes of the data of training", s->spec,
        owner);
  return OK;
}

static int count_add(H5 *f, const char *name, int64_t *sum) {
  int64_t n = -1;
  if (h5_has(f, "/", name)) TRY(h5_get_int(f, "/", name, &n));
  *sum = n < 0 || *sum < 0 ? -1 : *sum + n;
  return OK;
}

static int lengths_add(const ShardFile *file, int32_t *lengths, int64_t *sum) {
  for (int64_t i = 0, n; i < file->rows; i += n) {
    n = file->rows - i < PIECE_ROWS ? file->rows - i : PIECE_ROWS;
    TRY(h5_read_rows(file->f, "/lengths", H5_U32, i, n, lengths));
    for (int64_t k = 0; k < n; k++) *sum += lengths[k];
  }
  return OK;
}

int shards_text(Shards *s, ShardsText *t) {
  int32_t *lengths;
  int err = OK;
  *t = (ShardsText){0};
  TRY(mem_alloc(&lengths, PIECE_ROWS * sizeof *lengths));
  for (int i = 0; i < s->n_files && err == OK; i++) {
    err = count_add(s->files[i].f, "bytes", &t->bytes);
    if (err == OK) err = count_add(s->files[i].f, "words", &t->words);
    if (err == OK) err = lengths_add(&s->files[i], lengths, &t->tokens);
  }
  mem_free(&lengths);
  return err;
}

/* ---- reading ---- */

static ShardFile *file_of(Shards *s, int64_t row) {
  int low = 0, high = s->n_files - 1;
  while (low < high) {
    int middle = (low + high + 1) / 2;
    if (s->files[middle].first <= row)
      low = middle;
    else
      high = middle - 1;
  }
  return &s->files[low];
}

/* Read and check rows first … first+n−1 of one file. Ids are compared as unsigned, to catch 2^31 and above. */
static int run_read(const Shards *s, ShardFile *file, int64_t first, int64_t n, int32_t *tokens, int32_t *lengths) {
  const int64_t L = s->length;
  const char *path = h5_path(file->f);
  TRY(h5_read_rows(file->f, "/tokens", H5_U32, first, n, tokens));
  TRY(h5_read_rows(file->f, "/lengths", H5_U32, first, n, lengths));
  for (int64_t i = 0; i < n; i++)
    CHECK(lengths[i] >= 1 && lengths[i] <= L, ERR_DATA, "%s: row %lld has length %u, 1 to %lld was expected", path,
          (long long)(first + i), (unsigned)lengths[i], (long long)L);
  for (int64_t i = 0; i < n * L; i++)
    CHECK((uint32_t)tokens[i] < (uint32_t)s->vocab.size, ERR_DATA,
          "%s: row %lld, position %lld holds token %u, the vocabulary has %lld tokens", path,
          (long long)(first + i / L), (long long)(i % L), (unsigned)tokens[i], (long long)s->vocab.size);
  for (int64_t i = 0; i < n * L; i++)
    CHECK(tokens[i] != s->vocab.mask || i % L >= lengths[i / L], ERR_DATA,
          "%s: row %lld, position %lld holds the mask token, which data must not", path, (long long)(first + i / L),
          (long long)(i % L));
  return OK;
}

/* Labels of rows first … first+n−1 of one file. */
static int run_labels(ShardFile *file, int64_t first, int64_t n, int32_t *labels) {
  for (int64_t i = 0; i < n; i++) labels[i] = -1;
  if (file->classes == 0) return OK;
  TRY(h5_read_rows(file->f, "/label", H5_I32, first, n, labels));
  for (int64_t i = 0; i < n; i++)
    CHECK(labels[i] >= -1 && labels[i] < file->classes, ERR_DATA,
          "%s: row %lld has label %d, the file has %lld classes (-1: unknown)", h5_path(file->f),
          (long long)(first + i), labels[i], (long long)file->classes);
  return OK;
}

/* The file of row rows[0], and how many of the n rows are next to each other in it. */
static int run_of(Shards *s, const int64_t *rows, int64_t n, ShardFile **file, int64_t *run) {
  CHECK(rows[0] >= 0 && rows[0] < s->rows, ERR_DATA, "%s: row %lld does not exist, there are %lld", s->spec,
        (long long)rows[0], (long long)s->rows);
  *file = file_of(s, rows[0]);
  for (*run = 1; *run < n && rows[*run] == rows[0] + *run && rows[*run] < (*file)->first + (*file)->rows;) ++*run;
  return OK;
}

static int rows_read(Shards *s, const int64_t *rows, int64_t n, int32_t *tokens, int32_t *lengths) {
  ShardFile *file;
  s->reads++;
  for (int64_t i = 0, run; i < n; i += run) {
    TRY(run_of(s, rows + i, n - i, &file, &run));
    file->read = s->reads;
    TRY(run_read(s, file, rows[i] - file->first, run, tokens + i * s->length, lengths + i));
  }
  return OK;
}

int shards_labels(Shards *s, const int64_t *rows, int64_t n, int32_t *labels) {
  ShardFile *file;
  for (int64_t i = 0, run; i < n; i += run) {
    TRY(run_of(s, rows + i, n - i, &file, &run));
    TRY(run_labels(file, rows[i] - file->first, run, labels + i));
  }
  return OK;
}

/* The files are looked at after the read: what changes later was not read. A change also explains why rows are damaged.
 */
int shards_read(Shards *s, const int64_t *rows, int64_t n, int32_t *tokens, int32_t *lengths) {
  int err = rows_read(s, rows, n, tokens, lengths);
  for (int i = 0; i < s->n_files; i++)
    if (s->files[i].read == s->reads) TRY(h5_unchanged(s->files[i].f));
  return err;
}

/* ---- verifying ---- */

typedef struct Verify {
  XXH3_state_t *state;
  int64_t rows;              /* at a time */
  int32_t *tokens, *lengths; /* [rows,L], [rows] */
  void (*done)(void *arg, int64_t rows);
  void *arg;
} Verify;

static int file_verify(const Shards *s, ShardFile *file, const Verify *v) {
  char digest[40];
  XXH3_128bits_reset(v->state);
  for (int64_t i = 0, n; i < file->rows; i += n) {
    n = file->rows - i < v->rows ? file->rows - i : v->rows;
    TRY(run_read(s, file, i, n, v->tokens, v->lengths));
    XXH3_128bits_update(v->state, v->tokens, (size_t)(n * s->length) * sizeof *v->tokens);
    if (v->done) v->done(v->arg, file->first + i + n);
  }
  for (int64_t i = 0, n; i < file->rows; i += n) {
    n = file->rows - i < v->rows ? file->rows - i : v->rows;
    TRY(h5_read_rows(file->f, "/lengths", H5_U32, i, n, v->lengths));
    XXH3_128bits_update(v->state, v->lengths, (size_t)n * sizeof *v->lengths);
  }
  for (int64_t i = 0, n; i < file->rows && file->classes > 0; i += n) {
    n = file->rows - i < v->rows ? file->rows - i : v->rows;
    TRY(run_labels(file, i, n, v->lengths));
    XXH3_128bits_update(v->state, v->lengths, (size_t)n * sizeof *v->lengths);
  }
  digest_text(XXH3_128bits_digest(v->state), digest);
  CHECK(strcmp(digest, file->digest) == 0, ERR_DATA,
        "%s is damaged or was changed: its digest is %s, that of its rows %s", h5_path(file->f), file->digest, digest);
  return OK;
}

/* Whether its digest may be wrong for all that has been checked, and is checked soon. */
static bool is_doubtful(const ShardFile *file) { return !h5_sealed(file->f); }
static bool is_small(const Shards *s, const ShardFile *file) { return file->rows <= TRUST_TOKENS / s->length; }

static int files_verify(Shards *s, bool all, void (*done)(void *arg, int64_t rows), void *arg) {
  Verify v = {.done = done, .arg = arg};
  int err = OK;
  v.rows = s->length > VERIFY_TOKENS ? 1 : VERIFY_TOKENS / s->length;
  TRY_TO(done, mem_alloc(&v.tokens, (size_t)(v.rows * s->length) * sizeof *v.tokens));
  TRY_TO(done, mem_alloc(&v.lengths, (size_t)v.rows * sizeof *v.lengths));
  v.state = XXH3_createState();
  if (!v.state) err = RAISE(ERR_MEMORY, "out of memory for a checksum");
  for (int i = 0; i < s->n_files && err == OK; i++)
    if (all || (is_doubtful(&s->files[i]) && is_small(s, &s->files[i]))) err = file_verify(s, &s->files[i], &v);
done:
  XXH3_freeState(v.state);
  mem_free(&v.tokens);
  mem_free(&v.lengths);
  return err;
}

int shards_verify(Shards *s, void (*done)(void *arg, int64_t rows), void *arg) {
  return files_verify(s, true, done, arg);
}

int shards_trust(Shards *s) {
  TRY(files_verify(s, false, NULL, NULL));
  for (int i = 0; i < s->n_files; i++)
    if (is_doubtful(&s->files[i]) && !is_small(s, &s->files[i]))
      log_warn("%s has no seal, and is too large to verify its digest now: mdlm info does", h5_path(s->files[i].f));
  return OK;
}
