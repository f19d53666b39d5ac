#include "store/checkpoint.h"
#include "base/err.h"
#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

enum { NAME_SIZE = CHECKPOINT_NAME, PIECE_ROWS = 1024, LONGEST = 1 << 24 };
static const int64_t MOST = INT64_C(1) << 60; /* of what is counted */

void checkpoint_state_destroy(CheckpointState *state) {
  if (!state) return;
  mem_free(&state->deck);
  mem_free(&state->class_names);
  vocab_destroy(&state->vocab);
  memset(state, 0, sizeof *state);
}

int checkpoint_open(H5 **f, const char *path) {
  TRY(h5_open(f, path, false));
  int err = h5_check_format(*f, "a checkpoint", CHECKPOINT_FORMAT, CHECKPOINT_VERSION);
  if (err != OK) h5_close(f);
  return err;
}

/* ---- the digest of the weights ---- */

static int group_digest(H5 *f, const char *group, XXH3_state_t *state) {
  char path[NAME_SIZE], sum[CHECKPOINT_SUM + 1], **names;
  int err = OK;
  snprintf(path, sizeof path, "/%s", group);
  if (!h5_exists(f, path)) return OK;
  TRY(h5_list(f, path, &names));
  for (char **p = names; *p && err == OK; p++) {
    TRY_TO(done, checkpoint_array_name(path, group, *p));
    TRY_TO(done, h5_get_text(f, path, "xxh3", sum, sizeof sum));
    XXH3_128bits_update(state, path, strlen(path) + 1); /* the NUL separates the strings */
    XXH3_128bits_update(state, sum, strlen(sum) + 1);
  }
done:
  h5_list_free(&names);
  return err;
}

int checkpoint_digest(H5 *f, char digest[33]) {
  XXH3_state_t *state = XXH3_createState();
  int err = OK;
  CHECK(state, ERR_MEMORY, "out of memory for a checksum");
  XXH3_128bits_reset(state);
  for (int g = CKPT_PARAMS; g <= CKPT_EMA && err == OK; g++) err = group_digest(f, checkpoint_groups[g], state);
  XXH128_hash_t sum = XXH3_128bits_digest(state);
  XXH3_freeState(state);
  snprintf(digest, 33, "%016llx%016llx", (unsigned long long)sum.high64, (unsigned long long)sum.low64);
  return err;
}

/* ---- reading the state ---- */

static int numbers_read(H5 *f, CheckpointState *s) {
  TRY(h5_get_within(f, "/", "step", 0, MOST, &s->step));
  s->sequences = -1;
  if (h5_has(f, "/", "sequences")) TRY(h5_get_within(f, "/", "sequences", -1, MOST, &s->sequences));
  TRY(h5_get_within(f, "/", "tokens", 0, MOST, &s->tokens));
  TRY(h5_get_within(f, "/", "masked_tokens", 0, s->tokens, &s->masked_tokens));
  TRY(h5_get_within(f, "/", "length", 1, LONGEST, &s->length));
  return h5_get_int(f, "/", "seed", &s->seed);
}

static int set_read(H5 *f, const CheckpointState *s, const char *name, MixtureSet *set) {
  char path[CHECKPOINT_NAME];
  CHECK(snprintf(set->name, sizeof set->name, "%s", name) < MIXTURE_NAME, ERR_DATA,
        "%s: the name /mixture/%s has more than %d letters", h5_path(f), name, MIXTURE_NAME - 1);
  snprintf(path, sizeof path, "/mixture/%s", name);
  TRY(h5_get_text(f, path, "digest", set->digest, sizeof set->digest));
  TRY(h5_get_within(f, path, "rows", 1, MOST, &set->rows));
  TRY(h5_get_within(f, path, "share", 1, MOST, &set->share));
  TRY(h5_get_within(f, path, "drawn", 0, s->sequences, &set->drawn));
  return h5_get_within(f, path, "first", 0, set->drawn, &set->first);
}

