/* backend — the CPU backend's table: opening and closing the device, its memory, and the list of ops. */
#include "base/mem.h"
#include "ops/cpu/cpu.h"
#include "ops/cpu/gemm16.h"
#include <omp.h>
#if REAL_IS_FLOAT
#include <oneapi/dnnl/dnnl.h>
#endif
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void cpu_close(Device *dev) {
  Cpu *cpu = dev->impl;
  if (cpu == NULL) return;
  for (int i = 0; i < SCRATCH_SLOTS; i++) mem_free(&cpu->scratch[i]);
  mem_free(&cpu->cosine);
  mem_free(&cpu->sine);
#if REAL_IS_FLOAT
  gemm16_destroy(&cpu->gemm16);
#endif
  mem_free(&dev->impl);
}

/* Pin each thread to a core: migrating threads end up on one core, at half speed for seconds. Ranks that may use the
 * same cores divide them in order of share_rank, each taking one core per thread; ranks that the launcher has bound to
 * cores of their own have share_rank 0. */
static void pin_threads(const Device *dev, int share_rank) {
  cpu_set_t allowed;
  int cores[CPU_SETSIZE], n = 0;
  if (getenv("OMP_PROC_BIND") || sched_getaffinity(0, sizeof allowed, &allowed)) return;
  for (int i = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &allowed)) cores[n++] = i;
  int first = n >= (share_rank + 1) * dev->threads ? share_rank * dev->threads : 0;
  if (first + dev->threads > n) return; /* fewer cores than threads: leave it to the scheduler */
#pragma omp parallel num_threads(dev->threads)
  {
    cpu_set_t mine;
    CPU_ZERO(&mine);
    CPU_SET(cores[first + omp_get_thread_num()], &mine);
    sched_setaffinity(0, sizeof mine, &mine);
  }
}

static int cpu_open(Device *dev, const DeviceOptions *options) {
  Cpu *cpu = NULL;
  TRY(mem_alloc(&cpu, sizeof *cpu));
  dev->impl = cpu;
  omp_set_dynamic(0);
  omp_set_num_threads(dev->threads);
  if (options->pin) pin_threads(dev, options->place.share_rank);
#if REAL_IS_FLOAT
  int err = options->bf16 && gemm16_supported() ? gemm16_open(dev) : OK;
  if (err) cpu_close(dev);
  return err;
#else
  return OK;
#endif
}

static const char *cpu_library(void) {
#if REAL_IS_FLOAT
  static char text[64];
  const dnnl_version_t *v = dnnl_version();
  if (!gemm16_supported()) return "f32 products, also for bf16";
  snprintf(text, sizeof text, "oneDNN %d.%d.%d for bf16", v->major, v->minor, v->patch);
  return text;
#else
  return "plain loops";
#endif
}

static int cpu_sync(Device *dev) { return (void)dev, OK; }

static int cpu_memory(Device *dev, size_t *free, size_t *total) {
  (void)dev;
  *free = mem_available();
  *total = mem_total();
  return OK;
}

static int cpu_alloc(Device *dev, void **p, size_t bytes) { return (void)dev, mem_alloc(p, bytes); }

static void cpu_release(Device *dev, void *p) { (void)dev, mem_free(&p); }

static int cpu_copy(Device *dev, void *dst, const void *src, size_t bytes) {
  (void)dev;
  memcpy(dst, src, bytes);
  return OK;
}

static int cpu_zero(Device *dev, void *dst, size_t bytes) {
  (void)dev;
  enum { CHUNK = 1 << 20 };
  int64_t n = (int64_t)((bytes + CHUNK - 1) / CHUNK);
#pragma omp parallel for schedule(static) if (n > 1)
  for (int64_t i = 0; i < n; i++) {
    size_t at = (size_t)i * CHUNK, left = bytes - at;
    memset((char *)dst + at, 0, left < CHUNK ? left : CHUNK);
  }
  return OK;
}

#if REAL_IS_FLOAT
extern const Ops ops_cpu_f32;
const Ops ops_cpu_f32 = {
    .name = "cpu",
    .real = DT_F32,
#else
extern const Ops ops_cpu_f64;
const Ops ops_cpu_f64 = {
    .name = "cpu_f64",
    .real = DT_F64,
#endif
    .host = true,
    .chunk = UPDATE_CHUNK,
    .library = cpu_library,
    .open = cpu_open,
    .close = cpu_close,
    .sync = cpu_sync,
    .memory = cpu_memory,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .upload = cpu_copy,
    .download = cpu_copy,
    .copy = cpu_copy,
    .zero = cpu_zero,
    .dense = FN(dense),
    .dense_backward = FN(dense_backward),
    .gelu_backward = FN(gelu_backward),
    .embed = FN(embed),
    .embed_backward = FN(embed_backward),
    .embed_mix = FN(embed_mix),
    .embed_mix_backward = FN(embed_mix_backward),
    .residual_norm = FN(residual_norm),
    .residual_norm_backward = FN(residual_norm_backward),
    .rotary = FN(rotary),
    .attention = FN(attention),
    .attention_backward = FN(attention_backward),
    .attention_step = FN(attention_step),
    .conv = FN(conv),
    .conv_backward = FN(conv_backward),
    .scan = FN(scan),
    .scan_backward = FN(scan_backward),
    .gate = FN(gate),
    .gate_backward = FN(gate_backward),
    .silu = FN(silu),
    .silu_backward = FN(silu_backward),
    .sinusoid = FN(sinusoid),
    .gather_rows = FN(gather_rows),
    .scatter_rows = FN(scatter_rows),
    .cross_entropy = FN(cross_entropy),
    .absorbing_bound = FN(absorbing_bound),
    .score_entropy = FN(score_entropy),
    .uniform_bound = FN(uniform_bound),
    .prediction = FN(prediction),
    .draw = FN(draw),
    .argmax = FN(argmax),
    .confidence = FN(confidence),
    .exclude = FN(exclude),
    .add = FN(add),
    .blend = FN(blend),
    .sum = FN(sum),
    .squares = FN(squares),
    .sum_terms = FN(sum_terms),
    .adamw = FN(adamw),
    .to_bf16 = FN(to_bf16),
};
