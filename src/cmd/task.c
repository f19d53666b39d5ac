#include "cmd/task.h"
#include "base/err.h"
#include <math.h>

int task_begin(Task *t, const Config *cfg, Comm *comm, const TaskOptions *o) {
  *t = (Task){.cfg = cfg, .comm = comm, .format = o->format, .which = o->which};
  TRY(weights_path(cfg, o->checkpoint, t->checkpoint));
  TRY(weights_state(cfg, t->checkpoint, &t->state));
  TRY(output_path(cfg, o->output, o->name, t->output));
  return output_claim(comm, t->output, o->format, o->input);
}

int task_open(Task *t, int64_t length, const char *key, int64_t batch) {
  return weights_open(&t->net, t->cfg, t->comm, t->checkpoint, t->which, &t->state, length, key, batch);
}

int task_publish(Task *t, double nll, int (*fill)(H5 *f, const void *arg), const void *arg) {
  int err = OK;
  if (t->comm->rank == 0 && !isfinite(nll))
    err = RAISE(ERR_NUMERIC, "%s: the nll is %g: its weights are damaged", t->checkpoint, nll);
  if (t->comm->rank == 0 && err == OK)
    err = output_write(t->output, t->format, t->cfg, t->checkpoint, &t->state, t->which, fill, arg);
  return comm_agree(t->comm, err);
}

void task_end(Task *t) {
  if (t == NULL) return;
  network_destroy(&t->net);
  checkpoint_state_destroy(&t->state);
  *t = (Task){0};
}
