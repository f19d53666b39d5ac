/* bench SHAPE MATMUL [steps [micro-batches per step [network [objective [device]]]]] [key=value…] — training speed on
 * synthetic tokens: tokens/s, GFLOP/s, the share of each group of ops, and the ratio to the time that oneDNN alone
 * needs for the same matrix products. Each rank processes its own micro-batch (weak scaling). SHAPE: demo, tiny,
 * tiny1024, small128, small1024, medium1024. MATMUL: f32, bf16. Network and objective as in a deck, by default dit and
 * subs. key=value overrides the resulting deck. Threads per rank: OMP_NUM_THREADS.
 * On device cuda micro-batches are larger and the result is two JSON objects, each printed as soon as it is measured.
 * The first has the times of whole steps, since the host does not wait for single ops, the loss of the last step,
 * memory and the attention kernel. The second has the time of a forward pass without training, for one sequence and
 * for up to 64. With 0 steps the result is the time of the samples that section `sample` describes. */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/version.h"
#include "bench/alone.h"
#include "bench/median.h"
#include "bench/samples.h"
#include "diffusion/timestep.h"
#include "dist/comm.h"
#include "network/network.h"
#include "train/optimizer.h"
#include "train/reduce.h"
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Shape {
  const char *name;
  int64_t width, blocks, heads, cond_dim, vocab, length, batch, gpu_batch;
} Shape;

static const Shape shapes[] = {{"demo", 128, 3, 4, 32, 512, 16, 8, 8},
                               {"tiny", 256, 6, 4, 128, 4096, 128, 16, 16},
                               {"tiny1024", 256, 6, 4, 128, 4096, 1024, 2, 2},
                               {"small128", 768, 12, 12, 128, 30522, 128, 8, 256},
                               {"small1024", 768, 12, 12, 128, 50258, 1024, 1, 64},
                               {"medium1024", 1024, 24, 16, 128, 50258, 1024, 1, 32}};
enum { STEPS = 64, LOOK_TIMES = 9, WORDS = 32, WORD = 128 };

typedef struct Bench {
  Shape shape;
  const char *matmul, *network, *objective, *device;
  char **overrides; /* key=value */
  int override_count;
  Comm comm;
  Network net;
  Optimizer optimizer;
  Reduction reduction;
  int32_t *tokens;
  int64_t step, rows, micros; /* micros: micro-batches a step */
  double loss;                /* of the last step, nat per position */
} Bench;

/* The deck of the shape; overrides on the command line come last and win. d3pm needs discrete time; d3pm and sedd
 * condition the network on time. */
static int describe(Config *cfg, const Bench *b) {
  const Shape *s = &b->shape;
  bool d3pm = strcmp(b->objective, "d3pm") == 0, timed = d3pm || strcmp(b->objective, "sedd") == 0;
  char text[10][WORD], *words[WORDS];
  int n = 0;
  snprintf(text[n++], WORD, "model.name=%s", b->network);
  snprintf(text[n++], WORD, "diffusion.objective=%s", b->objective);
  snprintf(text[n++], WORD, "diffusion.T=%d", d3pm ? 1000 : 0);
  snprintf(text[n++], WORD, "device.matmul=%s", b->matmul);
  snprintf(text[n++], WORD, "device.name=%s", b->device);
  snprintf(text[n++], WORD, "model.time_conditioning=%s", timed ? "true" : "false");
  snprintf(text[n++], WORD, "model.width=%lld", (long long)s->width);
  snprintf(text[n++], WORD, "model.blocks=%lld", (long long)s->blocks);
  snprintf(text[n++], WORD, "model.heads=%lld", (long long)s->heads);
  snprintf(text[n++], WORD, "model.cond_dim=%lld", (long long)s->cond_dim);
  CHECK(n + b->override_count <= WORDS, ERR_USAGE, "at most %d words key=value", WORDS - n);
  for (int i = 0; i < n; i++) words[i] = text[i];
  for (int i = 0; i < b->override_count; i++) words[n + i] = b->overrides[i];
  return config_load(cfg, NULL, n + b->override_count, words);
}

