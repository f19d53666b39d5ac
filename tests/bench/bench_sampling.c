/* bench_sampling [thousand tokens per run] — the cost of sampling with T = 5000 steps of a small untrained DiT, for
 * each sampler and for `cached` as the reference implements it. `make bench-sampling`. Prints a table in Markdown.
 * Threads: OMP_NUM_THREADS.
 *
 * A run is cut short if more tokens than that would go through the network (0: never), and its time is extrapolated:
 * - ancestral and the reference run only the first of the T steps; all steps cost the same on average, because the
 *   probability that some position unmasks is the same in all of them;
 * - the other samplers get sequences with only a few masked positions, and their time is scaled by the number of
 *   sequences that go through the network, which dominates it: of n masked positions one or more unmask in
 *   T(1 − (1 − 1/T)^n) steps on average.
 * There is no noise removal at the end: 1e-5 of the positions stay masked. */
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "network/network.h"
#include "sampling/draws.h"
#include "sampling/sampler.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { T = 5000, WIDTH = 256, BLOCKS = 6, HEADS = 4, COND = 128, MOST_VOCAB = 50432 };

/* A small vocabulary, then those of LM1B (BERT's) and OpenWebText (GPT-2's plus a mask) at the lengths of their
 * recipes.
 */
static const struct {
  int vocab;
  int64_t L;
} shapes[] = {{4096, 128}, {4096, 1024}, {30522, 128}, {50258, 1024}};

typedef struct Bench {
  Network net;
  int64_t B, L;
  int vocab, mask, ld;
  double budget; /* most tokens that a run sends through the network */
  int32_t *z;    /* [B,L] */
  float *p;      /* [B·L,ld] p(x0 | z) as the reference keeps it; 0 beyond the vocabulary */
} Bench;

typedef struct Cost { /* of B samples */
  double wall, cpu, passes, sequences;
  double part; /* the share that was run */
} Cost;

static double cpu_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Expected number of the T steps in which one or more of n masked positions unmask. */
static double busy_steps(double n) { return -T * expm1(n * log1p(-1.0 / T)); }

/* p(x0 = v | z) ∝ 1/(v + 1)²: a few likely tokens, as with a trained network. With a uniform p the reference's f32
 * noise would truncate nearly all tokens, and nothing would unmask before the last steps. */
static void few_likely(Params *p, int vocab) {
  float *bias = params_find(p, "output_layer.linear.bias")->value.data;
  for (int v = 0; v < vocab; v++) bias[v] = -2 * logf((float)v + 1);
}

enum { BLOCK = 16 * RNG_LANES }; /* noise is drawn for this many tokens at a time */

static int open_bench(Bench *b, int vocab, int64_t L, int64_t B, double budget) {
  const char *threads = getenv("OMP_NUM_THREADS");
  Config cfg;
  *b = (Bench){.B = B, .L = L, .vocab = vocab, .mask = vocab - 1, .budget = budget};
  b->ld = (vocab + BLOCK - 1) / BLOCK * BLOCK;
  ASSERT(b->ld <= MOST_VOCAB);
  TRY(config_load(&cfg, NULL, 0, NULL));
  cfg.model_time_conditioning = false;
  cfg.model_width = WIDTH;
  cfg.model_blocks = BLOCKS;
  cfg.model_heads = HEADS;
  cfg.model_cond_dim = COND;
  cfg.device_threads = threads ? atoi(threads) : 1;
  NetworkOptions o = {.cfg = &cfg, .place = {0, 1, 0, 1}, .vocab = vocab, .length = L, .mask = b->mask, .batch = B};
  int err = network_create(&b->net, &o);
  config_free(&cfg);
  TRY(err);
  TRY(params_init(&b->net.model.params, 1));
  few_likely(&b->net.model.params, vocab);
  TRY(mem_alloc(&b->z, (size_t)(B * L) * sizeof *b->z));
  return mem_alloc(&b->p, (size_t)(B * L * b->ld) * sizeof *b->p);
}

static void close_bench(Bench *b) {
  network_destroy(&b->net);
  mem_free(&b->z);
  mem_free(&b->p);
}

/* n positions of each sequence are masked, the others hold arbitrary tokens. */
static SamplerJob start(Bench *b, int64_t n) {
  for (int64_t i = 0; i < b->B * b->L; i++) b->z[i] = (int32_t)(i * 7919 % b->mask);
  for (int64_t s = 0; s < b->B; s++)
    for (int64_t i = 0; i < n; i++) b->z[s * b->L + i * b->L / n] = b->mask;
  return (SamplerJob){.model = &b->net.model,
                      .rows = &b->net.rows,
                      .objective = &b->net.objective,
                      .steps = T,
                      .draw = {.temperature = 1, .nucleus = 1},
                      .seed = 1,
                      .n = b->B,
                      .length = b->L,
                      .z = b->z};
}

