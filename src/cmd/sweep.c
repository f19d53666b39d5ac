/* mdlm sweep DECK [key=value…] — the perplexities of many checkpoints on many data sets, in one job or several. */
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "cmd/cmd.h"
#include "cmd/evaluation.h"
#include "cmd/sweep_run.h"
#include "cmd/sweep_table.h"
#include <math.h>
#include <string.h>

/* The cells and the time they take, on one rank; nothing is written. */
static int plan(Sweep *s, Comm *comm, int *exit_code) {
  double each, left = 0;
  char text[SWEEP_WORDS], time[32];
  int done = 0, stop;
  CHECK(comm->size == 1, ERR_USAGE, "sweep.action = plan works on one rank, not on %d: start it without mpirun",
        comm->size);
  TRY(sweep_time(s, comm, &each, &stop));
  if (stop) *exit_code = EXIT_REQUEUE;
  if (stop) return OK;
  for (int i = 0; i < s->n_cells; i++) {
    const SweepCell *c = &s->cells[i];
    bool is_done = sweep_done(c);
    done += is_done;
    left += is_done ? 0 : c->cost;
    log_info("%-8s %s: %s", is_done ? "done" : "to do", sweep_words(s, c, text),
             is_done     ? c->path
             : *c->error ? c->error
                         : log_duration(time, sizeof time, each * c->cost));
  }
  if (done < s->n_cells && !isnan(each))
    log_info("%d cells, %d done; the others take about %s on one group of ranks like this one", s->n_cells, done,
             log_duration(time, sizeof time, each * left));
  else
    log_info("%d cells, %d done", s->n_cells, done);
  return OK;
}

/* Rank 0: what has been found. */
static int report(const Sweep *s, bool stores) {
  int done;
  TRY(sweep_report(s, stores, &done));
  if (strcmp(s->cfg->sweep_format, "text") != 0) return OK;
  log_info("%d of %d cells are done%s%s", done, s->n_cells, stores ? "; all values: " : "", stores ? s->dir : "");
  return OK;
}

/* *n: the cells that failed on some rank. */
static int failures(Sweep *s, Comm *comm, int64_t *n) {
  int64_t *bad = NULL;
  *n = 0;
  TRY_ALL(comm, mem_alloc(&bad, (size_t)s->n_cells * sizeof *bad));
  for (int i = 0; i < s->n_cells; i++) bad[i] = *s->cells[i].error && !sweep_done(&s->cells[i]);
  int err = comm_all_reduce(comm, bad, (size_t)s->n_cells, COMM_I64, COMM_MAX);
  for (int i = 0; i < s->n_cells; i++) {
    if (bad[i] && !*s->cells[i].error) strcpy(s->cells[i].error, "failed");
    *n += bad[i];
  }
  mem_free(&bad);
  return err;
}

static int trust_data(const Sweep *s) {
  for (int d = 0; d < s->n_data; d++) TRY(shards_trust(s->data[d].shards));
  return OK;
}

static int run(Sweep *s, Comm *comm, int *exit_code) {
  int stop;
  int64_t bad;
  CHECK(comm->size % s->cfg->sweep_ranks_per_cell == 0, ERR_USAGE,
        "sweep.ranks_per_cell = %lld does not divide the %d ranks", (long long)s->cfg->sweep_ranks_per_cell,
        comm->size);
  TRY_ALL(comm, comm->rank == 0 ? trust_data(s) : OK);
  log_info("sweep: %d cells of %d checkpoints and %d data sets in %s", s->n_cells, s->n_checkpoints, s->n_data, s->dir);
  for (int c = 0; c < s->n_checkpoints; c++)
    for (int d = 0; d < s->n_data; d++)
      evaluation_warn(&s->checkpoints[c].state, s->checkpoints[c].path, s->data[d].shards);
  TRY(sweep_run(s, comm, &stop));
  if (stop) {
    log_info("stopped by %s: finished cells and the finished part of others are kept; run the same command to go on",
             stop_name(stop));
    *exit_code = EXIT_REQUEUE;
    return OK;
  }
  TRY(failures(s, comm, &bad));
  TRY_ALL(comm, comm->rank == 0 ? report(s, true) : OK);
  if (bad == 0) return OK;
  return comm_agree(comm, RAISE(ERR_DATA, "%lld cells failed, as told above", (long long)bad));
}

static int act(Sweep *s, Comm *comm, int *exit_code) {
  const char *action = s->cfg->sweep_action;
  if (strcmp(action, "plan") == 0) return comm_agree(comm, plan(s, comm, exit_code));
  if (strcmp(action, "table") == 0) return comm_agree(comm, comm->rank == 0 ? report(s, false) : OK);
  return run(s, comm, exit_code);
}

/* Ranks number the cells alike only if they have seen the same files. */
static int same_cells(const Sweep *s, Comm *comm) {
  uint64_t mine = sweep_digest(s), first = mine;
  TRY(comm_broadcast(comm, &first, sizeof first, 0));
  return comm_agree(comm, mine == first ? OK
                                        : RAISE(ERR_DATA, "the checkpoints or data of the sweep changed while ranks "
                                                          "were reading them: run the command again"));
}

static int sweep(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv;
  Sweep s = {0};
  int err = comm_agree(comm, sweep_create(&s, cfg));
  if (err == OK) err = same_cells(&s, comm);
  if (err == OK) err = act(&s, comm, exit_code);
  sweep_destroy(&s);
  return err;
}

extern const Command command_sweep;
const Command command_sweep = {
    .name = "sweep",
    .arguments = "DECK [key=value…]",
    .purpose = "perplexities of many checkpoints on many data sets",
    .deck = true,
    .stops = true,
    .run = sweep,
    .about =
        "Evaluates every combination of sweep.checkpoints, sweep.data, sweep.estimators, sweep.draws, sweep.T and "
        "sweep.seeds, and prints a table. Groups of ranks share the cells, and so do several jobs that run at the "
        "same time. A finished cell is never computed again; a stopped sweep goes on where it was, on any number of "
        "ranks, and prints the same table. A cell that fails does not end the others. Cells of a seed have the same "
        "masks; checkpoints are compared pair by pair where rows and masks are the same.",
    .reads = "sweep.checkpoints and sweep.data",
    .writes = "in sweep.dir: an evaluation file for each cell (as mdlm eval writes), sweep.h5",
    .sections = "run eval sweep device dist",
    .example = "mpirun -n 4 mdlm sweep deck.cfg 'sweep.checkpoints=runs/*/best.h5'"};
