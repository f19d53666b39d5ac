#include "measure/chain.h"
#include "base/activity.h"
#include "base/err.h"
#include "base/mem.h"
#include "measure/items.h"
#include "sampling/draws.h"
#include <math.h>
#include <string.h>

typedef struct Track { /* where a block of a row is; without block diffusion a row is one block */
  int64_t first, end;  /* its scored positions */
  int64_t step, begun; /* begun: its masks at first */
  int64_t planned, n;  /* of this pass: tokens to fill in, or −1; positions that the network is asked for, or 0 */
} Track;

typedef struct Chain {
  Network *net; /* not owned, nor the next two */
  const ChainOptions *o;
  EstimatorRow *rows;
  int64_t n, L, blocks; /* blocks of a row */
  bool until_miss;
  SamplerJob job;         /* for rules that follow the schedule */
  Track *track;           /* [n, blocks] */
  int64_t *who;           /* [n] rows of the pass */
  int32_t *z;             /* [n·L] */
  bool *open;             /* [n·L] still masked */
  int64_t *l;             /* [L] masked positions of a row */
  double *nll, *measures; /* [n·L], [n·L, 3] of the pass's positions */
  int32_t *ids;           /* [n·L] their most likely tokens */
  double *at;             /* [L] the nll by position */
  Candidate *list;        /* [L] */
} Chain;

int chain_create(ChainOptions *c, const CommitOptions *commit, int64_t steps) {
  *c = (ChainOptions){.steps = steps};
  TRY(commit_create(&c->commit, commit));
  CHECK(!commit_random(&c->commit), ERR_USAGE,
        "%s.order = %s, %s.commit = %s: a likelihood needs an order that random numbers do not decide", commit->section,
        commit->order, commit->section, commit->commit);
  return OK;
}

static void mask_row(Chain *c, int64_t b) {
  const EstimatorRow *r = &c->rows[b];
  int32_t *z = c->z + b * c->L;
  memcpy(z, r->x0, (size_t)c->L * sizeof *z);
  for (int64_t l = r->first; l < r->end; l++) z[l] = c->net->objective.mask, c->open[b * c->L + l] = true;
  for (int64_t i = 0; i < c->blocks; i++) {
    int64_t size = c->L / c->blocks, first = i * size, end = first + size;
    Track *t = &c->track[b * c->blocks + i];
    t->first = first > r->first ? first : r->first;
    t->end = end < r->end ? end : r->end;
    t->begun = t->end > t->first ? t->end - t->first : 0;
  }
}

static int begin(Chain *c) {
  size_t tokens = (size_t)(c->n * c->L);
  c->job = (SamplerJob){.objective = &c->net->objective};
  TRY(mem_alloc(&c->track, (size_t)(c->n * c->blocks) * sizeof *c->track));
  TRY(mem_alloc(&c->who, (size_t)c->n * sizeof *c->who));
  TRY(mem_alloc(&c->z, tokens * sizeof *c->z));
  TRY(mem_alloc(&c->open, tokens * sizeof *c->open));
  TRY(mem_alloc(&c->l, (size_t)c->L * sizeof *c->l));
  TRY(mem_alloc(&c->nll, tokens * sizeof *c->nll));
  TRY(mem_alloc(&c->measures, 3 * tokens * sizeof *c->measures));
  TRY(mem_alloc(&c->ids, tokens * sizeof *c->ids));
  TRY(mem_alloc(&c->at, (size_t)c->L * sizeof *c->at));
  TRY(mem_alloc(&c->list, (size_t)c->L * sizeof *c->list));
  for (int64_t b = 0; b < c->n; b++) {
    mask_row(c, b);
    c->rows[b].loss = 0, c->rows[b].likeliest = true;
  }
  return OK;
}

static void end(Chain *c) {
  mem_free(&c->track);
  mem_free(&c->who);
  mem_free(&c->z);
  mem_free(&c->open);
  mem_free(&c->l);
  mem_free(&c->nll);
  mem_free(&c->measures);
  mem_free(&c->ids);
  mem_free(&c->at);
  mem_free(&c->list);
}

/* c->l := the masked positions of a block of row b. Returns their number. */
static int64_t masks_of(Chain *c, int64_t b, const Track *t) {
  int64_t n = 0;
  for (int64_t l = t->first; l < t->end; l++)
    if (c->open[b * c->L + l]) c->l[n++] = l;
  return n;
}

/* Of a row with that many masks: the number of steps is that of a row, of which every block gets its part. */
static int64_t steps_of(const Chain *c, int64_t begun) {
  int64_t steps = c->o->steps / c->blocks;
  return c->o->steps == 0 ? begun : steps > 0 ? steps : 1;
}

/* Goes to the next step of a block of row b that fills in a token: false if none is left. From left to right, the network
 * need not be asked for positions that are not filled in. */
