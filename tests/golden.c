/* Differences are relative to the largest magnitude in the array. Both sides differ only in the order of sums, so the
 * bounds are far below the effect of a wrong formula and leave a margin for other compilers and libraries. */
#include "golden.h"
#include "toy.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "store/h5.h"
#include "train/optimizer.h"

static const double BOUND_F64 = 1e-12, BOUND_F32 = 2e-5;

typedef struct Golden { /* one group of the file on one backend */
  H5 *f;
  char group[64], network[16], lr_schedule[16];
  Network net;
  int64_t B, L, V;
  int64_t block, cells; /* diffusion.block; times: of the B sequences, or of all their blocks */
  double bound;
  bool conditioned, mask_padding;
  char **names; /* of the parameters, in order */
  int32_t *x0, *z, *lengths;
  int32_t *labels; /* NULL: without classes */
  double *times;   /* [4,cells] */
} Golden;
enum { U, T, CHANCE, SIGMA, TIMES };

/* ---- the file */
static int64_t size_of(Golden *g, const char *object, const char *name) {
  int64_t value = 0;
  MUST(h5_get_int(g->f, object, name, &value));
  return value;
}

static double real_of(Golden *g, const char *name) {
  double value = 0;
  MUST(h5_get_real(g->f, "/", name, &value));
  return value;
}

static void *host(int64_t n, size_t size) {
  void *p = NULL;
  MUST(mem_alloc(&p, (size_t)n * size));
  return p;
}

static const char *member(Golden *g, const char *name) {
  static char path[192];
  snprintf(path, sizeof path, "%s/%s", g->group, name);
  return path;
}

static void tokens_read(Golden *g, const char *name, int32_t **tokens) {
  *tokens = host(g->B * g->L, sizeof **tokens);
  MUST(h5_read(g->f, member(g, name), H5_I32, 2, (int64_t[]){g->B, g->L}, *tokens));
}

static double *numbers(Golden *g, const char *name, int rank, const int64_t *dims) {
  int64_t n = 1;
  for (int i = 0; i < rank; i++) n *= dims[i];
  double *values = host(n, sizeof *values);
  MUST(h5_read(g->f, member(g, name), H5_F64, rank, dims, values));
  return values;
}

static void batch_read(Golden *g) {
  tokens_read(g, "x0", &g->x0);
  tokens_read(g, "z", &g->z);
  g->times = numbers(g, "times", 2, (int64_t[]){TIMES, g->cells});
  g->lengths = host(g->B, sizeof *g->lengths);
  MUST(h5_read(g->f, "/lengths", H5_I32, 1, &g->B, g->lengths));
  if (g->net.model.options.classes == 0) return;
  g->labels = host(g->B, sizeof *g->labels);
  MUST(h5_read(g->f, "/labels", H5_I32, 1, &g->B, g->labels));
}

static void weights_read(Golden *g) {
  Params *p = &g->net.model.params;
  int n = 0;
  MUST(h5_list(g->f, "/params", &g->names));
  while (g->names[n]) n++;
  assert_int_equal(n, p->n); /* with the reads below: both sides have the same names */
  for (int i = 0; i < p->n; i++) {
    const Param *a = &p->list[i];
    char name[160];
    snprintf(name, sizeof name, "/params/%s", a->name);
    double *values = host(a->count, sizeof *values), *scratch = host(a->count, sizeof *scratch);
    MUST(h5_read(g->f, name, H5_F64, a->rank, a->dims, values));
    MUST(tensor_from_f64(&g->net.dev, a->value, values, scratch));
    mem_free(&values);
    mem_free(&scratch);
  }
}

/* ---- comparison */
static void compare(Golden *g, const char *what, double bound, const double *got, const double *want, int64_t n) {
  double error = check_error(got, want, n);
  if (!(error <= bound))
    fail_msg("%s: %s of %s is off by %.1e, more than %.0e", g->net.dev.ops->name, what, g->group, error, bound);
}

/* flat: a buffer with the layout of the parameters, compared after scaling; the file lists parameters by name */
static void compare_flat(Golden *g, const char *what, Tensor flat, double scale) {
  Params *p = &g->net.model.params;
  int64_t n = params_elements(p), first = 0;
  double *want = numbers(g, what, 1, &n), *got = toy_values(&g->net, flat);
  for (int64_t i = 0; i < p->count; i++) got[i] *= scale;
  for (char **name = g->names; *name; name++) {
    const Param *a = params_find(p, *name);
    char title[192];
    snprintf(title, sizeof title, "%s/%s", what, *name);
    compare(g, title, g->bound, got + a->offset, want + first, a->count);
    first += a->count;
  }
  mem_free(&want);
  mem_free(&got);
}

