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
  Config cfg;  /* of the cell */
  int open;    /* the cell whose network is open, −1: none */
  Lock lock;   /* of the claimed cell, rank 0 of the group */
  bool *tried; /* [n_cells] scratch of next_cell */
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
  CHECK(g->lock.held, ERR_IO,
        "sweep.dir = %s: its file system has no locks, by which cells are shared out: choose another", g->sweep->dir);
  *mine = !sweep_done(cell);
  if (!*mine) lock_release(&g->lock, cell->path);
  return OK;
}

/* Whether a cell is better to take now than another: one with the open network, then the dearest. */
static bool better(const Group *g, const SweepCell *a, const SweepCell *b) {
  const SweepCell *open = g->open < 0 ? NULL : &g->sweep->cells[g->open];
  int mine = open ? open->checkpoint : g->number % g->sweep->n_checkpoints;
  if ((a->checkpoint == mine) != (b->checkpoint == mine)) return a->checkpoint == mine;
  if (open && (a->data == open->data) != (b->data == open->data)) return a->data == open->data;
  return a->cost > b->cost;
}

/* *number: the cell that the group takes next, −1: none is left that no one has. On rank 0 of the group. */
static int next_cell(Group *g, int64_t *number) {
  const Sweep *s = g->sweep;
  bool mine = false;
  memset(g->tried, 0, (size_t)s->n_cells * sizeof *g->tried);
  for (;;) {
    int best = -1;
    for (int i = 0; i < s->n_cells; i++)
      if (!g->tried[i] && (best < 0 || better(g, &s->cells[i], &s->cells[best]))) best = i;
    *number = best;
    if (best < 0) return OK;
    TRY(claim(g, &s->cells[best], &mine));
    if (mine) return OK;
    g->tried[best] = true;
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

/* Whether the open network is the cell's. */
static bool same_network(const Group *g, const SweepCell *cell) {
  if (g->open < 0) return false;
  const SweepCell *open = &g->sweep->cells[g->open];
  return open->checkpoint == cell->checkpoint && open->T == cell->T &&
         g->e.task.net.model.options.length == shards_length(g->sweep->data[cell->data].shards);
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
  if (!same) TRY(task_open(t, shards_length(e->data), "eval.batch", s->cfg->eval_batch));
  g->open = (int)number;
  return evaluation_estimate(e, &g->cfg);
}

static int run_cell(Group *g, int64_t number) {
  int err = comm_agree(&g->comm, open_cell(g, number));
  if (err) {
    if (g->open != (int)number) close_network(g);
    return err;
  }
  nelbo_destroy(&g->e.result);
  return evaluation_run(&g->e, &g->cfg, &g->comm, NULL);
}

/* The words a person knows a cell by. */
static void describe(const Sweep *s, const SweepCell *c, char *text, size_t size) {
  snprintf(text, size, "%s on %s, %s, draws %lld, T %lld, seed %lld", s->checkpoints[c->checkpoint].path,
           s->data[c->data].name, c->estimator, (long long)c->draws, (long long)c->T, (long long)c->seed);
}

/* A failed cell is told by the group's ranks that know why, and is not tried again in this run. */
static int failed(Group *g, SweepCell *cell, int err) {
  char text[2 * FILES_PATH];
  if (!err_agreed() || err == ERR_COMM || err == ERR_DEVICE) return err;
  describe(g->sweep, cell, text, sizeof text);
  if (err != ERR_ELSEWHERE) log_error("%s: %s", text, err_message());
  snprintf(cell->error, sizeof cell->error, "%.255s", err_message());
  err_clear();
  err_set_agreed(0);
  return OK;
}

static int work(Group *g, int *stop) {
  Sweep *s = g->sweep;
  char text[2 * FILES_PATH];
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
    describe(s, cell, text, sizeof text);
    log_info("%s: nll %.5f, %.1f s", text, r->interval.nll, g->e.seconds);
  }
}

int sweep_run(Sweep *s, Comm *comm, int *stop) {
  int64_t size = s->cfg->sweep_ranks_per_cell, any;
  static Group g; /* a network must not be moved */
  g = (Group){.sweep = s, .number = (int)(comm->rank / size), .open = -1};
  TRY_ALL(comm, comm->rank == 0 ? make_folders(s) : OK);
  TRY_ALL(comm, mem_alloc(&g.tried, (size_t)s->n_cells * sizeof *g.tried));
  TRY(comm_split(comm, g.number, &g.comm));
  *stop = 0;
  int err = work(&g, stop);
  close_network(&g);
  comm_destroy(&g.comm);
  mem_free(&g.tried);
  if (err) err_set_agreed(0); /* only the ranks of this group know of it */
  TRY(err);
  any = *stop;
  TRY(comm_all_reduce(comm, &any, 1, COMM_I64, COMM_MAX));
  *stop = (int)any;
  return OK;
}

int sweep_time(Sweep *s, Comm *comm, double *seconds) {
  static Group g;
  int64_t first = -1;
  double left = 0;
  *seconds = 0;
  for (int i = s->n_cells - 1; i >= 0; i--)
    if (!sweep_done(&s->cells[i])) first = i, left += s->cells[i].cost;
  if (first < 0) return OK;
  g = (Group){.sweep = s, .open = -1};
  TRY(comm_split(comm, comm->rank, &g.comm));
  int err = open_cell(&g, first);
  const SweepCell *cell = &s->cells[first];
  NelboOptions o = {.estimator = g.e.estimator, .draws = 1, .sequences = g.cfg.eval_batch, .seed = 1};
  for (int i = 0; i < 2 && err == OK; i++) { /* the first pass warms up */
    double start = clock_now();
    nelbo_destroy(&g.e.result);
    err = nelbo_run(&g.e.result, &g.e.task.net, g.e.data, &g.comm, &o);
    double part = s->checkpoints[cell->checkpoint].bytes * (double)(g.e.result.sequences * shards_length(g.e.data));
    *seconds = (clock_now() - start) / part * left;
  }
  close_network(&g);
  comm_destroy(&g.comm);
  return err;
}
