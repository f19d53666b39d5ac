#include "network/mix.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/version.h"
#include "network/match.h"
#include "store/ancestry.h"
#include "store/draft.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct Part {
  MixPart given;
  H5 *f;
  bool shared; /* f belongs to the part before, which is of the same file */
  CheckpointState state;
} Part;

static int part_open(Part *p, const Part *before) {
  p->shared = before && strcmp(before->given.path, p->given.path) == 0;
  if (p->shared) {
    p->f = before->f;
  } else {
    TRY(checkpoint_open(&p->f, p->given.path));
  }
  return checkpoint_state(p->f, &p->state);
}

static void part_close(Part *p) {
  if (!p->shared) h5_close(&p->f);
  checkpoint_state_destroy(&p->state);
}

/* ---- whether they can be mixed */

/* network_match leaves this key out, since eval may set another value than training. */
static int blocks_fit(const Config *one, const Part *a, const Config *other, const Part *b) {
  CHECK(one->diffusion_block == other->diffusion_block, ERR_USAGE,
        "%s was trained with diffusion.block = %lld, %s with %lld", a->given.path, (long long)one->diffusion_block,
        b->given.path, (long long)other->diffusion_block);
  return OK;
}

static int decks_fit(const Part *a, const Part *b) {
  Config one = {0}, other = {0};
  char message[1024];
  int err = network_deck(&one, a->state.deck, a->given.path);
  if (err == OK) err = network_deck(&other, b->state.deck, b->given.path);
  if (err == OK) {
    err = network_match(&one, &other, b->given.path);
    snprintf(message, sizeof message, "%s", err_message());
    if (err != OK) err = RAISE(err, "%s (that of %s)", message, a->given.path);
  }
  if (err == OK) err = blocks_fit(&one, a, &other, b);
  config_free(&one);
  config_free(&other);
  return err;
}

/* Whether b has the array of a. */
static int array_fits(const Part *a, const Part *b, const char *name) {
  CheckpointArray x = {.name = name}, y = {.name = name};
  char have[96], want[96];
  bool exists;
  TRY(checkpoint_shape(a->f, a->given.group, &x, &exists));
  TRY(checkpoint_shape(b->f, b->given.group, &y, &exists));
  CHECK(exists, ERR_DATA, "%s has no parameter %s, which %s has", b->given.path, name, a->given.path);
  CHECK(x.rank == y.rank && memcmp(x.dims, y.dims, (size_t)x.rank * sizeof *x.dims) == 0, ERR_DATA,
        "%s is %s in %s and %s in %s", name, h5_dims_text(have, x.rank, x.dims), a->given.path,
        h5_dims_text(want, y.rank, y.dims), b->given.path);
  return OK;
}

static int arrays_fit(const Part *a, const Part *b, char *const *names) {
  char **there;
  int err = OK;
  TRY(checkpoint_names(b->f, b->given.group, &there));
  for (; *names && err == OK; names++) err = array_fits(a, b, *names);
  for (char **name = there; *name && err == OK; name++) err = array_fits(b, a, *name);
  h5_list_free(&there);
  return err;
}

static int fits(const Part *a, const Part *b, char *const *names) {
  if (b->shared && a->given.group == b->given.group) return OK;
  TRY(vocab_same(&a->state.vocab, a->given.path, &b->state.vocab, b->given.path));
  CHECK(a->state.length == b->state.length, ERR_DATA, "%s was trained on rows of %lld tokens, %s of %lld",
        a->given.path, (long long)a->state.length, b->given.path, (long long)b->state.length);
  TRY(decks_fit(a, b));
  return arrays_fit(a, b, names);
}

/* ---- the sum */

/* A weight of 0 leaves a part out, and the first term is not added to 0: so 1·a + 0·b has the bits of a. */
static int sum_parts(const Part *parts, int n, CheckpointArray *a, int64_t count, double *sum) {
  bool first = true;
  for (int i = 0; i < n; i++) {
    double w = parts[i].given.weight;
    if (w == 0) continue;
    TRY(checkpoint_array(parts[i].f, parts[i].given.group, a));
    for (int64_t k = 0; k < count; k++) sum[k] = first ? w * (double)a->data[k] : sum[k] + w * (double)a->data[k];
    first = false;
  }
  for (int64_t k = 0; k < count; k++) {
    a->data[k] = (float)sum[k];
    CHECK(isfinite(a->data[k]), ERR_NUMERIC, "the sum of the weights has a NaN or infinity in %s", a->name);
  }
  return OK;
}