/* ---- a case: the batch in passes of a few sequences */
static void compare_times(Golden *g) {
  const Objective *o = &g->net.objective;
  for (int64_t i = 0; i < g->cells && o->diffusion; i++) {
    double t = objective_train_time(o, g->times[U * g->cells + i]), chance = objective_masked(o, t);
    compare(g, "t", BOUND_F64, &t, &g->times[T * g->cells + i], 1);
    compare(g, "chance", BOUND_F64, &chance, &g->times[CHANCE * g->cells + i], 1);
  }
}

/* The time of block k of sequence b. */
static double time_of(const Golden *g, int64_t b, int64_t k) {
  return g->times[T * g->cells + b * (g->cells / g->B) + k];
}

/* Sequence b of the file as number i of the batch. Each block is added with all others, at its own time, and its rows
 * are kept. */
static void add(Golden *g, int64_t i, int64_t b) {
  Noised *n = &g->net.noised;
  int64_t blocks = g->cells / g->B, size = g->L / blocks, masked = n->masked, scored = n->scored;
  for (int64_t k = 0; k < blocks; k++) {
    int64_t first = n->n_rows, kept = first;
    n->masked = masked, n->scored = scored;
    noised_add(&g->net.objective, n, i, g->x0 + b * g->L, g->lengths[b], time_of(g, b, k));
    noised_reweigh(&g->net.objective, n, first, time_of(g, b, k));
    for (int64_t r = first; r < n->n_rows && blocks > 1; r++) {
      if (n->rows[r] % g->L / size != k) continue;
      n->rows[kept] = n->rows[r], n->target[kept] = n->target[r], n->weight[kept++] = n->weight[r];
    }
    if (blocks > 1) n->n_rows = kept;
  }
}

static void fill(Golden *g, int64_t first, int64_t n) {
  Noised *noised = &g->net.noised;
  noised_begin(noised, n);
  memcpy(noised->z, g->z + first * g->L, (size_t)(n * g->L) * sizeof *g->z);
  for (int64_t b = first; b < first + n && g->labels; b++) noised->label[b - first] = g->labels[b];
  for (int64_t b = first; b < first + n; b++) add(g, b - first, b);
  if (g->conditioned) compare(g, "sigma", BOUND_F64, noised->sigma, &g->times[SIGMA * g->B + first], n);
}

/* raw logits of the n sequences, [n,L,V]; set to 0 at padding that attention does not see, where they are arbitrary */
static double *logits_of(Golden *g, int64_t first, int64_t n) {
  Network *net = &g->net;
  const Noised *z = &net->noised;
  ModelInput in = {.B = n, .ids = z->z, .sigma = z->sigma, .labels = z->label, .lengths = z->length};
  if (g->block) in.clean = net->noised.x0;
  size_t bytes = (size_t)(n * g->L * g->V) * dtype_size(net->dev.real);
  void *memory = NULL;
  MUST(device_alloc(&net->dev, &memory, bytes));
  Tensor logits = tensor_2d(memory, net->dev.real, n * g->L, g->V);
  MUST(model_forward(&net->model, &in));
  MUST(model_logits(&net->model, logits, tensor_rows(net->model.h, 0, n * g->L)));
  double *values = toy_values(net, logits);
  device_release(&net->dev, memory, bytes);
  for (int64_t i = 0; i < n * g->L * g->V && g->mask_padding; i++)
    if (i / g->V % g->L >= g->lengths[first + i / g->V / g->L]) values[i] = 0;
  return values;
}

/* log p(x0 | z) from logits, which log_p takes as floats on every device */
static void compare_log_p(Golden *g, int64_t first, int64_t n, const double *logits) {
  int64_t each = g->L * g->V, dims[3] = {g->B, g->L, g->V};
  if (!h5_exists(g->f, member(g, "log_p"))) return;
  double *want = numbers(g, "log_p", 3, dims), *got = host(n * each, sizeof *got);
  float *f = host(g->V, sizeof *f);
  for (int64_t r = 0; r < n * g->L; r++) {
    int64_t b = first + r / g->L;
    for (int64_t v = 0; v < g->V; v++) f[v] = (float)logits[r * g->V + v];
    objective_log_p(&g->net.objective, got + r * g->V, f, g->z[first * g->L + r], time_of(g, b, 0));
    bool pad = g->mask_padding && r % g->L >= g->lengths[b];
    for (int64_t v = 0; v < g->V && pad; v++) got[r * g->V + v] = 0;
  }
  compare(g, "log_p", BOUND_F32, got, want + first * each, n * each);
  mem_free(&want);
  mem_free(&got);
  mem_free(&f);
}

static void compare_logits(Golden *g, int64_t first, int64_t n) {
  int64_t each = g->L * g->V, dims[3] = {g->B, g->L, g->V};
  double *want = numbers(g, "logits", 3, dims), *got = logits_of(g, first, n);
  compare(g, "logits", g->bound, got, want + first * each, n * each);
  compare_log_p(g, first, n, got);
  mem_free(&want);
  mem_free(&got);
}

