/* test_gemm — f32 matrix products of the CPU are bitwise what gemm.c defines: chunks of the terms, each summed in order
 * by fused multiply-adds, whatever the shape, the position in it and the vector width. */
#include "base/mem.h"
#include "base/rng.h"
#include "check.h"
#include "ops/cpu/cpu.h"
#include <math.h>

enum { MOST = 768 }; /* terms of a chunk */

static float *random_floats(int64_t n, uint64_t stream) {
  float *x;
  RngKey key = rng_key(1, RNG_TEST, 0, 0, stream);
  MUST(mem_alloc(&x, (size_t)n * sizeof *x));
  for (int64_t i = 0; i < n; i++) x[i] = (float)(2 * rng_uniform(key, (uint64_t)i) - 1);
  return x;
}

typedef struct Case {
  bool ta, tb, add;
  int64_t M, N, K;
} Case;

/* One element by the definition; c: its value before, which `add` adds to. */
static float defined(const Case *x, const float *A, const float *B, int64_t i, int64_t j, float c) {
  int64_t chunks = (x->K + MOST - 1) / MOST, chunk = ((x->K + chunks - 1) / chunks + 7) / 8 * 8;
  for (int64_t first = 0; first < x->K; first += chunk) {
    float sum = 0;
    for (int64_t k = first; k < first + chunk && k < x->K; k++) {
      float a = x->ta ? A[k * x->M + i] : A[i * x->K + k], b = x->tb ? B[j * x->K + k] : B[k * x->N + j];
      sum = fmaf(a, b, sum);
    }
    c = first > 0 || x->add ? c + sum : sum;
  }
  return c;
}

static void compare_element(const Case *x, const float *A, const float *B, const float *before, const float *C,
                            int64_t e) {
  float want = defined(x, A, B, e / x->N, e % x->N, before[e]);
  if (C[e] != want)
    fail_msg("%lld × %lld × %lld (%d%d%d): element %lld is %.9g, not %.9g", (long long)x->M, (long long)x->N,
             (long long)x->K, x->ta, x->tb, x->add, (long long)e, (double)C[e], (double)want);
}

/* Some 500 elements, and the last one. */
static void compare(const Case *x, const float *A, const float *B, const float *before, const float *C) {
  int64_t n = x->M * x->N, stride = n / 500 + 1;
  for (int64_t e = 0; e < n; e += stride) compare_element(x, A, B, before, C, e);
  compare_element(x, A, B, before, C, n - 1);
}

/* B packed once: all of it, and all but its first terms and last columns, which is the same as a product of these. */
static void check_packed(const Case *x, const float *A, const float *B, const float *before, float *C) {
  int64_t n = x->M * x->N, lda = x->ta ? x->M : x->K, ldb = x->tb ? x->K : x->N, first = x->K / 3;
  int64_t N = x->N - x->N / 4, K = x->K - first;
  const float *a = A + first * (x->ta ? lda : 1), *b = B + first * (x->tb ? 1 : ldb);
  float *packed, *room, *want = random_floats(n, 3);
  MUST(mem_alloc(&packed, cpu_f32_gemm_pack_room(x->N, x->K) * sizeof *packed));
  MUST(mem_alloc(&room, cpu_f32_gemm_room(x->N, x->K) * sizeof *room));
  cpu_f32_gemm_pack(x->tb, x->N, x->K, B, ldb, packed);
  for (int64_t e = 0; e < n; e++) C[e] = before[e];
  cpu_f32_gemm_packed(x->ta, x->M, x->N, x->K, A, lda, packed, x->K, 0, x->add, C, x->N);
  compare(x, A, B, before, C);
  for (int64_t e = 0; e < n; e++) C[e] = before[e];
  cpu_f32_gemm_packed(x->ta, x->M, N, K, a, lda, packed, x->K, first, x->add, C, x->N);
  cpu_f32_gemm_serial(x->ta, x->tb, x->M, N, K, a, lda, b, ldb, x->add, want, x->N, room);
  for (int64_t e = 0; e < n; e++) assert_true(C[e] == want[e]);
  mem_free(&room);
  mem_free(&packed);
  mem_free(&want);
}