static int open_network(Bench *b, int64_t batch, bool training) {
  const char *threads = getenv("OMP_NUM_THREADS");
  const Shape *s = &b->shape;
  Config cfg;
  TRY(describe(&cfg, b));
  cfg.device_threads = threads ? atoi(threads) : 1;
  NetworkOptions network = {.cfg = &cfg,
                            .place = b->comm.place,
                            .vocab = s->vocab,
                            .length = s->length,
                            .mask = (int32_t)s->vocab - 1,
                            .batch = batch,
                            .training = training};
  int err = network_create(&b->net, &network);
  config_free(&cfg);
  return err;
}

static int build(Bench *b) {
  const Shape *s = &b->shape;
  TRY(open_network(b, s->batch, true));
  OptimizerOptions o = {
      .lr = {.peak = 3e-4, .warmup = 10}, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .clip = 1, .ema = 0.9999};
  Params *p = &b->net.model.params;
  TRY(params_init(p, 1));
  TRY(optimizer_create(&b->optimizer, p, &o));
  TRY(optimizer_begin(&b->optimizer));
  TRY(reduction_create(&b->reduction, &b->comm, p, true, b->comm.size * b->micros, b->comm.size));
  return mem_alloc(&b->tokens, (size_t)(s->batch * s->length) * sizeof *b->tokens);
}

static void noise(Bench *b) {
  const Shape *s = &b->shape;
  noised_begin(&b->net.noised, s->batch);
  for (int64_t i = 0; i < s->batch; i++) {
    int64_t sequence = b->comm.rank * s->batch + i;
    RngKey text = rng_key(1, RNG_TEST, 0, (uint64_t)b->step, (uint64_t)sequence);
    RngKey mask = rng_key(1, RNG_MASK, 0, (uint64_t)b->step, (uint64_t)sequence);
    int32_t *x0 = b->tokens + i * s->length;
    for (int64_t l = 0; l < s->length; l++) x0[l] = (int32_t)(rng_uniform(text, (uint64_t)l) * (double)(s->vocab - 1));
    const Objective *o = &b->net.objective;
    Noised *n = &b->net.noised;
    int64_t all = s->batch * b->comm.size, cell = timestep_cell(1, RNG_TIME, b->step, sequence, all);
    timestep_blocks(n->t, objective_blocks(o, s->length), 1, RNG_TIME, b->step, sequence, cell, all, true, o->tau);
    noised_draw(o, n, i, x0, s->length, n->t, mask);
  }
}

static int train_step(Bench *b) {
  Network *n = &b->net;
  Dropout dropout = {.p = 0.1, .seed = 1, .step = (uint64_t)b->step++, .first = b->comm.rank * b->shape.batch};
  TRY(reduction_begin(&b->reduction));
  for (int64_t i = 0; i < b->micros; i++) {
    b->rows = 0;
    noise(b);
    n->ready = reduction_ready(&b->reduction);
    TRY(network_loss(n, &dropout, true, NULL, &b->rows));
    TRY(reduction_add(&b->reduction));
  }
  TRY(reduction_finish(&b->reduction));
  double squares, norm, lr, positions = (double)(b->shape.batch * b->shape.length);
  TRY(optimizer_squares(&b->optimizer, &squares));
  TRY(rows_total(&n->rows, &b->loss));
  b->loss /= positions * (double)b->micros;
  return optimizer_step(&b->optimizer, squares, 1.0 / positions, &norm, &lr);
}

typedef struct Floor { /* lower bound: the matrix products of a step */
  double seconds, flops;
} Floor;

/* y = x wᵀ, dx = dy w, dw = dyᵀ x, `times` times. */
static void floor_add(Floor *f, bool bf16, double times, int64_t rows, const Param *w) {
  int64_t out = w->dims[0], in = w->dims[1];
  f->flops += 6 * times * (double)(rows * out * in);
  f->seconds += times * (alone_seconds(bf16, false, true, rows, out, in, 5) +
                         alone_seconds(bf16, false, false, rows, in, out, 5) +
                         alone_seconds(bf16, true, false, out, in, rows, 5));
}

