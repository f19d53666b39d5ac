/* mdlm logits DECK [key=value…] — the network's raw output at given tokens and times, for probing models. */
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "cmd/cmd.h"
#include "cmd/task.h"
#include "store/draft.h"
#include "store/partial.h"
#include <math.h>
#include <string.h>

/* Logits of a batch are held on the host: at most this many bytes, but one sequence at least. */
static const double MOST_BYTES = 256 << 20;

typedef struct Logits {
  Task task;
  int64_t N, L, batch;
  int32_t *z;            /* [N,L] */
  int32_t *x;            /* [N,L], only with diffusion.block: the clean tokens */
  double *t, *sigma;     /* [N] */
  int32_t *length;       /* [N] */
  int32_t *label;        /* [N] classes, −1: none; only with model.classes */
  float *logits, *log_p; /* [batch,L,V]; log_p only with logits.log_p */
} Logits;

/* The dims of a required data set with `rank` dimensions, the first of which must be N unless N is 0. */
static int expect(H5 *f, const char *name, int rank, int64_t N, H5Info *info) {
  const char *shape = rank == 2 ? "[N,L]" : "[N]";
  CHECK(h5_exists(f, name), ERR_DATA, "%s: no data set %s %s", h5_path(f), name, shape);
  TRY(h5_info(f, name, info));
  bool real = strcmp(name, "/t") == 0;
  CHECK(real || h5_whole(info->type), ERR_DATA, "%s: %s must hold integers", h5_path(f), name);
  CHECK(info->rank == rank && (N == 0 || info->dims[0] == N) && info->dims[0] > 0 && info->dims[rank - 1] > 0, ERR_DATA,
        "%s: %s must have the shape %s%s", h5_path(f), name, shape, N ? ", N as z has it" : "");
  return OK;
}

/* A block also sees the clean tokens before it. */
static int read_clean(Logits *p, H5 *f) {
  H5Info info;
  TRY(expect(f, "/x", 2, p->N, &info));
  CHECK(info.dims[1] == p->L, ERR_DATA, "%s: /x must have the shape of /z", h5_path(f));
  TRY(mem_alloc(&p->x, (size_t)(p->N * p->L) * sizeof *p->x));
  return h5_read(f, "/x", H5_I32, 2, info.dims, p->x);
}

static int read_labels(Logits *p, H5 *f) {
  H5Info info;
  TRY(mem_alloc(&p->label, (size_t)p->N * sizeof *p->label));
  for (int64_t i = 0; i < p->N; i++) p->label[i] = -1;
  if (!h5_exists(f, "/label")) return OK;
  TRY(expect(f, "/label", 1, p->N, &info));
  return h5_read(f, "/label", H5_I32, 1, info.dims, p->label);
}

static int read_input(Logits *p, H5 *f) {
  H5Info info;
  TRY(expect(f, "/z", 2, 0, &info));
  p->N = info.dims[0], p->L = info.dims[1];
  TRY(mem_alloc(&p->z, (size_t)(p->N * p->L) * sizeof *p->z));
  TRY(mem_alloc(&p->t, (size_t)p->N * sizeof *p->t));
  TRY(mem_alloc(&p->sigma, (size_t)p->N * sizeof *p->sigma));
  TRY(mem_alloc(&p->length, (size_t)p->N * sizeof *p->length));
  TRY(h5_read(f, "/z", H5_I32, 2, info.dims, p->z));
  if (p->task.cfg->diffusion_block > 0) TRY(read_clean(p, f));
  TRY(expect(f, "/t", 1, p->N, &info));
  TRY(h5_read(f, "/t", H5_F64, 1, info.dims, p->t));
  for (int64_t i = 0; i < p->N; i++) p->length[i] = (int32_t)p->L;
  if (p->task.cfg->model_classes > 0) TRY(read_labels(p, f));
  if (!h5_exists(f, "/length")) return OK;
  TRY(expect(f, "/length", 1, p->N, &info));
  return h5_read(f, "/length", H5_I32, 1, info.dims, p->length);
}

static int check_tokens(const Logits *p, const char *path, const char *name, const int32_t *tokens) {
  for (int64_t i = 0; i < p->N * p->L; i++)
    CHECK(tokens[i] >= 0 && tokens[i] < p->task.state.vocab.size, ERR_DATA,
          "%s: %s[%lld,%lld] = %d is not a token: V = %lld in %s", path, name, (long long)(i / p->L),
          (long long)(i % p->L), tokens[i], (long long)p->task.state.vocab.size, p->task.checkpoint);
  return OK;
}

static int check_labels(const Logits *p, const char *path) {
  int64_t classes = p->task.cfg->model_classes;
  for (int64_t i = 0; i < p->N; i++)
    CHECK(p->label[i] >= -1 && p->label[i] < classes, ERR_DATA,
          "%s: label[%lld] = %d is neither a class from 0 to %lld nor -1, none", path, (long long)i, p->label[i],
          (long long)classes - 1);
  return OK;
}

