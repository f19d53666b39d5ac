#include "cmd/sweep_cells.h"
#include "base/err.h"
#include "base/keys.def"
#include "base/mem.h"
#include "base/menu.h"
#include "diffusion/objective.h"
#include "network/match.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { MOST_CELLS = 1 << 20, MOST_VALUES = 64 };

/* ---- checkpoints */
static int checkpoint_examine(SweepCheckpoint *c) {
  const ObjectiveTable *objective;
  struct stat st;
  TRY(checkpoint_read(c->path, &c->state));
  TRY(network_deck(&c->trained, c->state.deck, c->path));
  TRY(objective_find(&objective, c->trained.diffusion_objective));
  c->exact = objective->gives == GIVES_NEXT;
  c->bytes = stat(c->path, &st) == 0 ? (double)st.st_size : 0;
  return OK;
}

/* A path that several patterns match is one checkpoint. */
static int checkpoint_add(void *arg, const char *path) {
  Sweep *s = arg;
  for (int i = 0; i < s->n_checkpoints; i++)
    if (strcmp(s->checkpoints[i].path, path) == 0) return OK;
  SweepCheckpoint *more = realloc(s->checkpoints, (size_t)(s->n_checkpoints + 1) * sizeof *more);
  CHECK(more, ERR_MEMORY, "out of memory");
  s->checkpoints = more;
  SweepCheckpoint *c = &more[s->n_checkpoints++];
  *c = (SweepCheckpoint){0};
  TRY(files_path(c->path, NULL, path));
  return checkpoint_examine(c);
}

static int checkpoints_open(Sweep *s) {
  const Config *cfg = s->cfg;
  char *copy = NULL, path[FILES_PATH];
  int err = OK;
  if (!*cfg->sweep_checkpoints) {
    TRY(weights_path(cfg, cfg->eval_checkpoint, path));
    return checkpoint_add(s, path);
  }
  TRY(mem_strdup(&copy, cfg->sweep_checkpoints));
  char *list = copy;
  for (char *p; err == OK && (p = files_next(&list, ";"));) err = files_matching(p, checkpoint_add, s);
  mem_free(&copy);
  return err;
}

/* ---- data sets */
static int data_add(Sweep *s, char *part) {
  char *equals = strchr(part, '='), *spec = equals ? equals + 1 : part;
  SweepData *more = realloc(s->data, (size_t)(s->n_data + 1) * sizeof *more);
  CHECK(more, ERR_MEMORY, "out of memory");
  s->data = more;
  SweepData *d = &more[s->n_data++];
  *d = (SweepData){0};
  if (equals) *equals = '\0';
  const char *slash = strrchr(part, '/'), *base = slash && !equals ? slash + 1 : part;
  snprintf(d->name, sizeof d->name, "%s", base);
  if (!equals) d->name[strcspn(d->name, ".,*?[")] = '\0';
  for (int i = 0; i + 1 < s->n_data; i++)
    CHECK(strcmp(s->data[i].name, d->name) != 0, ERR_USAGE,
          "sweep.data: two data sets are called %s: name them, as in one=%s", d->name, spec);
  TRY(mem_strdup(&d->spec, spec));
  return shards_open(&d->shards, d->spec);
}

static int data_open(Sweep *s) {
  const Config *cfg = s->cfg;
  const char *given = *cfg->sweep_data ? cfg->sweep_data : *cfg->eval_data ? cfg->eval_data : cfg->data_valid;
  char *copy = NULL;
  int err = OK;
  CHECK(*given, ERR_USAGE, "no data to evaluate: set sweep.data");
  TRY(mem_strdup(&copy, given));
  char *list = copy;
  for (char *p; err == OK && (p = files_next(&list, ";"));) err = data_add(s, p);
  mem_free(&copy);
  return err;
}

/* ---- lists of values */
typedef struct Values {
  int64_t list[MOST_VALUES];
  int n;
} Values;

/* The integers of a list, at least `least`; `otherwise` where it is empty. */
static int values_read(Values *v, const char *key, const char *text, int64_t least, int64_t otherwise) {
  char *copy = NULL;
  int err = OK;
  *v = (Values){.list = {otherwise}, .n = 1};
  if (!*text) return OK;
  TRY(mem_strdup(&copy, text));
  char *list = copy, *end;
  v->n = 0;
  for (char *p; err == OK && (p = files_next(&list, ","));) {
    errno = 0;
    long long x = strtoll(p, &end, 10);
    if (*end || errno || x < least || v->n == MOST_VALUES)
      err = RAISE(ERR_USAGE, "%s = %s: %s is not one of at most %d integers from %lld on, separated by commas", key,
                  text, p, MOST_VALUES, (long long)least);
    else
      v->list[v->n++] = x;
  }
  mem_free(&copy);
  return err;
}

