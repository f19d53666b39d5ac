#include "cmd/sweep_run.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/lock.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

typedef struct Group { /* the ranks of a cell, and the network they have open */
  Sweep *sweep;        /* not owned */
  Comm comm;
  int number;
  Evaluation e;
  Config cfg; /* of the cell */
  int open;   /* the cell whose network is open, −1: none */
  Lock lock;  /* of the claimed cell, rank 0 of the group */
  char *gone; /* [n_cells] of next_cell: DONE for good, BUSY for this call */
} Group;

/* ---- claims */
static int make_folders(const Sweep *s) {
  char path[FILES_PATH];
  CHECK(mkdir(s->dir, 0777) == 0 || errno == EEXIST, ERR_IO, "sweep.dir = %s: cannot make the directory: %s", s->dir,
        strerror(errno));
  TRY(files_path(path, s->dir, "cells"));
  CHECK(mkdir(path, 0777) == 0 || errno == EEXIST, ERR_IO, "%s: cannot make the directory: %s", path, strerror(errno));
  return OK;
}

/* *mine: whether this process now holds the cell's lock, and the cell is not done. */
static int claim(Group *g, const SweepCell *cell, bool *mine) {
  *mine = false;
  if (sweep_done(cell) || *cell->error) return OK;
  int err = lock_take(&g->lock, cell->path);
  if (err == ERR_BUSY) err_clear(); /* another group's, or another job's */
  if (err) return err == ERR_BUSY ? OK : err;
  *mine = !sweep_done(cell);
  if (!*mine) lock_release(&g->lock, cell->path);
  return OK;
}

/* Whether the open network is the cell's. */
static bool same_network(const Group *g, const SweepCell *cell) {
  if (g->open < 0) return false;
  const SweepCell *open = &g->sweep->cells[g->open];
  return open->checkpoint == cell->checkpoint && open->T == cell->T &&
         g->e.task.net.model.options.length == shards_length(g->sweep->data[cell->data].shards);
}

/* Whether a cell is better to take now than another: one of the open network, then one of its checkpoint, or of the
 * group's own at first, then the dearest. */
static bool better(const Group *g, const SweepCell *a, const SweepCell *b) {
  const SweepCell *open = g->open < 0 ? NULL : &g->sweep->cells[g->open];
  int mine = open ? open->checkpoint : g->number % g->sweep->n_checkpoints;
  if (same_network(g, a) != same_network(g, b)) return same_network(g, a);
  if ((a->checkpoint == mine) != (b->checkpoint == mine)) return a->checkpoint == mine;
  return a->cost > b->cost;
}

enum { OPEN, BUSY, DONE };

/* *number: the cell that the group takes next, −1: none is left that no one has. On rank 0 of the group. */
static int next_cell(Group *g, int64_t *number) {
  const Sweep *s = g->sweep;
  bool mine = false;
  for (int i = 0; i < s->n_cells; i++)
    if (g->gone[i] == BUSY) g->gone[i] = OPEN;
  for (;;) {
    int best = -1;
    for (int i = 0; i < s->n_cells; i++)
      if (g->gone[i] == OPEN && (best < 0 || better(g, &s->cells[i], &s->cells[best]))) best = i;
    *number = best;
    if (best < 0) return OK;
    const SweepCell *cell = &s->cells[best];
    TRY(claim(g, cell, &mine));
    g->gone[best] = mine || *cell->error || sweep_done(cell) ? DONE : BUSY;
    if (mine) return OK;
  }
}

/* ---- one cell */
static void close_network(Group *g) {
  Evaluation *e = &g->e;
  nelbo_destroy(&e->result);
  e->task.state = (CheckpointState){0}; /* the sweep's */
  task_end(&e->task);
  g->open = -1;
}

/* Fails where the file is no longer the one that the cells were made for. */
static int open_checkpoint(Task *t, const SweepCheckpoint *c) {
  char digest[sizeof c->state.weights_digest];
  TRY(checkpoint_open(&t->file, c->path));
  TRY(checkpoint_digest(t->file, digest));
  CHECK(strcmp(digest, c->state.weights_digest) == 0, ERR_DATA, "%s was replaced while the sweep was running", c->path);
  return OK;
}

static int open_cell(Group *g, int64_t number) {
  Sweep *s = g->sweep;
  SweepCell *cell = &s->cells[number];
  SweepCheckpoint *c = &s->checkpoints[cell->checkpoint];
  Evaluation *e = &g->e;
  Task *t = &e->task;
  bool same = same_network(g, cell);
  if (!same) close_network(g);
  g->cfg = sweep_config(s, cell);
  e->data = s->data[cell->data].shards;
  if (!same) *t = (Task){.comm = &g->comm, .format = "mdlm-eval", .which = s->cfg->eval_weights, .state = c->state};
  t->cfg = &g->cfg;
  snprintf(t->checkpoint, sizeof t->checkpoint, "%s", c->path);
  snprintf(t->output, sizeof t->output, "%s", cell->path);
  TRY(vocab_same(&c->state.vocab, c->path, shards_vocab(e->data), shards_spec(e->data)));
  if (!same) TRY(open_checkpoint(t, c));
  if (!same) TRY(task_open(t, shards_length(e->data), "eval.batch", s->cfg->eval_batch));
  g->open = (int)number;
  return evaluation_estimate(e);
}