/* ---- the samplers of the program */
/* Expected number of sequences that go through the network for B samples with n masked positions each. */
static double sequences_of(const Bench *b, const char *sampler, double n) {
  double B = (double)b->B;
  if (strcmp(sampler, "cached") == 0) return B * busy_steps(n * B);
  return B * (strcmp(sampler, "event") == 0 ? busy_steps(n) : strcmp(sampler, "ancestral") == 0 ? T : n);
}

static int time_sampler(Bench *b, const char *name, Cost *cost) {
  Sampler sampler;
  const Config cfg = {.sample_sampler = (char *)(uintptr_t)name, .sample_draw = (char *)(uintptr_t) "f64"};
  bool ancestral = strcmp(name, "ancestral") == 0;
  double whole = sequences_of(b, name, (double)b->L), most = b->budget / (double)b->L;
  int64_t n = b->L;
  while (!ancestral && b->budget > 0 && n > 1 && sequences_of(b, name, (double)n) > most) n--;
  SamplerJob job = start(b, n);
  if (ancestral && b->budget > 0 && whole > most) job.steps = (int64_t)(most / (double)b->B) + 1;
  SamplerOptions options = {
      .cfg = &cfg, .objective = job.objective, .model = &job.model->options, .label = -1, .bos = -1};
  TRY(sampler_create(&sampler, &options));
  double wall = clock_now(), cpu = cpu_now();
  TRY(sampler_run(&sampler, &job));
  *cost = (Cost){clock_now() - wall, cpu_now() - cpu, (double)job.evaluations, (double)job.evaluated, 1};
  sampler_destroy(&sampler);
  if (n == b->L && job.steps == T) return OK;
  cost->part = cost->sequences / whole;
  cost->wall /= cost->part;
  cost->cpu /= cost->part;
  cost->passes /= cost->part;
  cost->sequences = whole;
  return OK;
}

/* ---- the reference's loop over the same network */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__OPTIMIZE__)
#pragma omp declare simd notinbranch
extern float expf(float);
#pragma omp declare simd notinbranch
extern float logf(float);
#endif

/* p(x0 | z) of all positions of all sequences, without m. */
static int reference_look(Bench *b, SamplerJob *job, double t) {
  Model *m = job->model;
  int64_t R = b->B * b->L, chunk = job->rows->chunk;
  int mask = b->mask;
  const Draws all = {0};
  TRY(draws_evaluate(job, &all, job->z, b->B, t));
  for (int64_t first = 0; first < R; first += chunk) {
    int64_t n = R - first < chunk ? R - first : chunk;
    Tensor logits = tensor_rows(job->rows->logits, 0, n);
    TRY(model_logits(m, logits, tensor_rows(m->h, first, n)));
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < n; r++) {
      const float *f = (const float *)logits.data + r * logits.ld;
      float *p = b->p + (first + r) * b->ld, top = -INFINITY, sum = 0;
#pragma omp simd reduction(max : top)
      for (int v = 0; v < mask; v++) top = f[v] > top ? f[v] : top;
#pragma omp simd reduction(+ : sum)
      for (int v = 0; v < mask; v++) sum += p[v] = expf(f[v] - top);
      float scale = 1 / sum;
#pragma omp simd
      for (int v = 0; v < mask; v++) p[v] *= scale;
    }
  }
  return OK;
}

/* u on the 2^-24 grid for BLOCK tokens starting at `from`. */
static inline void reference_noise(float u[BLOCK], RngKey key, int from) {
  for (int at = 0; at < BLOCK; at += 4 * RNG_LANES) {
    uint32_t w[4][RNG_LANES];
    rng_lanes(w, key, (uint32_t)(from + at) / 4);
    for (int j = 0; j < 4; j++) {
#pragma omp simd
      for (int i = 0; i < RNG_LANES; i++) u[at + j * RNG_LANES + i] = (float)(int32_t)(w[j][i] >> 8) * 0x1p-24f;
    }
  }
}

/* The token of one row: arg-max of q(v)/(1e-10 − log(u + 1e-10)) with q = p·(mc_t − mc_s), q(m) = mc_s, in f32. One
 * pass that stores neither q nor the noise; the reference makes a tensor of each. */