/* ---- cells */
Config sweep_config(const Sweep *s, const SweepCell *cell) {
  Config c = s->checkpoints[cell->checkpoint].trained;
  config_borrow(&c, s->cfg, "device");
  config_borrow(&c, s->cfg, "eval");
  config_borrow(&c, s->cfg, "run");
  c.eval_estimator = (char *)cell->estimator;
  c.eval_draws = cell->draws;
  c.diffusion_T = cell->T;
  c.eval_seed = cell->seed;
  return c;
}

bool sweep_done(const SweepCell *cell) { return access(cell->path, F_OK) == 0; }

/* The estimator of that word, of auto one with draws; NULL: the checkpoint's value is exact without one. */
static const EstimatorTable *table_of(const SweepCheckpoint *c, const char *word) {
  const EstimatorTable *e;
  if (c->exact) return NULL;
  MENU_FIND(e, estimators, word);
  return e ? e : estimators[0];
}

/* Whether values of that estimator depend on draws, a seed and T. */
static bool draws(const SweepCheckpoint *c, const char *word) {
  const EstimatorTable *e = table_of(c, word);
  return e && !e->exact;
}

static int cell_name(const Sweep *s, SweepCell *cell) {
  const SweepCheckpoint *c = &s->checkpoints[cell->checkpoint];
  const Config cfg = sweep_config(s, cell);
  Task t = {.format = "mdlm-eval", .which = s->cfg->eval_weights, .state = c->state};
  TRY(task_key(&t, &cfg, "eval", table_of(c, cell->estimator), "data = %s\n",
               shards_protocol(s->data[cell->data].shards)->digest));
  XXH128_hash_t sum = XXH3_128bits(t.key, strlen(t.key));
  mem_free(&t.key);
  snprintf(cell->name, sizeof cell->name, "%016llx%016llx", (unsigned long long)sum.high64,
           (unsigned long long)sum.low64);
  CHECK(snprintf(cell->path, sizeof cell->path, "%s/cells/%s.h5", s->dir, cell->name) < (int)sizeof cell->path,
        ERR_USAGE, "sweep.dir = %s: the path is too long", s->dir);
  return OK;
}

const char *sweep_words(const Sweep *s, const SweepCell *c, char text[SWEEP_WORDS]) {
  const SweepCheckpoint *k = &s->checkpoints[c->checkpoint];
  int n = snprintf(text, SWEEP_WORDS, "%s on %s", k->path, s->data[c->data].name);
  if (!k->exact) n += snprintf(text + n, (size_t)(SWEEP_WORDS - n), ", %s, T %lld", c->estimator, (long long)c->T);
  if (c->drawn)
    snprintf(text + n, (size_t)(SWEEP_WORDS - n), ", draws %lld, seed %lld", (long long)c->draws, (long long)c->seed);
  return text;
}

uint64_t sweep_digest(const Sweep *s) {
  uint64_t sum = (uint64_t)s->n_cells;
  for (int i = 0; i < s->n_cells; i++) sum = XXH3_64bits_withSeed(s->cells[i].path, strlen(s->cells[i].path), sum);
  return sum;
}

/* Passes of the network for a row. */
static double passes_of(const Sweep *s, const SweepCell *cell) {
  const EstimatorTable *e = table_of(&s->checkpoints[cell->checkpoint], cell->estimator);
  return !e || !e->passes ? (double)cell->draws : (double)e->passes(s->cfg, shards_length(s->data[cell->data].shards));
}

/* Leaves out a cell that is there already, from number `first` on: a value that a list has twice. */
static int cell_add(Sweep *s, SweepCell cell, int first) {
  SweepData *d = &s->data[cell.data];
  int64_t rows = shards_rows(d->shards);
  if (s->cfg->eval_sequences > 0 && s->cfg->eval_sequences < rows) rows = s->cfg->eval_sequences;
  cell.cost = s->checkpoints[cell.checkpoint].bytes * (double)(rows * shards_length(d->shards)) * passes_of(s, &cell);
  TRY(cell_name(s, &cell));
  for (int i = first; i < s->n_cells; i++)
    if (strcmp(s->cells[i].name, cell.name) == 0) return OK;
  s->cells[s->n_cells++] = cell;
  return OK;
}

typedef struct Axes {
  Values draws, T, seeds;
  const char *estimators[MOST_VALUES];
  int n_estimators;
} Axes;