static int run_cell(Group *g, int64_t number) {
  int err = comm_agree(&g->comm, open_cell(g, number));
  if (err) {
    if (g->open != (int)number) close_network(g);
    return err;
  }
  nelbo_destroy(&g->e.result);
  return evaluation_run(&g->e, NULL);
}

/* A failed cell is told by the group's ranks that know why, and is not tried again in this run. */
static int failed(Group *g, SweepCell *cell, int err) {
  char text[SWEEP_WORDS];
  if (!err_agreed() || err == ERR_COMM || err == ERR_DEVICE) return err;
  if (err != ERR_ELSEWHERE) log_error("%s: %s", sweep_words(g->sweep, cell, text), err_message());
  snprintf(cell->error, sizeof cell->error, "%.255s", err_message());
  err_clear();
  err_set_agreed(0);
  return OK;
}

static int work(Group *g, int *stop) {
  Sweep *s = g->sweep;
  char text[SWEEP_WORDS];
  for (;;) {
    int64_t number = -1;
    TRY_ALL(&g->comm, g->comm.rank == 0 ? next_cell(g, &number) : OK);
    TRY(comm_broadcast(&g->comm, &number, sizeof number, 0));
    if (number < 0) return OK;
    SweepCell *cell = &s->cells[number];
    int err = run_cell(g, number);
    lock_release(&g->lock, cell->path);
    if (err) TRY(failed(g, cell, err));
    if (err) continue;
    const Nelbo *r = &g->e.result;
    *stop = r->stop;
    if (r->stop) return OK;
    log_info("%s: nll %.5f, %.1f s", sweep_words(s, cell, text), r->interval.nll, g->e.seconds);
  }
}

int sweep_run(Sweep *s, Comm *comm, int *stop) {
  int64_t size = s->cfg->sweep_ranks_per_cell, any;
  static Group g; /* a network must not be moved */
  g = (Group){.sweep = s, .number = (int)(comm->rank / size), .open = -1};
  TRY_ALL(comm, comm->rank == 0 ? make_folders(s) : OK);
  TRY_ALL(comm, mem_alloc(&g.gone, (size_t)s->n_cells));
  TRY(comm_split(comm, g.number, &g.comm));
  *stop = 0;
  int err = work(&g, stop);
  close_network(&g);
  comm_destroy(&g.comm);
  mem_free(&g.gone);
  if (err) err_set_agreed(0); /* only the ranks of this group know of it */
  TRY(err);
  any = *stop;
  TRY(comm_all_reduce(comm, &any, 1, COMM_I64, COMM_MAX));
  *stop = (int)any;
  return OK;
}

/* Seconds of a batch of a cell, per unit of its cost. */
static int time_cell(Group *g, int number, double *each, int *stop) {
  const Sweep *s = g->sweep;
  const SweepCell *cell = &s->cells[number];
  TRY(open_cell(g, number));
  NelboOptions o = {.estimator = g->e.estimator, .cfg = &g->cfg, .draws = 1, .sequences = g->cfg.eval_batch, .seed = 1};
  for (int i = 0; i < 2 && !*stop; i++) { /* the first pass warms up */
    double start = clock_now();
    nelbo_destroy(&g->e.result);
    TRY(nelbo_run(&g->e.result, &g->e.task.net, g->e.data, &g->comm, &o));
    *stop = g->e.result.stop;
    double part = s->checkpoints[cell->checkpoint].bytes * (double)(g->e.result.sequences * shards_length(g->e.data));
    *each = (clock_now() - start) / part;
  }
  return OK;
}

int sweep_time(Sweep *s, Comm *comm, double *each, int *stop) {
  static Group g;
  int err = ERR_DATA;
  g = (Group){.sweep = s, .open = -1};
  *each = NAN, *stop = 0;
  TRY(comm_split(comm, comm->rank, &g.comm));
  for (int i = 0; i < s->n_cells && err && !*stop; i++) {
    if (sweep_done(&s->cells[i])) continue;
    err = time_cell(&g, i, each, stop);
    if (err) snprintf(s->cells[i].error, sizeof s->cells[i].error, "%.255s", err_message());
    if (err) err_clear();
  }
  close_network(&g);
  comm_destroy(&g.comm);
  return OK;
}