static void one_case(Golden *g, int64_t most) {
  double *want = numbers(g, "loss", 1, &g->B), *loss = host(g->B, sizeof *loss);
  bool gradient = h5_exists(g->f, member(g, "grads"));
  int64_t scored = 0, rows = 0;
  compare_times(g);
  if (gradient) MUST(tensor_zero(&g->net.dev, g->net.model.params.grad));
  for (int64_t first = 0; first < g->B; first += most) {
    int64_t n = g->B - first < most ? g->B - first : most;
    fill(g, first, n);
    compare_logits(g, first, n);
    scored += g->net.noised.scored;
    MUST(network_loss(&g->net, &toy_none, gradient, loss + first, &rows));
  }
  compare(g, "loss", g->bound, loss, want, g->B);
  if (gradient) compare_flat(g, "grads", g->net.model.params.grad, 1 / (double)scored);
  mem_free(&want);
  mem_free(&loss);
}

/* ---- the recipe */
/* Returns the loss; the gradient is that of the sum over scored positions. */
static double batch_gradient(Golden *g) {
  double *loss = host(g->B, sizeof *loss), sum = 0;
  int64_t rows = 0;
  fill(g, 0, g->B);
  MUST(tensor_zero(&g->net.dev, g->net.model.params.grad));
  MUST(network_loss(&g->net, &toy_none, true, loss, &rows));
  for (int64_t b = 0; b < g->B; b++) sum += loss[b];
  mem_free(&loss);
  return sum / (double)g->net.noised.scored;
}

static void recipe_open(Golden *g, Optimizer *o) {
  MUST(h5_get_text(g->f, g->group, "lr_schedule", g->lr_schedule, sizeof g->lr_schedule));
  OptimizerOptions recipe = {.lr = {.name = g->lr_schedule,
                                    .peak = real_of(g, "lr"),
                                    .min = real_of(g, "lr_min"),
                                    .warmup = size_of(g, "/", "warmup"),
                                    .steps = size_of(g, "/", "steps")},
                             .beta1 = real_of(g, "beta1"),
                             .beta2 = real_of(g, "beta2"),
                             .eps = real_of(g, "adam_eps"),
                             .weight_decay = real_of(g, "weight_decay"),
                             .clip = real_of(g, "clip"),
                             .ema = real_of(g, "ema")};
  MUST(optimizer_create(o, &g->net.model.params, &recipe));
  MUST(optimizer_begin(o));
}

static void steps(Golden *g) {
  int64_t n = size_of(g, "/", "steps");
  Optimizer o;
  double *loss = host(n, sizeof *loss), *norm = host(n, sizeof *norm);
  double *want_loss = numbers(g, "loss", 1, &n), *want_norm = numbers(g, "norm", 1, &n);
  recipe_open(g, &o);
  for (int64_t i = 0; i < n; i++) {
    double squares, lr;
    loss[i] = batch_gradient(g);
    MUST(optimizer_squares(&o, &squares));
    MUST(optimizer_step(&o, squares, 1.0 / (double)g->net.noised.scored, &norm[i], &lr));
  }
  compare(g, "loss", g->bound, loss, want_loss, n);
  compare(g, "norm", g->bound, norm, want_norm, n);
  const Tensor state[] = {g->net.model.params.value, o.ema, o.m, o.v};
  static const char *const names[] = {"params", "ema", "m", "v"};
  for (int i = 0; i < 4; i++)
    if (h5_exists(g->f, member(g, names[i]))) compare_flat(g, names[i], state[i], 1);
  optimizer_destroy(&o);
  mem_free(&loss);
  mem_free(&norm);
  mem_free(&want_loss);
  mem_free(&want_norm);
}

/* ---- set-up: the network and objective of /cases/NAME */
static void network_open(Golden *g, const char *backend, int64_t row_chunk) {
  char objective[16], schedule[16];
  MUST(h5_get_text(g->f, "/", "network", g->network, sizeof g->network));
  MUST(h5_get_text(g->f, g->group, "objective", objective, sizeof objective));
  MUST(h5_get_text(g->f, g->group, "schedule", schedule, sizeof schedule));
  Toy toy = {.device = {.name = backend, .threads = 1, .row_chunk = row_chunk},
             .model = {.name = g->network,
                       .vocab = g->V,
                       .length = g->L,
                       .batch = g->B,
                       .width = size_of(g, "/", "width"),
                       .blocks = size_of(g, "/", "blocks"),
                       .heads = size_of(g, "/", "heads"),
                       .cond_dim = size_of(g, "/", "cond_dim"),
                       .mlp_ratio = size_of(g, "/", "mlp_ratio"),
                       .time_conditioning = g->conditioned,
                       .mask_padding = g->mask_padding,
                       .classes = h5_has(g->f, "/", "classes") ? size_of(g, "/", "classes") : 0,
                       .block = g->block,
                       .training = strcmp(g->network, "gpt2") != 0},
             .mask = (int32_t)size_of(g, "/", "mask"),
             .eps = real_of(g, "schedule_eps"),
             .schedule = schedule,
             .objective = {.name = objective,
                           .T = size_of(g, g->group, "T"),
                           .block = g->block,
                           .subs_masking = size_of(g, g->group, "subs_masking"),
                           .law = {.name = size_of(g, g->group, "importance_sampling") ? "importance" : "uniform"},
                           .change_of_variables = size_of(g, g->group, "change_of_variables")}};
  toy_open(&g->net, &toy);
}