static int axes_read(Axes *a, Sweep *s) {
  const Config *cfg = s->cfg;
  TRY(values_read(&a->draws, "sweep.draws", cfg->sweep_draws, 1, cfg->eval_draws));
  TRY(values_read(&a->T, "sweep.T", cfg->sweep_T, 0, -1));
  TRY(values_read(&a->seeds, "sweep.seeds", cfg->sweep_seeds, 0, cfg->eval_seed));
  TRY(mem_strdup(&s->words, *cfg->sweep_estimators ? cfg->sweep_estimators : cfg->eval_estimator));
  char *list = s->words;
  for (char *p; (p = files_next(&list, ","));) {
    const EstimatorTable *e;
    MENU_FIND(e, estimators, p);
    CHECK((e || strcmp(p, "auto") == 0) && a->n_estimators < MOST_VALUES, ERR_USAGE,
          "sweep.estimators: there is no estimator %s; choose of auto" ESTIMATORS(CHOICE), p);
    a->estimators[a->n_estimators++] = p;
  }
  CHECK(a->n_estimators > 0 && a->draws.n > 0 && a->T.n > 0 && a->seeds.n > 0, ERR_USAGE,
        "the sweep has no cell: a list of values is empty");
  return OK;
}

/* The estimator of that word for a checkpoint in T steps; the word itself where the network refuses those. */
static const char *estimator_of(const SweepCheckpoint *c, const char *word, int64_t T) {
  Config cfg = c->trained;
  Schedule schedule;
  Objective objective;
  const EstimatorTable *e;
  cfg.diffusion_T = T;
  int err = network_objective(&objective, &schedule, &cfg, c->state.vocab.size, c->state.vocab.mask);
  if (err == OK) err = estimator_find(&e, word, &objective);
  if (err) err_clear();
  return err ? word : e->name;
}

/* The cells of a checkpoint and a data set. */
static int cells_add(Sweep *s, const Axes *a, int checkpoint, int data) {
  const SweepCheckpoint *c = &s->checkpoints[checkpoint];
  SweepCell cell = {.checkpoint = checkpoint, .data = data};
  int counts[4] = {a->n_estimators, a->draws.n, a->T.n, a->seeds.n}, first = s->n_cells;
  for (int k = 0; k < 4 && c->exact; k++) counts[k] = 1;
  for (int i = 0; i < counts[0]; i++)
    for (int d = 0; d < counts[1]; d++)
      for (int t = 0; t < counts[2]; t++)
        for (int k = 0; k < counts[3]; k++) {
          cell.T = a->T.list[t] < 0 || !draws(c, a->estimators[i]) ? c->trained.diffusion_T : a->T.list[t];
          cell.estimator = c->exact ? estimators[0]->name : estimator_of(c, a->estimators[i], cell.T);
          cell.drawn = draws(c, cell.estimator);
          cell.draws = cell.drawn ? a->draws.list[d] : 1;
          cell.seed = cell.drawn ? a->seeds.list[k] : 0;
          TRY(cell_add(s, cell, first));
        }
  return OK;
}

static int create(Sweep *s) {
  Axes *a = NULL;
  const Config *cfg = s->cfg;
  TRY(*cfg->sweep_dir ? files_path(s->dir, NULL, cfg->sweep_dir) : output_path(cfg, "", "sweep", s->dir));
  TRY(checkpoints_open(s));
  TRY(data_open(s));
  TRY(mem_alloc(&a, sizeof *a));
  int err = axes_read(a, s);
  double most = (double)s->n_checkpoints * s->n_data * a->n_estimators * a->draws.n * a->T.n * a->seeds.n;
  if (err == OK && !(most <= MOST_CELLS)) err = RAISE(ERR_USAGE, "a sweep of %g cells is too large", most);
  if (err == OK) err = mem_alloc(&s->cells, (size_t)most * sizeof *s->cells);
  for (int c = 0; c < s->n_checkpoints && err == OK; c++)
    for (int d = 0; d < s->n_data && err == OK; d++) err = cells_add(s, a, c, d);
  mem_free(&a);
  return err;
}

int sweep_create(Sweep *s, const Config *cfg) {
  *s = (Sweep){.cfg = cfg};
  int err = create(s);
  if (err) sweep_destroy(s);
  return err;
}

void sweep_destroy(Sweep *s) {
  for (int i = 0; i < s->n_checkpoints; i++) {
    checkpoint_state_destroy(&s->checkpoints[i].state);
    config_free(&s->checkpoints[i].trained);
  }
  for (int i = 0; i < s->n_data; i++) {
    mem_free(&s->data[i].spec);
    shards_close(&s->data[i].shards);
  }
  free(s->checkpoints);
  free(s->data);
  mem_free(&s->cells);
  mem_free(&s->words);
  *s = (Sweep){0};
}
