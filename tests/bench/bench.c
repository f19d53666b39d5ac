/* bench SHAPE MATMUL [steps [micro-batches a step]] — training speed on synthetic tokens: tokens/s, GFLOP/s, where the
 * time goes, and how far from the floor set by oneDNN alone on the same products. With several ranks each takes its own
 * micro-batch (weak scaling). SHAPE: demo, tiny, small128, small1024. MATMUL: f32, bf16. Threads a rank:
 * OMP_NUM_THREADS. */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "bench/alone.h"
#include "diffusion/network.h"
#include "diffusion/timestep.h"
#include "dist/comm.h"
#include "train/optimizer.h"
#include "train/reduce.h"
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Shape {
  const char *name;
  int64_t width, blocks, heads, cond_dim, vocab, length, batch;
} Shape;

static const Shape shapes[] = {{"demo", 128, 3, 4, 32, 512, 16, 8},
                               {"tiny", 256, 6, 4, 128, 4096, 128, 16},
                               {"small128", 768, 12, 12, 128, 30522, 128, 8},
                               {"small1024", 768, 12, 12, 128, 50258, 1024, 1}};

typedef struct Bench {
  Shape shape;
  Comm comm;
  Network net;
  Optimizer optimizer;
  Reduction reduction;
  double *loss;
  int32_t *tokens;
  int64_t step, rows, micros; /* micros: micro-batches a step */
} Bench;

static int build(Bench *b, const char *matmul, int threads) {
  const Shape *s = &b->shape;
  Config cfg;
  TRY(config_load(&cfg, NULL, 0, NULL));
  cfg.model_width = s->width;
  cfg.model_blocks = s->blocks;
  cfg.model_heads = s->heads;
  cfg.model_cond_dim = s->cond_dim;
  mem_free(&cfg.device_matmul);
  TRY(mem_strdup(&cfg.device_matmul, matmul));
  cfg.device_threads = threads;
  TRY(network_create(&b->net, &cfg, b->comm.share_rank, b->comm.share_size, s->vocab, s->length, (int32_t)s->vocab - 1,
                     s->batch, true));
  OptimizerOptions o = {.lr = 3e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .clip = 1, .ema = 0.9999, .warmup = 10};
  Params *p = &b->net.model.params;
  TRY(params_init(p, 1));
  TRY(optimizer_create(&b->optimizer, p, &o));
  TRY(optimizer_begin(&b->optimizer));
  TRY(reduction_create(&b->reduction, &b->comm, p, true, b->comm.size * b->micros, b->comm.size));
  TRY(mem_alloc(&b->loss, (size_t)s->batch * sizeof *b->loss));
  TRY(mem_alloc(&b->tokens, (size_t)(s->batch * s->length) * sizeof *b->tokens));
  config_free(&cfg);
  return OK;
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
    double t = timestep_draw(1, RNG_TIME, b->step, sequence, sequence, s->batch * b->comm.size, true, 1e-3);
    noised_draw(&b->net.objective, &b->net.noised, i, x0, s->length, t, mask);
  }
}

static int train_step(Bench *b) {
  Network *n = &b->net;
  Dropout dropout = {.p = 0.1, .seed = 1, .step = (uint64_t)b->step++, .first = b->comm.rank * b->shape.batch};
  TRY(reduction_begin(&b->reduction));
  for (int64_t i = 0; i < b->micros; i++) {
    b->rows = 0;
    noise(b);
    TRY(network_loss(n, &dropout, true, b->loss, &b->rows));
    TRY(reduction_add(&b->reduction));
  }
  TRY(reduction_finish(&b->reduction));
  double norm, lr;
  return optimizer_step(&b->optimizer, 1.0 / (double)(b->shape.batch * b->shape.length), &norm, &lr);
}

