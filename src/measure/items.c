#include "measure/items.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "dist/share.h"
#include <string.h>

static const double SAVE_SECONDS = 60;

typedef struct Run {
  const ItemsWork *w; /* not owned, nor the next */
  Comm *comm;
  size_t bytes;      /* of an item's result */
  uint8_t *done;     /* [n] those of the partial file; on rank 0 those collected, too */
  int64_t *todo;     /* [todos] the others */
  int64_t todos, at; /* at: finished items of this rank's share */
  Share share;       /* of the todos */
  char *mine;        /* [share.part] results of this rank */
  char *all, *from;  /* rank 0: [n] results; [ranks, share.part] gathered ones */
  int64_t *counts;   /* rank 0: [ranks] finished items of each */
  double saved;
} Run;

static Partial partial_of(const ItemsWork *w) {
  return (Partial){.path = w->partial, .key = w->key, .type = w->type, .n = w->n, .columns = w->columns};
}

/* Rank 0: room for all results, and those of the partial file. */
static int begin_root(Run *r) {
  const ItemsWork *w = r->w;
  int64_t found;
  TRY(mem_alloc(&r->all, (size_t)w->n * r->bytes + 1));
  TRY(mem_alloc(&r->counts, (size_t)r->comm->size * sizeof *r->counts));
  if (!w->partial) return OK;
  Partial p = partial_of(w);
  TRY(partial_read(&p, r->all, r->done, &found));
  if (found > 0) log_info("%lld of %lld %s are in %s", (long long)found, (long long)w->n, w->units, w->partial);
  return OK;
}

/* Every rank: its share of what is not done. */
static int begin_share(Run *r) {
  const ItemsWork *w = r->w;
  TRY(mem_alloc(&r->todo, (size_t)w->n * sizeof *r->todo + 1));
  for (int64_t i = 0; i < w->n; i++)
    if (!r->done[i]) r->todo[r->todos++] = i;
  r->share = share_of(r->comm, r->todos, w->unit);
  size_t part = (size_t)r->share.part * r->bytes;
  TRY(mem_alloc(&r->mine, part + 1));
  return r->comm->rank == 0 ? mem_alloc(&r->from, part * (size_t)r->comm->size + 1) : OK;
}

static int begin(Run *r) {
  r->bytes = (size_t)r->w->columns * (r->w->type == H5_F64 ? sizeof(double) : sizeof(int32_t));
  TRY_ALL(r->comm, mem_alloc(&r->done, (size_t)r->w->n + 1));
  TRY_ALL(r->comm, r->comm->rank == 0 ? begin_root(r) : OK);
  TRY(comm_broadcast(r->comm, r->done, (size_t)r->w->n, 0));
  TRY_ALL(r->comm, begin_share(r));
  r->saved = clock_now();
  return OK;
}

static void end(Run *r) {
  mem_free(&r->done);
  mem_free(&r->todo);
  mem_free(&r->mine);
  mem_free(&r->all);
  mem_free(&r->from);
  mem_free(&r->counts);
}

/* The next batch of this rank's share. */
static int batch(Run *r) {
  const ItemsWork *w = r->w;
  const int64_t *items = r->todo + r->share.first + r->at;
  int64_t left = r->share.n - r->at, n = 1;
  if (left == 0) return OK;
  while (n < left && n < w->batch && (!w->neighbours || items[n] == items[n - 1] + 1)) n++;
  TRY(w->run(w->arg, items, n, r->mine + (size_t)r->at * r->bytes));
  r->at += n;
  return OK;
}

/* Rank 0: r->all and r->done of what every rank has finished. */
static int collect(Run *r) {
  TRY(comm_gather(r->comm, r->from, r->mine, (size_t)r->share.part * r->bytes, 0));
  TRY(comm_gather(r->comm, r->counts, &r->at, sizeof r->at, 0));
  for (int64_t rank = 0; rank < r->comm->size && r->comm->rank == 0; rank++) {
    const int64_t *items = r->todo + rank * r->share.part;
    const char *from = r->from + (size_t)(rank * r->share.part) * r->bytes;
    for (int64_t i = 0; i < r->counts[rank]; i++) {
      memcpy(r->all + (size_t)items[i] * r->bytes, from + (size_t)i * r->bytes, r->bytes);
      r->done[items[i]] = 1;
    }
  }
  return OK;
}

/* What is finished into the partial file. Only a `last` write must succeed: another one follows a failed one. */
static int save(Run *r, bool last) {
  TRY(collect(r));
  r->saved = clock_now();
  if (!r->w->partial) return OK;
  Partial p = partial_of(r->w);
  int err = r->comm->rank == 0 ? partial_write(&p, r->all, r->done) : OK;
  if (err && !last) {
    log_warn("%s; the computation goes on, and a stop would lose what it has finished", err_message());
    err_clear();
    err = OK;
  }
  return comm_agree(r->comm, err);
}

typedef struct Agreed { /* maxima over ranks */
  int64_t more, save, stop, failed;
} Agreed;

static int round_end(Run *r, int err, Agreed *a) {
  bool root = r->comm->rank == 0;
  *a = (Agreed){.more = r->at < r->share.n,
                .save = root && r->w->partial && clock_now() - r->saved > SAVE_SECONDS,
                .stop = stop_requested(NULL),
                .failed = err != OK && err != ERR_STOPPED};
  if (err == ERR_STOPPED) err_clear(), err = OK;
  TRY(comm_all_reduce(r->comm, a, sizeof *a / sizeof a->more, COMM_I64, COMM_MAX));
  return a->failed ? comm_agree(r->comm, err) : OK;
}

static int rounds(Run *r, int *stop) {
  const ItemsWork *w = r->w;
  Progress progress;
  Agreed a = {.more = 1};
  if (w->progress) progress_start(&progress, w->progress, w->units, r->share.n);
  TRY(round_end(r, OK, &a)); /* a stop while everything was loaded */
  while (a.more && !a.stop) {
    TRY(round_end(r, batch(r), &a));
    if (a.save || a.stop) TRY(save(r, a.stop));
    if (w->progress) progress_show(&progress, r->at);
  }
  if (w->progress) progress_end(&progress, r->at);
  *stop = (int)a.stop;
  return OK;
}

int items_run(const ItemsWork *work, Comm *comm, void **results, int64_t *done, int *stop) {
  Run r = {.w = work, .comm = comm};
  int err;
  *results = NULL, *done = *stop = 0;
  TRY_TO(done, begin(&r));
  TRY_TO(done, rounds(&r, stop));
  TRY_TO(done, collect(&r));
  for (int64_t i = 0; i < work->n && comm->rank == 0; i++) *done += r.done[i];
  if (*done == work->n) *stop = 0; /* the request came too late to matter */
  int64_t same[2] = {*done, *stop};
  TRY_TO(done, comm_broadcast(comm, same, sizeof same, 0));
  *done = same[0], *stop = (int)same[1];
  if (!*stop) *results = r.all, r.all = NULL;
done:
  end(&r);
  return err;
}

int items_stop(void) {
  return stop_requested(NULL) ? RAISE(ERR_STOPPED, "stopped by %s", stop_name(stop_requested(NULL))) : OK;
}