/* Whether only scored rows pass through a matrix other than the head: the last ones, late_flops in all. */
static bool late(const Model *m, const Param *w) {
  const Param *list = m->params.list, *head = &list[m->head_weight];
  double after = 0;
  for (const Param *x = w; x < list + m->params.n; x++)
    if (x->matrix && x != head) after += 2 * (double)x->count;
  return after <= m->late_flops;
}

/* The time oneDNN alone needs: every large matrix multiplies every row of every pass once, in block diffusion those of both
 * halves; the late ones only the scored rows, the head these chunk by chunk. Matrices of equal shape and rows are measured
 * once. */
static Floor dense_floor(const Bench *b, bool bf16) {
  const Model *m = &b->net.model;
  const Param *list = m->params.list, *head = &list[m->head_weight];
  int64_t R = b->shape.batch * b->shape.length * (m->options.block ? 2 : 1),
          chunk = b->rows < b->net.rows.chunk ? b->rows : b->net.rows.chunk;
  double micros = (double)b->micros, passes = network_passes(&b->net);
  Floor f = {0};
  floor_add(&f, bf16, micros * (double)b->rows / (double)chunk, chunk, head);
  for (const Param *w = list; w < list + m->params.n; w++) {
    int equal = 0, before = 0;
    for (const Param *x = list; x < list + m->params.n; x++)
      if (x->matrix && x != head && x->dims[0] == w->dims[0] && x->dims[1] == w->dims[1] && late(m, x) == late(m, w))
        equal++, before += x < w;
    if (!w->matrix || w == head || before > 0) continue;
    floor_add(&f, bf16, micros * passes * equal, late(m, w) ? b->rows / (int64_t)passes : R, w);
  }
  return f;
}

/* Seconds of each step, after two warm-up steps. */
static int time_steps(Bench *b, int steps, double *times) {
  Device *dev = &b->net.dev;
  for (int i = 0; i < 2; i++) TRY(train_step(b));
  TRY(device_sync(dev));
  device_profile_reset(dev);
  size_t allocations = mem_count(), held = dev->allocated;
  for (int i = 0; i < steps; i++) {
    TRY(comm_barrier(&b->comm));
    double start = clock_now();
    TRY(train_step(b));
    TRY(device_sync(dev));
    times[i] = clock_now() - start;
    TRY(comm_max(&b->comm, &times[i]));
  }
  ASSERT(mem_count() == allocations && dev->allocated == held);
  return OK;
}

/* ---- on the CPU */
static int report_host(Bench *b, int steps, double *times) {
  Device *dev = &b->net.dev;
  double step = median(times, steps), tokens = (double)(b->micros * b->shape.batch * b->shape.length), spent = 0,
         all = 0, work = 0;
  for (int i = 0; i < steps; i++) all += times[i] / steps;
  for (int g = 0; g < GROUPS; g++) {
    work += dev->flops[g] / steps;
    spent += dev->seconds[g] / steps;
  }
  Floor floor = {0};
  double dense = dev->flops[GROUP_DENSE] / steps;
  if (b->comm.size == 1) {
    floor = dense_floor(b, strcmp(b->matmul, "bf16") == 0);
    CHECK(fabs(floor.flops / dense - 1) < 0.1, ERR_SHAPE, "%s: the floor has %g of the %g floating-point operations",
          b->network, floor.flops, dense);
  }
  log_info("%-9s %-4s %s/%s %d×%d  %9.1f tokens/s  %7.1f GFLOP/s a rank  step %.3f s", b->shape.name, b->matmul,
           b->network, b->objective, b->comm.size, dev->threads, tokens * b->comm.size / step, work / step / 1e9, step);
  log_info("         step / products: %.3f ps a FLOP", step / dense * 1e12);
  char shares[256] = "";
  for (int g = 0; g < GROUPS; g++)
    snprintf(shares + strlen(shares), sizeof shares - strlen(shares), "  %s %.1f%%", op_group_name((OpGroup)g),
             100 * dev->seconds[g] / steps / all);
  log_info("         share of the step:%s  rest %.1f%%", shares, 100 * (1 - spent / all));
  log_info("         moved: block %.1f GB/s, update %.1f GB/s",
           dev->bytes[GROUP_BLOCK] / dev->seconds[GROUP_BLOCK] / 1e9,
           dev->bytes[GROUP_UPDATE] / dev->seconds[GROUP_UPDATE] / 1e9);
  if (floor.seconds > 0)
    log_info("         products: %.1f GFLOP/s, oneDNN alone %.1f: ratio %.2f; step / floor of products %.2f",
             dev->flops[GROUP_DENSE] / dev->seconds[GROUP_DENSE] / 1e9, floor.flops / floor.seconds / 1e9,
             floor.seconds / (dev->seconds[GROUP_DENSE] / steps), step / floor.seconds);
  return OK;
}