static void check_product(Device *dev, const Case *x) {
  float *A = random_floats(x->M * x->K, 1), *B = random_floats(x->N * x->K, 2), *before = random_floats(x->M * x->N, 3),
        *C = random_floats(x->M * x->N, 3), *room;
  int64_t lda = x->ta ? x->M : x->K, ldb = x->tb ? x->K : x->N;
  MUST(cpu_f32_gemm(dev, x->ta, x->tb, x->M, x->N, x->K, A, lda, B, ldb, x->add, C, x->N, NULL));
  compare(x, A, B, before, C);
  for (int64_t e = 0; e < x->M * x->N; e++) C[e] = before[e];
  MUST(mem_alloc(&room, cpu_f32_gemm_room(x->N, x->K) * sizeof *room));
  cpu_f32_gemm_serial(x->ta, x->tb, x->M, x->N, x->K, A, lda, B, ldb, x->add, C, x->N, room);
  compare(x, A, B, before, C);
  check_packed(x, A, B, before, C);
  mem_free(&room);
  mem_free(&A);
  mem_free(&B);
  mem_free(&C);
  mem_free(&before);
}

static void need_fma(void) {
#if !defined(__FMA__)
  print_message("# skip: this build has no fused multiply-adds\n");
  skip();
#endif
}

static void test_bits(void **state) {
  (void)state;
  need_fma();
  static const int64_t rows[] = {1, 5, 72, 73, 300}, cols[] = {1, 17, 64, 100, 1030}, terms[] = {1, 9, 768, 775, 1600};
  for (int threads = 1; threads <= 3; threads++) {
    Device dev;
    DeviceOptions options = {.name = "cpu", .threads = threads};
    MUST(device_open(&dev, &options));
    for (int m = 0; m < 5; m++)
      for (int n = 0; n < 5; n++)
        for (int k = 0; k < 5; k++) {
          int kind = m + n + k + threads;
          Case x = {kind & 1, kind & 2, kind & 4, rows[m], cols[n], terms[k]};
          bool slow = check_watched() && rows[m] * cols[n] * terms[k] > 200000; /* minutes under valgrind */
          if (!slow) check_product(&dev, &x);
        }
    device_close(&dev);
  }
}

/* The scratch memory of a device is for its own threads, whatever a device that was opened later has. */
static void test_two_devices(void **state) {
  (void)state;
  need_fma();
  Device one, many;
  DeviceOptions options = {.name = "cpu", .threads = 1}, more = {.name = "cpu", .threads = 4};
  MUST(device_open(&one, &options));
  MUST(device_open(&many, &more));
  const Case few = {false, true, false, 8, 600, 300}, rows = {false, false, false, 400, 40, 30};
  check_product(&one, &few);
  check_product(&one, &rows);
  device_close(&many);
  device_close(&one);
}

/* A product with another number of terms, as of a step with more or fewer scored rows, takes no more memory. */
static void test_memory(void **state) {
  (void)state;
  need_fma();
  static const int64_t rows[] = {40, 200}, terms[] = {1000, 768, 100, 2304, 769};
  enum { N = 64, TERMS = sizeof terms / sizeof *terms };
  for (int r = 0; r < 2; r++) {
    Device dev;
    DeviceOptions options = {.name = "cpu", .threads = 2};
    int64_t M = rows[r], K = 2304;
    float *A = random_floats(M * K, 1), *B = random_floats(N * K, 2), *C = random_floats(M * N, 3);
    size_t before = 0;
    MUST(device_open(&dev, &options));
    for (int k = 0; k < TERMS; k++) {
      MUST(cpu_f32_gemm(&dev, true, false, M, N, terms[k], A, M, B, N, true, C, N, NULL));
      if (k == 0) before = mem_count();
      assert_int_equal(mem_count(), before);
    }
    device_close(&dev);
    mem_free(&A);
    mem_free(&B);
    mem_free(&C);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_bits), cmocka_unit_test(test_two_devices),
                                     cmocka_unit_test(test_memory)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
