/* mdlm sweep DECK [key=value…] — the perplexities of many checkpoints on many data sets, in one job or several. */
#include "base/err.h"
#include "base/log.h"
#include "base/stop.h"
#include "cmd/cmd.h"
#include "cmd/sweep_run.h"
#include "cmd/sweep_table.h"
#include <string.h>

/* The cells and the time they take, on one rank; nothing is written. */
static int plan(Sweep *s, Comm *comm) {
  double seconds, all = 0, left = 0;
  char text[32];
  int done = 0;
  CHECK(comm->size == 1, ERR_USAGE, "sweep.action = plan works on one rank, not on %d: start it without mpirun",
        comm->size);
  TRY(sweep_time(s, comm, &seconds));
  for (int i = 0; i < s->n_cells; i++) {
    all += s->cells[i].cost;
    left += sweep_done(&s->cells[i]) ? 0 : s->cells[i].cost;
  }
  for (int i = 0; i < s->n_cells; i++) {
    const SweepCell *c = &s->cells[i];
    bool is_done = sweep_done(c);
    done += is_done;
    log_info("%-8s %s on %s, %s, draws %lld, T %lld, seed %lld: %s", is_done ? "done" : "to do",
             s->checkpoints[c->checkpoint].path, s->data[c->data].name, c->estimator, (long long)c->draws,
             (long long)c->T, (long long)c->seed,
             is_done ? c->path : log_duration(text, sizeof text, seconds * c->cost / left));
  }
  log_info("%d cells, %d done; the others take about %s on one group of ranks like this one", s->n_cells, done,
           log_duration(text, sizeof text, seconds));
  return OK;
}

/* Rank 0: what has been found, and what has not. */
static int report(Sweep *s, bool store) {
  int done, failed = 0;
  if (store) TRY(sweep_store(s));
  TRY(sweep_table(s, &done));
  for (int i = 0; i < s->n_cells; i++) failed += *s->cells[i].error != '\0';
  if (strcmp(s->cfg->sweep_format, "text") != 0) return OK;
  log_info("%d of %d cells are done%s%s", done, s->n_cells, store ? "; all values: " : "", store ? s->dir : "");
  return OK;
}

/* Cells that failed on any rank. */
static int failures(Sweep *s, Comm *comm, int64_t *n) {
  *n = 0;
  for (int i = 0; i < s->n_cells; i++) {
    int64_t bad = *s->cells[i].error != '\0' && !sweep_done(&s->cells[i]);
    TRY(comm_all_reduce(comm, &bad, 1, COMM_I64, COMM_MAX));
    if (bad && !*s->cells[i].error) strcpy(s->cells[i].error, "failed");
    *n += bad;
  }
  return OK;
}

static int run(Sweep *s, Comm *comm, int *exit_code) {
  int stop;
  int64_t bad;
  CHECK(comm->size % s->cfg->sweep_ranks_per_cell == 0, ERR_USAGE,
        "sweep.ranks_per_cell = %lld does not divide the %d ranks", (long long)s->cfg->sweep_ranks_per_cell,
        comm->size);
  log_info("sweep: %d cells of %d checkpoints and %d data sets in %s", s->n_cells, s->n_checkpoints, s->n_data, s->dir);
  TRY(sweep_run(s, comm, &stop));
  TRY(failures(s, comm, &bad));
  if (stop) {
    log_info("stopped by %s: finished cells and the finished part of others are kept; run the same command to go on",
             stop_name(stop));
    *exit_code = EXIT_REQUEUE;
    return OK;
  }
  TRY_ALL(comm, comm->rank == 0 ? report(s, true) : OK);
  if (bad == 0) return OK;
  return comm_agree(comm, RAISE(ERR_DATA, "%lld cells failed, as told above", (long long)bad));
}

static int act(Sweep *s, Comm *comm, int *exit_code) {
  const char *action = s->cfg->sweep_action;
  if (strcmp(action, "plan") == 0) return comm_agree(comm, plan(s, comm));
  if (strcmp(action, "table") == 0) return comm_agree(comm, comm->rank == 0 ? report(s, false) : OK);
  return run(s, comm, exit_code);
}

static int sweep(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv;
  Sweep s;
  TRY_ALL(comm, sweep_create(&s, cfg));
  int err = act(&s, comm, exit_code);
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