static int check_input(const Logits *p, const char *path) {
  TRY(check_tokens(p, path, "z", p->z));
  if (p->label) TRY(check_labels(p, path));
  if (p->x) TRY(check_tokens(p, path, "x", p->x));
  for (int64_t i = 0; i < p->N; i++) {
    CHECK(p->t[i] >= 0 && p->t[i] <= 1, ERR_DATA, "%s: t[%lld] = %g is not between 0 and 1", path, (long long)i,
          p->t[i]);
    CHECK(p->length[i] >= 1 && p->length[i] <= p->L, ERR_DATA, "%s: length[%lld] = %d is not between 1 and L = %lld",
          path, (long long)i, p->length[i], (long long)p->L);
  }
  return OK;
}

/* Room for the logits of a batch. */
static int make_room(Logits *p) {
  const Config *cfg = p->task.cfg;
  double each = (double)(p->L * p->task.state.vocab.size) * sizeof(float);
  p->batch = each * (double)cfg->logits_batch < MOST_BYTES ? cfg->logits_batch : (int64_t)fmax(1, MOST_BYTES / each);
  if (p->batch > p->N) p->batch = p->N;
  size_t bytes = (size_t)p->batch * (size_t)each;
  TRY(mem_alloc(&p->logits, bytes));
  return cfg->logits_log_p ? mem_alloc(&p->log_p, bytes) : OK;
}

/* Noise levels of the network; scores need some noise. */
static int fill_sigma(Logits *p) {
  const Network *net = &p->task.net;
  bool score = net->objective.gives == GIVES_SCORE && p->log_p;
  for (int64_t i = 0; i < p->N; i++) {
    p->sigma[i] = objective_condition(&net->objective, p->t[i]);
    CHECK(!score || schedule_sigma(&net->schedule, p->t[i]) > 0, ERR_DATA,
          "%s: t[%lld] = 0 has no noise, where scores are infinite: use logits.log_p = false",
          p->task.cfg->logits_input, (long long)i);
  }
  return OK;
}

static int open_all(Logits *p, const Config *cfg, Comm *comm) {
  H5 *f = NULL;
  TaskOptions o = {.format = "mdlm-logits",
                   .checkpoint = cfg->logits_checkpoint,
                   .which = cfg->logits_weights,
                   .output = cfg->logits_output,
                   .name = "logits.h5",
                   .input = cfg->logits_input};
  CHECK(comm->size == 1, ERR_USAGE, "mdlm logits works on one rank, not on %d: start it without mpirun", comm->size);
  CHECK(*cfg->logits_input, ERR_USAGE, "logits.input is empty: name an HDF5 file with z [N,L] and t [N]");
  TRY(task_begin(&p->task, cfg, comm, &o));
  TRY(h5_open(&f, cfg->logits_input, false));
  int err = read_input(p, f);
  h5_close(&f);
  TRY(err);
  TRY(check_input(p, cfg->logits_input));
  TRY(make_room(p));
  TRY(task_open(&p->task, p->L, "logits.batch", p->batch));
  TRY(fill_sigma(p));
  char stamp[FILES_STAMP];
  files_stamp(cfg->logits_input, stamp);
  return task_key(&p->task, cfg, "logits", NULL, "input = %s (%s)\n", cfg->logits_input, stamp);
}

/* log p(x0 | z), or the log score, of B sequences from `first` on */
static int fill_log_p(Logits *p, int64_t first, int64_t B) {
  int64_t V = p->task.state.vocab.size;
  double *row = NULL;
  TRY(mem_alloc(&row, (size_t)V * sizeof *row));
  for (int64_t r = 0; r < B * p->L; r++) {
    objective_log_p(&p->task.net.objective, row, p->logits + r * V, p->z[first * p->L + r], p->t[first + r / p->L]);
    for (int64_t v = 0; v < V; v++) p->log_p[r * V + v] = (float)row[v];
  }
  mem_free(&row);
  return OK;
}

static int run_batch(Logits *p, H5 *f, int64_t first, int64_t B) {
  int64_t V = p->task.state.vocab.size, rows = B * p->L, chunk = p->task.net.rows.chunk;
  ModelInput in = {.B = B,
                   .ids = p->z + first * p->L,
                   .clean = p->x ? p->x + first * p->L : NULL,
                   .sigma = p->sigma + first,
                   .lengths = p->length + first,
                   .labels = p->label ? p->label + first : NULL};
  TRY(model_forward(&p->task.net.model, &in));
  for (int64_t r = 0; r < rows; r += chunk)
    TRY(rows_logits(&p->task.net.rows, r, rows - r < chunk ? rows - r : chunk, p->logits + r * V));
  TRY(h5_write_rows(f, "/logits", H5_F32, first, B, p->logits));
  if (p->log_p == NULL) return OK;
  TRY(fill_log_p(p, first, B));
  return h5_write_rows(f, "/log_p", H5_F32, first, B, p->log_p);
}