static void golden_open(Golden *g, const char *path, const char *name, const char *backend, int64_t row_chunk) {
  *g = (Golden){.bound = strcmp(backend, "cpu_f64") ? BOUND_F32 : BOUND_F64};
  MUST(h5_open(&g->f, path, false));
  snprintf(g->group, sizeof g->group, "/cases/%s", name);
  g->B = size_of(g, "/", "batch"), g->L = size_of(g, "/", "length"), g->V = size_of(g, "/", "vocab");
  if (h5_has(g->f, g->group, "block")) g->block = size_of(g, g->group, "block");
  g->cells = g->B * (g->block ? g->L / g->block : 1);
  g->conditioned = size_of(g, g->group, "time_conditioning");
  g->mask_padding = size_of(g, g->group, "mask_padding");
  network_open(g, backend, row_chunk);
  batch_read(g);
  weights_read(g);
}

static void golden_close(Golden *g) {
  h5_list_free(&g->names);
  mem_free(&g->x0);
  mem_free(&g->z);
  mem_free(&g->lengths);
  mem_free(&g->labels);
  mem_free(&g->times);
  network_destroy(&g->net);
  MUST(h5_close(&g->f));
}

/* ---- one test for each group of the file and each backend */
typedef struct Job {
  const char *path, *backend; /* not owned */
  char group[64], title[96];
} Job;
enum { JOBS = 96 };

/* in one pass, then with two sequences and four rows of logits at a time: gradients accumulate over micro-batches */
static void test_case(void **state) {
  const Job *job = *state;
  Golden g;
  golden_open(&g, job->path, job->group, job->backend, 0);
  one_case(&g, g.B);
  golden_close(&g);
  golden_open(&g, job->path, job->group, job->backend, 4);
  one_case(&g, 2);
  golden_close(&g);
}

static void test_steps(void **state) {
  const Job *job = *state;
  char group[64], name[64];
  H5 *f = NULL;
  Golden g;
  snprintf(group, sizeof group, "/steps/%.50s", job->group);
  MUST(h5_open(&f, job->path, false));
  MUST(h5_get_text(f, group, "case", name, sizeof name));
  MUST(h5_close(&f));
  golden_open(&g, job->path, name, job->backend, 0);
  memcpy(g.group, group, sizeof g.group); /* the batch is that of the case; the rest is in this group */
  steps(&g);
  golden_close(&g);
}

static int add_jobs(H5 *f, const char *path, const char *kind, Job *jobs, struct CMUnitTest *tests, int *count) {
  static const char *const devices[] = {"cpu_f64", "cpu"};
  char **names = NULL;
  TRY(h5_list(f, kind, &names));
  for (char **name = names; *name; name++)
    for (int i = 0; i < 2; i++) {
      CHECK(*count < JOBS, ERR_DATA, "%s: too many cases", path);
      Job *job = &jobs[*count];
      *job = (Job){.path = path, .backend = devices[i]};
      snprintf(job->group, sizeof job->group, "%s", *name);
      snprintf(job->title, sizeof job->title, "%s %.60s (%s)", kind + 1, *name, devices[i]);
      tests[(*count)++] = (struct CMUnitTest){
          .name = job->title, .test_func = strcmp(kind, "/steps") ? test_case : test_steps, .initial_state = job};
    }
  h5_list_free(&names);
  return OK;
}

static int list_jobs(const char *path, Job *jobs, struct CMUnitTest *tests, int *count) {
  H5 *f = NULL;
  TRY(h5_open(&f, path, false));
  TRY(add_jobs(f, path, "/cases", jobs, tests, count));
  TRY(add_jobs(f, path, "/steps", jobs, tests, count));
  return h5_close(&f);
}

int golden_main(const char *path) {
  static Job jobs[JOBS];
  static struct CMUnitTest tests[JOBS];
  int count = 0;
  if (list_jobs(path, jobs, tests, &count) || count == 0) {
    fprintf(stderr, "%s: %s\n", path, err_message());
    return 1;
  }
  return _cmocka_run_group_tests(path, tests, (size_t)count, NULL, NULL);
}