static int sets_read(H5 *f, CheckpointState *s, char *const *names) {
  MixtureState *m = &s->mixture;
  int64_t drawn = 0;
  for (; *names; names++) {
    CHECK(m->n < MIXTURE_SETS, ERR_DATA, "%s: /mixture has more than %d sets", h5_path(f), MIXTURE_SETS);
    MixtureSet *set = &m->sets[m->n++];
    TRY(set_read(f, s, *names, set));
    drawn += set->drawn - set->first;
  }
  CHECK(m->n > 0 && drawn == s->sequences - m->start, ERR_DATA,
        "%s: the sets of /mixture do not add up: %lld sequences drawn of %lld", h5_path(f), (long long)drawn,
        (long long)(s->sequences - m->start));
  return OK;
}

static int mixture_load(H5 *f, CheckpointState *s) {
  char **names;
  s->mixture.n = 0;
  if (!h5_exists(f, "/mixture")) return OK;
  CHECK(s->sequences >= 0, ERR_DATA, "%s: attribute sequences of / is missing", h5_path(f));
  TRY(h5_get_within(f, "/mixture", "start", 0, s->sequences, &s->mixture.start));
  TRY(h5_list(f, "/mixture", &names));
  int err = sets_read(f, s, names);
  h5_list_free(&names);
  return err;
}

/* Rows of running text have no padding, except the last of the data. A wrong length would not show anywhere else: the
 * weights do not depend on it, and samples would take forever. */
static int length_check(H5 *f, const CheckpointState *s) {
  const double ODD = 64;
  double mean = s->sequences > 0 ? (double)s->tokens / (double)s->sequences : (double)s->length;
  CHECK(!s->protocol.wrap || mean * ODD >= (double)s->length, ERR_DATA,
        "%s: attribute length of / is %lld, but the sequences that were trained on had %.1f tokens", h5_path(f),
        (long long)s->length, mean);
  return OK;
}

static int state_read(H5 *f, CheckpointState *s) {
  TRY(numbers_read(f, s));
  TRY(h5_get_str(f, "/", "deck", &s->deck));
  if (h5_has(f, "/", "class_names")) TRY(h5_get_str(f, "/", "class_names", &s->class_names));
  TRY(h5_get_text(f, "/", "git", s->git, sizeof s->git));
  TRY(h5_get_text(f, "/", "data_digest", s->data_digest, sizeof s->data_digest));
  TRY(h5_get_real(f, "/", "valid_nll", &s->valid_nll));
  if (h5_has(f, "/", "init_digest")) TRY(h5_get_text(f, "/", "init_digest", s->init_digest, sizeof s->init_digest));
  for (int i = 0; i < CKPT_TRACES; i++)
    if (h5_has(f, "/", checkpoint_sigma_names[i]))
      TRY(h5_get_real(f, "/", checkpoint_sigma_names[i], &s->trace_sigma[i]));
  TRY(checkpoint_digest(f, s->weights_digest));
  TRY(protocol_load(&s->protocol, f));
  TRY(length_check(f, s));
  TRY(mixture_load(f, s));
  strcpy(s->protocol.digest, s->data_digest);
  TRY(vocab_load(&s->vocab, f));
  TRY(checkpoint_sum_check(f, "/vocab/bytes", checkpoint_sum(s->vocab.bytes, (size_t)s->vocab.n_bytes)));
  return checkpoint_sum_check(f, "/vocab/offsets", checkpoint_sum_offsets(&s->vocab));
}

int checkpoint_state(H5 *f, CheckpointState *state) {
  memset(state, 0, sizeof *state);
  int err = state_read(f, state);
  if (err != OK) checkpoint_state_destroy(state);
  return err;
}

int checkpoint_read(const char *path, CheckpointState *state) {
  H5 *f;
  memset(state, 0, sizeof *state);
  TRY(checkpoint_open(&f, path));
  int err = checkpoint_state(f, state);
  h5_close(&f);
  return err;
}

/* ---- reading arrays ---- */