typedef struct
    Room { /* for the largest parameter; allocated once, since freed memory of many sizes is not used again */
  size_t count;
  double *sum;
  float *data;
} Room;

static int array_shape(const Part *parts, CheckpointArray *a, size_t *count) {
  bool exists;
  TRY(checkpoint_shape(parts->f, parts->given.group, a, &exists));
  *count = checkpoint_array_bytes(a->rank, a->dims) / sizeof *a->data;
  return OK;
}

static int room_create(Room *r, const Part *parts, char *const *names) {
  size_t count = 0;
  *r = (Room){0};
  for (; *names; names++) {
    CheckpointArray a = {.name = *names};
    TRY(array_shape(parts, &a, &count));
    if (count > r->count) r->count = count;
  }
  TRY(mem_alloc(&r->sum, r->count * sizeof *r->sum));
  return mem_alloc(&r->data, r->count * sizeof *r->data);
}

static void room_destroy(Room *r) {
  mem_free(&r->sum);
  mem_free(&r->data);
}

static int mix_array(const Part *parts, int n, const char *name, const Room *r, H5 *out) {
  CheckpointArray a = {.name = name, .data = r->data};
  size_t count = 0;
  TRY(array_shape(parts, &a, &count));
  TRY(sum_parts(parts, n, &a, (int64_t)count, r->sum));
  return checkpoint_put(out, CKPT_PARAMS, &a);
}

/* ---- the file */

static int ancestry_write(H5 *out, const Part *parts, int n) {
  Parent *list;
  TRY(mem_alloc(&list, (size_t)n * sizeof *list));
  for (int i = 0; i < n; i++) {
    Parent *p = &list[i];
    p->step = parts[i].state.step;
    p->weight = parts[i].given.weight;
    snprintf(p->path, sizeof p->path, "%s", parts[i].given.path);
    snprintf(p->digest, sizeof p->digest, "%s", parts[i].state.weights_digest);
    snprintf(p->weights, sizeof p->weights, "%s", checkpoint_groups[parts[i].given.group]);
  }
  int err = ancestry_store(out, list, n);
  mem_free(&list);
  return err;
}

static int all_write(const Part *parts, int n, char *const *names, const char *path, const CheckpointState *state) {
  H5 *out = NULL;
  Room room;
  int err = room_create(&room, parts, names);
  if (err == OK) err = checkpoint_begin(&out, path, state);
  for (; *names && err == OK; names++) err = mix_array(parts, n, *names, &room, out);
  if (err == OK) err = checkpoint_link(out, CKPT_EMA, CKPT_PARAMS);
  if (err == OK) err = ancestry_write(out, parts, n);
  room_destroy(&room);
  return draft_publish(&out, err, path);
}

static int mix(Part *parts, int n, const char *path, int64_t *step) {
  char **names;
  int newest = 0;
  for (int i = 0; i < n; i++) {
    TRY(part_open(&parts[i], i ? &parts[i - 1] : NULL));
    if (parts[i].state.step > parts[newest].state.step) newest = i;
  }
  TRY(checkpoint_names(parts->f, parts->given.group, &names));
  int err = OK;
  for (int i = 1; i < n && err == OK; i++) err = fits(&parts[0], &parts[i], names);
  CheckpointState state = parts[newest].state;
  state.valid_nll = NAN; /* of the mixture it is not known */
  memset(state.trace_sigma, 0, sizeof state.trace_sigma);
  *step = state.step;
  snprintf(state.git, sizeof state.git, "%s", version_git());
  if (err == OK) err = all_write(parts, n, names, path, &state);
  h5_list_free(&names);
  return err;
}

int mix_write(const char *out, const MixPart *given, int n, int64_t *step) {
  Part *parts;
  TRY(mem_alloc(&parts, (size_t)n * sizeof *parts));
  for (int i = 0; i < n; i++) parts[i].given = given[i];
  int err = mix(parts, n, out, step);
  for (int i = n - 1; i >= 0; i--) part_close(&parts[i]);
  mem_free(&parts);
  return err;
}