/* ---- on a GPU */
static void print_groups(const char *name, const double *sum, int steps) {
  printf("\"%s\": {", name);
  for (int g = 0; g < GROUPS; g++) printf("%s\"%s\": %.4e", g ? ", " : "", op_group_name((OpGroup)g), sum[g] / steps);
  printf("}, ");
}

/* What was measured, by what: the fields that all objects begin with. */
static void print_subject(const Bench *b) {
  const Device *dev = &b->net.dev;
  printf("{\"shape\": \"%s\", \"matmul\": \"%s\", \"network\": \"%s\", \"objective\": \"%s\", \"device\": \"%s\", "
         "\"deterministic\": %s, \"attention\": \"%s\", \"library\": \"%s\", \"program\": \"%s\", ",
         b->shape.name, b->matmul, b->network, b->objective, b->device, dev->deterministic ? "true" : "false",
         dev->attention ? dev->attention : "none", dev->ops->library(), version_git());
}

static void report_device(const Bench *b, int steps, double *times, size_t used) {
  const Device *dev = &b->net.dev;
  double step = median(times, steps), tokens = (double)(b->micros * b->shape.batch * b->shape.length) * b->comm.size;
  print_subject(b);
  printf("\"ranks\": %d, \"batch\": %lld, \"micros\": %lld, \"length\": %lld, \"parameters\": %lld, ", b->comm.size,
         (long long)b->shape.batch, (long long)b->micros, (long long)b->shape.length,
         (long long)params_elements(&b->net.model.params));
  printf("\"step_s\": %.6f, \"least_s\": %.6f, \"most_s\": %.6f, \"tokens_per_s\": %.1f, \"loss\": %.4f, "
         "\"allocated_bytes\": %zu, \"used_bytes\": %zu, ",
         step, times[0], times[steps - 1], tokens / step, b->loss, dev->allocated, used);
  print_groups("flops", dev->flops, steps);
  print_groups("bytes", dev->bytes, steps);
  print_groups("host_s", dev->seconds, steps);
  printf("\"steps\": %d}\n", steps);
  fflush(stdout);
}

/* Median seconds of one forward pass of B sequences, without the head. */
static int time_look(Bench *b, int64_t B, double *seconds) {
  double t[LOOK_TIMES], sigma[64] = {0};
  ModelInput in = {.B = B, .ids = b->tokens, .sigma = sigma};
  for (int i = -2; i < LOOK_TIMES; i++) {
    double start = clock_now();
    TRY(model_forward(&b->net.model, &in));
    TRY(device_sync(&b->net.dev));
    if (i >= 0) t[i] = clock_now() - start;
  }
  *seconds = median(t, LOOK_TIMES);
  return OK;
}

static int open_inference(Bench *b) {
  TRY(open_network(b, b->shape.batch < 64 ? b->shape.batch : 64, false));
  return params_init(&b->net.model.params, 1);
}