static int array_load(H5 *f, const char *group, const CheckpointArray *a) {
  char name[NAME_SIZE], have[96], want[96];
  H5Info info;
  TRY(checkpoint_array_name(name, group, a->name));
  CHECK(h5_exists(f, name), ERR_DATA, "%s: %s is missing: the checkpoint belongs to another model", h5_path(f), name);
  TRY(h5_info(f, name, &info));
  CHECK(info.type == H5_F32, ERR_DATA, "%s: %s is not float32", h5_path(f), name);
  CHECK(info.rank == a->rank && memcmp(info.dims, a->dims, (size_t)a->rank * sizeof *a->dims) == 0, ERR_DATA,
        "%s: %s is %s in the file, %s in the model", h5_path(f), name, h5_dims_text(have, info.rank, info.dims),
        h5_dims_text(want, a->rank, a->dims));
  TRY(h5_read(f, name, H5_F32, a->rank, a->dims, a->data));
  return checkpoint_sum_check(f, name, checkpoint_sum(a->data, checkpoint_array_bytes(a->rank, a->dims)));
}

int checkpoint_array(H5 *f, CheckpointGroup group, const CheckpointArray *a) {
  return array_load(f, checkpoint_groups[group], a);
}

int checkpoint_shape(H5 *f, CheckpointGroup group, CheckpointArray *a, bool *exists) {
  char name[NAME_SIZE];
  H5Info info;
  TRY(checkpoint_array_name(name, checkpoint_groups[group], a->name));
  *exists = h5_exists(f, name);
  if (!*exists) return OK;
  TRY(h5_info(f, name, &info));
  a->rank = info.rank;
  memcpy(a->dims, info.dims, sizeof a->dims);
  return OK;
}

static int group_check(H5 *f, CheckpointGroup g, const char *path) {
  CHECK(h5_exists(f, path), ERR_DATA, "%s: the group %s is missing%s", h5_path(f), path,
        g > CKPT_EMA
            ? ": a file of weights alone, such as mdlm mix and mdlm-convert write, cannot be resumed; name it in "
              "run.init of a new run"
            : "");
  return OK;
}

int checkpoint_names(H5 *f, CheckpointGroup group, char ***names) {
  char path[CHECKPOINT_NAME];
  snprintf(path, sizeof path, "/%s", checkpoint_groups[group]);
  TRY(group_check(f, group, path));
  return h5_list(f, path, names);
}

/* A parameter that the model does not have shows, like a missing one, that the checkpoint belongs to another model. */
static int surplus_check(H5 *f, const char *group, char *const *names, const CheckpointArray *arrays, int n) {
  for (; *names; names++) {
    int i = 0;
    while (i < n && strcmp(arrays[i].name, *names) != 0) i++;
    CHECK(i < n, ERR_DATA, "%s: /%s/%s is not in the model: the checkpoint belongs to another model", h5_path(f), group,
          *names);
  }
  return OK;
}

int checkpoint_load(H5 *f, CheckpointGroup g, CheckpointArray *arrays, int n) {
  const char *group = checkpoint_groups[g];
  char path[NAME_SIZE], **names;
  snprintf(path, sizeof path, "/%s", group);
  TRY(group_check(f, g, path));
  for (int i = 0; i < n; i++) TRY(array_load(f, group, &arrays[i]));
  TRY(h5_list(f, path, &names));
  int err = surplus_check(f, group, names, arrays, n);
  h5_list_free(&names);
  return err;
}

/* ---- reading metrics ---- */

/* Column c of the table from its series, NaN where the file has none. */
static int series_load(H5 *f, MetricsTable *t, int c) {
  char name[NAME_SIZE];
  double piece[PIECE_ROWS];
  H5Info info;
  snprintf(name, sizeof name, "/metrics/%s/%s", t->group, t->columns[c].name);
  bool there = h5_exists(f, name);
  if (there) {
    TRY(h5_info(f, name, &info));
    CHECK(info.rank == 1 && info.dims[0] == t->n_rows, ERR_DATA, "%s: %s has %lld rows, its table has %lld", h5_path(f),
          name, (long long)info.dims[0], (long long)t->n_rows);
  }
  for (int64_t i = 0, n; i < t->n_rows; i += n) {
    n = t->n_rows - i < PIECE_ROWS ? t->n_rows - i : PIECE_ROWS;
    if (there) TRY(h5_read_rows(f, name, H5_F64, i, n, piece));
    for (int64_t k = 0; k < n; k++) t->rows[(i + k) * t->n_columns + c] = there ? piece[k] : NAN;
  }
  return OK;
}