static int32_t reference_token(const Bench *b, const float *p, float fill, float stay, RngKey key) {
  float u[BLOCK], x[MOST_VOCAB], best = -1;
  int at = 0, mask = b->mask;
  for (int from = 0; from < b->ld; from += BLOCK) {
    float top = -1;
    reference_noise(u, key, from);
#pragma omp simd reduction(max : top)
    for (int i = 0; i < BLOCK; i++) {
      float q = from + i == mask ? stay : p[from + i] * fill;
      x[from + i] = q / (1e-10f - logf(u[i] + 1e-10f));
      top = x[from + i] > top ? x[from + i] : top;
    }
    if (top > best) best = top, at = from;
  }
  while (x[at] != best) at++;
  return at;
}

/* One step: draw at every position and use the result at masked ones; *changed: whether any position unmasked. */
static void reference_step(Bench *b, int64_t step, double now, double next, bool *changed) {
  int64_t R = b->B * b->L;
  bool any = false;
#pragma omp parallel for schedule(static) reduction(|| : any)
  for (int64_t r = 0; r < R; r++) {
    RngKey key = rng_key(1, RNG_TEST, 0, (uint64_t)step, (uint64_t)r);
    int32_t y = reference_token(b, b->p + r * b->ld, (float)(now - next), (float)next, key);
    if (b->z[r] != b->mask || y == b->mask) continue;
    b->z[r] = y;
    any = true;
  }
  *changed = any;
}

/* The times of network evaluations and of draws are extrapolated separately: in few steps the number of evaluations is
 * random. */
static int time_reference(Bench *b, Cost *cost) {
  SamplerJob job = start(b, b->L);
  bool changed = true;
  double looks[2] = {0}, draws[2] = {0}, whole = busy_steps((double)(b->B * b->L)), tokens = 0;
  int64_t step = 0;
  for (; step < T && (b->budget == 0 || tokens < b->budget); step++) {
    double t = job_time(step, T), s = job_time(step + 1, T), wall = clock_now(), cpu = cpu_now();
    if (changed) TRY(reference_look(b, &job, t));
    double looked = clock_now(), looked_cpu = cpu_now();
    reference_step(b, step, schedule_masked(&b->net.schedule, t), schedule_masked(&b->net.schedule, s), &changed);
    looks[0] += looked - wall;
    looks[1] += looked_cpu - cpu;
    draws[0] += clock_now() - looked;
    draws[1] += cpu_now() - looked_cpu;
    tokens = (double)(job.evaluated * b->L);
  }
  double n = (double)job.evaluations;
  if (step == T) whole = n;
  *cost = (Cost){.passes = whole, .sequences = whole * (double)b->B, .part = (double)step / T};
  cost->wall = looks[0] * whole / n + draws[0] * T / (double)step;
  cost->cpu = looks[1] * whole / n + draws[1] * T / (double)step;
  return OK;
}

/* ---- the table */
static void print_cost(const Bench *b, const char *name, const Cost *c, const Cost *reference) {
  printf("| %d | %lld | %lld | %s | %.1f | %.1f | %.0f | %.0f | %.2f | %.2f |", b->vocab, (long long)b->L,
         (long long)b->B, name, c->wall, c->cpu, c->passes, c->sequences, reference->wall / c->wall,
         reference->cpu / c->cpu);
  if (c->part < 1)
    printf(" %.3g %% |\n", 100 * c->part);
  else
    printf(" all |\n");
  fflush(stdout);
}

static int bench(int vocab, int64_t L, int64_t B, double budget) {
  static const char *const names[] = {"ancestral", "cached", "event", "first_hitting"};
  Bench b;
  Cost reference = {0}, cost = {0};
  int err = OK;
  TRY_TO(done, open_bench(&b, vocab, L, B, budget));
  SamplerJob job = start(&b, L);
  for (int i = 0; i < 2; i++) TRY_TO(done, reference_look(&b, &job, 1)); /* warm-up */
  TRY_TO(done, time_reference(&b, &reference));
  print_cost(&b, "cached, as the reference runs it", &reference, &reference);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    TRY_TO(done, time_sampler(&b, names[i], &cost));
    print_cost(&b, names[i], &cost, &reference);
  }
done:
  close_bench(&b);
  return err;
}

int main(int argc, char **argv) {
  static const int64_t batches[] = {1, 8};
  double budget = argc > 1 ? 1e3 * atof(argv[1]) : 1e5;
  int err = OK;
  log_init(0, 1);
  printf("DiT, width %d, %d blocks, f32, T = %d; B samples at a time\n\n", WIDTH, BLOCKS, T);
  printf("| V | L | B | sampler | s | CPU s | passes | sequences through the network | reference / it, s | CPU s | run "
         "|\n");
  printf("|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    for (size_t k = 0; k < 2 && err == OK; k++) err = bench(shapes[i].vocab, shapes[i].L, batches[k], budget);
  if (err) log_error("%s", err_message());
  return err;
}
