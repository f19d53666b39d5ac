#include "train/init.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "network/flat.h"
#include "store/checkpoint.h"
#include "store/vocab_map.h"
#include <stdio.h>
#include <string.h>

typedef enum Origin { TAKEN, NEW, OTHER_SHAPE } Origin;

typedef struct Source { /* rank 0 */
  H5 *f;
  CheckpointGroup group;
  CheckpointState state;
  int32_t *map;  /* [V] the file's token for each of ours, −1: none */
  int64_t known; /* tokens that the file has */
  Origin *origin;
} Source;

static int source_open(Source *s, const Params *p, const Config *cfg, const Vocab *vocab) {
  s->group = strcmp(cfg->run_init_weights, "live") == 0 ? CKPT_PARAMS : CKPT_EMA;
  TRY(checkpoint_open(&s->f, cfg->run_init));
  TRY(checkpoint_state(s->f, &s->state));
  TRY(mem_alloc(&s->map, (size_t)vocab->size * sizeof *s->map));
  TRY(mem_alloc(&s->origin, (size_t)p->n * sizeof *s->origin));
  return vocab_map(&s->state.vocab, vocab, s->map, &s->known);
}

static void source_close(Source *s) {
  h5_close(&s->f);
  checkpoint_state_destroy(&s->state);
  mem_free(&s->map);
  mem_free(&s->origin);
}

/* Rows of tokens: those that the file does not have stay as they are. */
static int take_rows(const Source *s, const CheckpointArray *there, const Param *p, float *to) {
  CheckpointArray all = *there;
  size_t width = (size_t)(p->count / p->dims[0]);
  TRY(mem_alloc(&all.data, (size_t)there->dims[0] * width * sizeof *all.data));
  int err = checkpoint_array(s->f, s->group, &all);
  for (int64_t i = 0; i < p->dims[0] && err == OK; i++)
    if (s->map[i] >= 0) memcpy(to + (size_t)i * width, all.data + (size_t)s->map[i] * width, width * sizeof *to);
  mem_free(&all.data);
  return err;
}

static int take(const Source *s, const Param *p, float *to, Origin *origin) {
  CheckpointArray there = {.name = p->name, .data = to};
  bool exists;
  *origin = NEW;
  TRY(checkpoint_shape(s->f, s->group, &there, &exists));
  if (!exists) return OK;
  int first = p->tokens ? 1 : 0; /* the first dimension that must agree */
  bool same = there.rank == p->rank && (!p->tokens || there.dims[0] == s->state.vocab.size);
  for (int i = first; i < p->rank && same; i++) same = there.dims[i] == p->dims[i];
  *origin = same ? TAKEN : OTHER_SHAPE;
  if (!same) return OK;
  return p->tokens ? take_rows(s, &there, p, to) : checkpoint_array(s->f, s->group, &there);
}

/* Every third part of a modulation's bias opens a branch (Param.gate). */
static void open_branches(const Source *s, const Params *p, float *data) {
  for (int i = 0; i < p->n; i++)
    if (p->list[i].gate && s->origin[i] != NEW) return; /* the file has modulations of its own */
  for (int i = 0; i < p->n; i++) {
    const Param *bias = &p->list[i];
    for (int64_t k = 2 * bias->gate; bias->gate && k < bias->count; k++)
      if (k / bias->gate % 3 == 2) data[bias->offset + k] = 1;
  }
}

/* New parameters that would disturb the weights of the file. */
static void silence_extras(const Source *s, const Params *p, float *data) {
  for (int i = 0; i < p->n; i++)
    if (p->list[i].extra && s->origin[i] != TAKEN)
      memset(data + p->list[i].offset, 0, (size_t)p->list[i].count * sizeof *data);
}

/* ---- what is told */
static void tell(const Source *s, const Params *p, Origin origin, const char *what) {
  char text[400] = "";
  size_t used = 0;
  int n = 0, named = 0;
  for (int i = 0; i < p->n; i++) {
    if (s->origin[i] != origin) continue;
    n++;
    if (used + strlen(p->list[i].name) + 3 > sizeof text) continue;
    used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", named++ ? ", " : "", p->list[i].name);
  }
  if (n > named) log_info("       %s: %s and %d more", what, text, n - named);
  if (n > 0 && n == named) log_info("       %s: %s", what, text);
}

static int tell_unused(const Source *s, Params *p) {
  char **names, text[400] = "";
  size_t used = 0;
  TRY(checkpoint_names(s->f, s->group, &names));
  for (char **name = names; *name; name++)
    if (!params_find(p, *name) && used + strlen(*name) + 3 < sizeof text)
      used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? ", " : "", *name);
  if (used > 0) log_info("       in the file and not used: %s", text);
  h5_list_free(&names);
  return OK;
}

static int tell_all(const Source *s, Params *p, const Config *cfg, const Vocab *vocab) {
  int taken = 0, matrices = 0;
  for (int i = 0; i < p->n; i++) taken += s->origin[i] == TAKEN;
  for (int i = 0; i < p->n; i++) matrices += s->origin[i] == TAKEN && p->list[i].matrix && !p->list[i].tokens;
  CHECK(matrices > 0, ERR_USAGE,
        "run.init = %s: no matrix of its layers has the name and shape of one of this network; give model.name, "
        "model.width and model.blocks as in `mdlm info --deck %s`",
        cfg->run_init, cfg->run_init);
  log_info("init   %s (%s weights, step %lld): %d of %d tensors, %lld of %lld tokens", cfg->run_init,
           cfg->run_init_weights, (long long)s->state.step, taken, p->n, (long long)s->known, (long long)vocab->size);
  tell(s, p, NEW, "new");
  tell(s, p, OTHER_SHAPE, "new, of another shape than in the file");
  return tell_unused(s, p);
}

/* ---- the whole */
static int read_all(Flat *f, Params *p, const Config *cfg, const Vocab *vocab, char digest[33]) {
  Source s = {0};
  int err = source_open(&s, p, cfg, vocab);
  for (int i = 0; i < p->n && err == OK; i++) err = take(&s, &p->list[i], f->arrays[i].data, &s.origin[i]);
  if (err == OK) err = tell_all(&s, p, cfg, vocab);
  if (err == OK) open_branches(&s, p, f->data);
  if (err == OK) silence_extras(&s, p, f->data);
  if (err == OK) memcpy(digest, s.state.weights_digest, 33);
  source_close(&s);
  return err;
}

static int share(Flat *f, Params *p, const Config *cfg, const Vocab *vocab, Comm *comm, char digest[33]) {
  int err = flat_create(f, p, p->value, false);
  if (err == OK && f->owned) err = flat_fill(f, p, p->value);
  if (err == OK && comm->rank == 0) err = read_all(f, p, cfg, vocab, digest);
  TRY(comm_agree(comm, err));
  TRY(comm_broadcast(comm, f->data, (size_t)p->count * sizeof *f->data, 0));
  TRY(comm_broadcast(comm, digest, 33, 0));
  err = flat_use(f, p, p->value);
  return comm_agree(comm, err ? err : params_bind(p, p->value));
}

int init_weights(Params *p, const Config *cfg, const Vocab *vocab, Comm *comm, char digest[33]) {
  Flat f = {0};
  int err = share(&f, p, cfg, vocab, comm, digest);
  flat_destroy(&f);
  return err;
}