static bool advance(Chain *c, int64_t b, Track *t) {
  const Commit *commit = &c->o->commit;
  t->n = masks_of(c, b, t);
  if (t->n == 0) return false;
  CommitStep step = {.job = &c->job,
                     .step = t->step,
                     .steps = steps_of(c, t->begun),
                     .begun = t->begun,
                     .n = t->n,
                     .l = c->l,
                     .finish = true};
  while ((t->planned = commit_planned(commit, &step)) == 0) step.step++;
  t->step = step.step;
  if (commit->order == ORDER_LEFT_TO_RIGHT && t->planned > 0) t->n = t->planned;
  return true;
}

/* Row b becomes number i of the pass, with the next step of each of its blocks; false: it has none. */
static bool add(Chain *c, int64_t i, int64_t b) {
  Noised *z = &c->net->noised;
  const EstimatorRow *r = &c->rows[b];
  int64_t before = z->n_rows;
  if (c->until_miss && !r->likeliest) return false;
  for (int64_t k = 0; k < c->blocks; k++) {
    Track *t = &c->track[b * c->blocks + k];
    if (!advance(c, b, t)) continue;
    for (int64_t j = 0; j < t->n; j++) *noised_row(&c->net->objective, z, i, c->l[j], r->x0[c->l[j]]) = 1;
  }
  if (z->n_rows == before) return false;
  c->who[i] = b;
  memcpy(z->z + i * c->L, c->z + b * c->L, (size_t)c->L * sizeof *z->z);
  memcpy(z->x0 + i * c->L, r->x0, (size_t)c->L * sizeof *z->x0);
  z->length[i] = (int32_t)r->length;
  z->label[i] = r->label;
  z->sigma[i] = noised_level(&c->net->objective, c->z + b * c->L, r->length);
  return true;
}

/* The network's output for the B rows of the pass. On a GPU it may be padded by copies of the first. */
static int evaluate(Chain *c, int64_t B) {
  Network *net = c->net;
  Noised *z = &net->noised;
  int64_t size = draws_pass_size(&net->dev, B, c->n);
  for (int64_t i = B; i < size; i++) {
    memcpy(z->z + i * c->L, z->z, (size_t)c->L * sizeof *z->z);
    memcpy(z->x0 + i * c->L, z->x0, (size_t)c->L * sizeof *z->x0);
    z->length[i] = z->length[0], z->sigma[i] = z->sigma[0], z->label[i] = z->label[0];
  }
  ModelInput in = {.B = size,
                   .ids = z->z,
                   .clean = c->net->objective.options.block > 0 ? z->x0 : NULL,
                   .sigma = z->sigma,
                   .labels = z->label,
                   .lengths = z->length,
                   .rows = z->rows,
                   .n_rows = z->n_rows};
  activity_phase("the forward pass");
  TRY(model_forward(&net->model, &in));
  return rows_score(&net->rows, &net->objective, z->n_rows, z->target, c->nll, c->ids, c->measures);
}

/* Fills in tokens of a block of row b, whose positions in the pass begin at `first`. */
static void fill(Chain *c, int64_t b, Track *t, int64_t first) {
  EstimatorRow *r = &c->rows[b];
  for (int64_t i = 0; i < t->n; i++) {
    int64_t k = first + i, l = c->net->noised.rows[k] % c->L;
    c->at[l] = c->nll[k];
    c->list[i] = (Candidate){.l = l,
                             .id = c->ids[k],
                             .score = commit_score(&c->o->commit, c->measures + 3 * k, 0),
                             .entropy = fmax(0, c->measures[3 * k + 2])};
  }
  int64_t k = commit_choose(&c->o->commit, c->list, t->n, t->planned);
  for (int64_t i = 0; i < k; i++) {
    int64_t l = c->list[i].l;
    r->loss += c->at[l];
    r->likeliest = r->likeliest && c->list[i].id == r->x0[l];
    c->z[b * c->L + l] = r->x0[l];
    c->open[b * c->L + l] = false;
  }
  t->step++;
}

/* One pass of the network over all rows that are not finished; *more: whether there was any. */
static int pass(Chain *c, bool *more) {
  int64_t B = 0, first = 0;
  noised_begin(&c->net->noised, c->n);
  for (int64_t b = 0; b < c->n; b++) B += add(c, B, b);
  *more = B > 0;
  if (B == 0) return OK;
  TRY(evaluate(c, B));
  for (int64_t i = 0; i < B * c->blocks; i++) {
    int64_t b = c->who[i / c->blocks];
    Track *t = &c->track[b * c->blocks + i % c->blocks];
    if (t->n > 0) fill(c, b, t, first);
    first += t->n;
  }
  return OK;
}

int chain_run(Network *net, const ChainOptions *o, EstimatorRow *rows, int64_t n, bool until_miss) {
  Chain c = {.net = net, .o = o, .rows = rows, .n = n, .L = net->model.options.length, .until_miss = until_miss};
  c.blocks = objective_blocks(&net->objective, c.L);
  int err = OK;
  ASSERT(net->objective.gives == GIVES_X0 && n <= net->model.options.batch);
  TRY_TO(done, begin(&c));
  for (bool more = true, started = false; more; started = true) {
    if (started) TRY_TO(done, items_stop());
    TRY_TO(done, pass(&c, &more));
  }
done:
  end(&c);
  return err;
}