static int table_load(H5 *f, MetricsTable *t) {
  char name[NAME_SIZE];
  H5Info info;
  const size_t row_size = (size_t)t->n_columns * sizeof *t->rows;
  t->n_rows = t->written = 0;
  snprintf(name, sizeof name, "/metrics/%s/%s", t->group, t->columns[0].name);
  if (!h5_exists(f, name)) return OK; /* this checkpoint does not have the table */
  TRY(h5_info(f, name, &info));
  CHECK(info.rank == 1, ERR_DATA, "%s: %s is not a series", h5_path(f), name);
  if (info.dims[0] > t->capacity) {
    TRY(mem_realloc(&t->rows, (size_t)t->capacity * row_size, (size_t)info.dims[0] * row_size));
    t->capacity = info.dims[0];
  }
  t->n_rows = info.dims[0];
  for (int c = 0; c < t->n_columns; c++) TRY(series_load(f, t, c));
  return OK;
}

int checkpoint_metrics(H5 *f, MetricsTable *const *tables, int n_tables) {
  for (int i = 0; i < n_tables; i++) TRY(table_load(f, tables[i]));
  return OK;
}

/* ---- verifying ---- */

static int array_verify(H5 *f, const char *name) {
  H5Info info;
  float *data;
  TRY(h5_info(f, name, &info));
  CHECK(info.type == H5_F32, ERR_DATA, "%s: %s is not float32", h5_path(f), name);
  size_t bytes = checkpoint_array_bytes(info.rank, info.dims);
  TRY(mem_alloc(&data, bytes));
  int err = h5_read(f, name, H5_F32, info.rank, info.dims, data);
  if (err == OK) err = checkpoint_sum_check(f, name, checkpoint_sum(data, bytes));
  mem_free(&data);
  return err;
}

/* Metrics carry HDF5's own checksums, so reading them verifies them. */
static int series_verify(H5 *f, const char *name) {
  double piece[PIECE_ROWS];
  H5Info info;
  TRY(h5_info(f, name, &info));
  CHECK(info.rank == 1, ERR_DATA, "%s: %s is not a series", h5_path(f), name);
  for (int64_t i = 0, n; i < info.dims[0]; i += n) {
    n = info.dims[0] - i < PIECE_ROWS ? info.dims[0] - i : PIECE_ROWS;
    TRY(h5_read_rows(f, name, H5_F64, i, n, piece));
  }
  return OK;
}

/* Call `verify` on every child of the group. */
static int children_verify(H5 *f, const char *group, int (*verify)(H5 *f, const char *name)) {
  char name[NAME_SIZE], **names;
  int err = OK;
  TRY(h5_list(f, group, &names));
  for (char **p = names; *p && err == OK; p++) {
    int n = snprintf(name, sizeof name, "%s/%s", group, *p);
    err = n < NAME_SIZE ? verify(f, name) : RAISE(ERR_DATA, "%s: a name in %s is too long", h5_path(f), group);
  }
  h5_list_free(&names);
  return err;
}

static int table_verify(H5 *f, const char *name) { return children_verify(f, name, series_verify); }

static int all_verify(H5 *f, CheckpointState *state) {
  char name[NAME_SIZE];
  TRY(state_read(f, state));
  for (int g = 0; g < CKPT_GROUPS; g++) {
    snprintf(name, sizeof name, "/%s", checkpoint_groups[g]);
    if (h5_exists(f, name)) TRY(children_verify(f, name, array_verify));
  }
  return h5_exists(f, "/metrics") ? children_verify(f, "/metrics", table_verify) : OK;
}

int checkpoint_verify(const char *path) {
  H5 *f;
  CheckpointState state = {0};
  TRY(checkpoint_open(&f, path));
  int err = all_verify(f, &state);
  h5_close(&f);
  checkpoint_state_destroy(&state);
  return err;
}