static int bench_device(Bench *b, int steps, double *times) {
  size_t free, total;
  double one, many;
  TRY(build(b));
  TRY(time_steps(b, steps, times));
  TRY(device_memory(&b->net.dev, &free, &total));
  if (b->comm.rank == 0) report_device(b, steps, times, total - free);
  reduction_destroy(&b->reduction);
  optimizer_destroy(&b->optimizer);
  network_destroy(&b->net);
  TRY(open_inference(b));
  int64_t batch = b->net.model.options.batch;
  TRY(time_look(b, 1, &one));
  TRY(time_look(b, batch, &many));
  if (b->comm.rank > 0) return OK;
  print_subject(b);
  printf("\"look_1_s\": %.6f, \"look_batch\": %lld, \"look_batch_s\": %.6f}\n", one, (long long)batch, many);
  return OK;
}

static int bench_samples(Bench *b) {
  Config cfg;
  Samples s;
  TRY(open_inference(b));
  TRY(describe(&cfg, b));
  int err = samples_time(&s, &b->net, &cfg);
  if (err == OK) {
    print_subject(b);
    printf("\"sampler\": \"%s\", \"samples\": %lld, \"batch\": %lld, \"length\": %lld, \"sampler_steps\": %lld, "
           "\"seconds\": %.4f, \"passes\": %lld, \"sequences\": %lld, \"allocated_bytes\": %lld}\n",
           cfg.sample_sampler, (long long)cfg.sample_count, (long long)b->net.model.options.batch,
           (long long)b->shape.length, (long long)cfg.sample_steps, s.seconds, (long long)s.passes,
           (long long)s.sequences, (long long)s.allocated);
  }
  config_free(&cfg);
  return err;
}

static int run(Bench *b, int steps) {
  double times[STEPS];
  if (steps == 0) return bench_samples(b);
  if (strcmp(b->device, "cpu") != 0) return bench_device(b, steps, times);
  TRY(build(b));
  TRY(time_steps(b, steps, times));
  return report_host(b, steps, times);
}

/* Parse the command line into b and *steps: positional words, then key=value. */
static int parse(Bench *b, int argc, char **argv, int *steps) {
  int n = 1;
  while (n < argc && strchr(argv[n], '=') == NULL) n++;
  b->overrides = argv + n;
  b->override_count = argc - n;
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes && n > 2; i++)
    if (strcmp(argv[1], shapes[i].name) == 0) b->shape = shapes[i];
  CHECK(b->shape.name && n <= 8, ERR_USAGE,
        "usage: bench demo|tiny|tiny1024|small128|small1024|medium1024 f32|bf16 [steps ≤ %d [micro-batches per step "
        "[network [objective [device]]]]] [key=value…]",
        STEPS);
  b->matmul = argv[2];
  *steps = n > 3 ? atoi(argv[3]) : 5;
  b->micros = n > 4 ? atoi(argv[4]) : 1;
  b->network = n > 5 ? argv[5] : "dit";
  b->objective = n > 6 ? argv[6] : "subs";
  b->device = n > 7 ? argv[7] : "cpu";
  if (strcmp(b->device, "cpu") != 0) b->shape.batch = b->shape.gpu_batch;
  CHECK(*steps >= 0 && *steps <= STEPS && b->micros >= 1, ERR_USAGE, "0 to %d steps of 1 or more micro-batches", STEPS);
  return OK;
}

int main(int argc, char **argv) {
  static Bench b;
  MPI_Init(&argc, &argv);
  int err = comm_mpi_create(&b.comm), steps = 0;
  log_init(b.comm.rank, b.comm.size);
  if (err == OK) err = parse(&b, argc, argv, &steps);
  if (err == OK) err = run(&b, steps);
  if (err) log_error("%s", err_message());
  reduction_destroy(&b.reduction);
  optimizer_destroy(&b.optimizer);
  network_destroy(&b.net);
  mem_free(&b.tokens);
  comm_destroy(&b.comm);
  MPI_Finalize();
  return err;
}