/* Seconds that oneDNN alone needs for the products of one step: y = x wᵀ, dx = dy w, dw = dyᵀ x. */
static double dense_floor(const Bench *b, bool bf16) {
  const Shape *s = &b->shape;
  int64_t R = s->batch * s->length, D = s->width, chunk = b->rows < b->net.rows.chunk ? b->rows : b->net.rows.chunk;
  struct Product {
    double times;
    int64_t rows, in, out;
  } products[] = {{(double)s->blocks, R, D, 3 * D},
                  {(double)s->blocks, R, D, D},
                  {(double)s->blocks, R, D, 4 * D},
                  {(double)s->blocks, R, 4 * D, D},
                  {(double)b->rows / (double)chunk, chunk, D, s->vocab}};
  double total = 0;
  for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
    struct Product *p = &products[i];
    total += p->times * (alone_seconds(bf16, false, true, p->rows, p->out, p->in, 5) +
                         alone_seconds(bf16, false, false, p->rows, p->in, p->out, 5) +
                         alone_seconds(bf16, true, false, p->out, p->in, p->rows, 5));
  }
  return total;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static int run(Bench *b, const char *matmul, int steps) {
  const char *threads = getenv("OMP_NUM_THREADS");
  TRY(build(b, matmul, threads ? atoi(threads) : 1));
  Device *dev = &b->net.dev;
  double times[64], work = 0;
  for (int i = 0; i < 2; i++) TRY(train_step(b));
  device_profile_reset(dev);
  size_t allocations = mem_count();
  for (int i = 0; i < steps; i++) {
    TRY(comm_barrier(&b->comm));
    double start = clock_now();
    TRY(train_step(b));
    times[i] = clock_now() - start;
    TRY(comm_max(&b->comm, &times[i]));
  }
  ASSERT(mem_count() == allocations);
  qsort(times, (size_t)steps, sizeof *times, by_value);
  double step = times[steps / 2], tokens = (double)(b->micros * b->shape.batch * b->shape.length), spent = 0, all = 0;
  for (int i = 0; i < steps; i++) all += times[i] / steps;
  for (int g = 0; g < GROUPS; g++) {
    work += dev->flops[g] / steps;
    spent += dev->seconds[g] / steps;
  }
  double floor = b->comm.size == 1 ? (double)b->micros * dense_floor(b, strcmp(matmul, "bf16") == 0) : 0;
  log_info("%-9s %-4s %d×%d  %9.1f tokens/s  %7.1f GFLOP/s a rank  step %.3f s", b->shape.name, matmul, b->comm.size,
           dev->threads, tokens * b->comm.size / step, work / step / 1e9, step);
  char shares[256] = "";
  for (int g = 0; g < GROUPS; g++)
    snprintf(shares + strlen(shares), sizeof shares - strlen(shares), "  %s %.1f%%", op_group_name((OpGroup)g),
             100 * dev->seconds[g] / steps / all);
  log_info("         share of the step:%s  rest %.1f%%", shares, 100 * (1 - spent / all));
  log_info("         moved: block %.1f GB/s, update %.1f GB/s",
           dev->bytes[GROUP_BLOCK] / dev->seconds[GROUP_BLOCK] / 1e9,
           dev->bytes[GROUP_UPDATE] / dev->seconds[GROUP_UPDATE] / 1e9);
  if (floor > 0)
    log_info("         products: %.1f GFLOP/s, oneDNN alone %.1f: ratio %.2f; step / floor of products %.2f",
             dev->flops[GROUP_DENSE] / dev->seconds[GROUP_DENSE] / 1e9, dev->flops[GROUP_DENSE] / steps / floor / 1e9,
             floor / (dev->seconds[GROUP_DENSE] / steps), step / floor);
  return OK;
}

int main(int argc, char **argv) {
  static Bench b;
  MPI_Init(&argc, &argv);
  int err = comm_mpi_create(&b.comm);
  log_init(b.comm.rank, b.comm.size);
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes && argc > 2; i++)
    if (strcmp(argv[1], shapes[i].name) == 0) b.shape = shapes[i];
  if (err == OK && b.shape.name == NULL)
    err = RAISE(ERR_USAGE, "usage: bench demo|tiny|small128|small1024 f32|bf16 [steps ≤ 64 [micro-batches a step]]");
  b.micros = argc > 4 ? atoi(argv[4]) : 1;
  if (err == OK) err = run(&b, argv[2], argc > 3 ? atoi(argv[3]) : 5);
  if (err) log_error("%s", err_message());
  reduction_destroy(&b.reduction);
  optimizer_destroy(&b.optimizer);
  network_destroy(&b.net);
  mem_free(&b.loss);
  mem_free(&b.tokens);
  comm_destroy(&b.comm);
  MPI_Finalize();
  return err;
}