static int make_sets(const Logits *p, H5 *f) {
  int64_t dims[3] = {p->N, p->L, p->task.state.vocab.size};
  bool score = p->task.net.objective.gives == GIVES_SCORE;
  TRY(h5_make(f, "/logits", H5_F32, 3, dims, 0));
  TRY(h5_set_str(f, "/logits", "description", "raw output of the network, vocabulary fastest"));
  if (p->log_p == NULL) return OK;
  TRY(h5_make(f, "/log_p", H5_F32, 3, dims, 0));
  TRY(h5_set_str(f, "/log_p", "unit", "nat"));
  return h5_set_str(f, "/log_p", "description", score ? "log score" : "log p(x0 | z)");
}

/* The output of an interrupted run, or a new one. */
static int open_output(const Logits *p, H5 **f, int64_t *done) {
  const Task *t = &p->task;
  TRY(partial_open(f, t->partial, t->key, done));
  if (*f) return log_info("%lld of %lld sequences are in %s", (long long)*done, (long long)p->N, t->partial), OK;
  TRY(draft_create(f, t->output));
  int err = make_sets(p, *f);
  return err ? draft_publish(f, err, t->output) : OK;
}

/* The sequences from *done on; *stop: the signal that ended it early, or 0. */
static int run_all(Logits *p, H5 *f, int64_t *done, int *stop) {
  Progress progress;
  progress_start(&progress, "logits", "sequences", p->N);
  while (*done < p->N && !(*stop = stop_requested(NULL))) {
    int64_t B = p->N - *done < p->batch ? p->N - *done : p->batch;
    TRY(run_batch(p, f, *done, B));
    *done += B;
    progress_show(&progress, *done);
  }
  progress_end(&progress, *done);
  return OK;
}

static int complete(const Logits *p, H5 *f) {
  const Task *t = &p->task;
  TRY(partial_complete(f));
  TRY(output_attributes(f, t->format, t->cfg, t->checkpoint, &t->state, t->which));
  return h5_set_str(f, "/", "input", t->cfg->logits_input);
}

static int write_output(Logits *p, int64_t *done, int *stop) {
  const Task *t = &p->task;
  H5 *f = NULL;
  *stop = 0;
  TRY(open_output(p, &f, done));
  int err = run_all(p, f, done, stop);
  if (err == OK && *stop) return partial_keep(&f, t->partial, t->key, *done);
  if (err == OK) err = complete(p, f);
  TRY(draft_publish(&f, err, t->output));
  task_done(t); /* one that did not fit */
  return OK;
}

static int run(Logits *p, const Config *cfg, Comm *comm, int *exit_code) {
  const Task *t = &p->task;
  int64_t done;
  int stop;
  TRY(task_agree(&p->task, comm, open_all(p, cfg, comm)));
  TRY_ALL(comm, write_output(p, &done, &stop));
  if (stop) return task_stopped(t, stop, done, p->N, "sequences", exit_code), OK;
  log_info("logits%s of %lld sequences of %lld tokens, V = %lld, from %s (%s weights, step %lld): %s",
           p->log_p ? " and log_p" : "", (long long)p->N, (long long)p->L, (long long)t->state.vocab.size,
           t->checkpoint, t->which, (long long)t->state.step, t->output);
  return OK;
}

static int logits(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)argc, (void)argv;
  static Logits p;
  int err = run(&p, cfg, comm, exit_code);
  mem_free(&p.z);
  mem_free(&p.x);
  mem_free(&p.t);
  mem_free(&p.sigma);
  mem_free(&p.length);
  mem_free(&p.label);
  mem_free(&p.logits);
  mem_free(&p.log_p);
  task_end(&p.task);
  return err;
}

extern const Command command_logits;
const Command command_logits = {
    .name = "logits",
    .arguments = "DECK [key=value…]",
    .purpose = "output of the network at given tokens and times, HDF5 to HDF5",
    .deck = true,
    .stops = true,
    .run = logits,
    .about =
        "Writes the raw logits and, on request, log p(x0 | z) for the sequences and times of a file, which in block "
        "diffusion also has the clean tokens, and may have classes with model.classes. Runs on one rank. A stop "
        "(SIGTERM, SIGUSR1, SIGINT, SIGHUP) ends it after the current pass of the network and keeps what is "
        "finished in OUTPUT.part; the same command goes on from there.",
    .reads = "logits.input, logits.checkpoint (or the best of run.dir)",
    .writes = "logits.output (or logits.h5 in run.dir)",
    .sections = "run model diffusion logits device",
    .example = "mdlm logits deck.cfg run.dir=runs/a logits.input=z.h5 logits.log_p=true"};
