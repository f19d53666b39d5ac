/* test_emulation — the emulation detects a missing barrier, and a barrier that not all threads reach. */
#include "cuda.cuh"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* out[i] = in[THREADS − 1 − i], through shared memory */
__global__ void k_reverse(int *out, const int *in, bool barrier) {
  SHARED(int, all, THREADS);
  all[threadIdx.x] = in[threadIdx.x];
  if (barrier) __syncthreads();
  out[threadIdx.x] = all[THREADS - 1 - threadIdx.x];
}

__global__ void k_half_a_barrier(int *out) {
  if (threadIdx.x < THREADS / 2) __syncthreads();
  out[threadIdx.x] = 1;
}

/* found = the initial contents of the block's shared memory; the block before left 1 there */
__global__ void k_leave(int *found) {
  SHARED(int, all, THREADS);
  found[blockIdx.x * THREADS + threadIdx.x] = all[threadIdx.x];
  all[threadIdx.x] = 1;
}

__global__ void k_sum(int *out) {
  int mine = (int)threadIdx.x + 1;
  for (int i = 0; i < 3; i++) out[i * THREADS + (int)threadIdx.x] = block_reduce(mine, plus<int>);
}

static int wrong(bool barrier) {
  int in[THREADS], out[THREADS], n = 0;
  for (int i = 0; i < THREADS; i++) in[i] = i + 1, out[i] = 0;
  (void)LAUNCH(NULL, k_reverse, 1, out, in, barrier);
  for (int i = 0; i < THREADS; i++) n += out[i] != THREADS - i;
  return n;
}

static bool poisoned() {
  int found[3 * THREADS];
  (void)LAUNCH(NULL, k_leave, 3, found);
  for (int i = 0; i < 3 * THREADS; i++)
    if (found[i] != 0x7f7f7f7f) return false;
  return true;
}

static bool sums() {
  int out[3 * THREADS];
  (void)LAUNCH(NULL, k_sum, 1, out);
  for (int i = 0; i < 3 * THREADS; i++)
    if (out[i] != THREADS * (THREADS + 1) / 2) return false;
  return true;
}

/* Whether a child process aborts, as expected; its output is discarded. */
static bool aborts() {
  pid_t child = fork();
  if (child == 0) {
    int out[THREADS];
    if (freopen("/dev/null", "w", stderr) == NULL) _exit(2);
    (void)LAUNCH(NULL, k_half_a_barrier, 1, out);
    _exit(0);
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

int main() {
  static const char *const seeds[] = {"0", "1", "77"};
  int failed = 0, test = 0;
  printf("1..%d\n", 3 * 4 + 1);
  for (const char *seed : seeds) {
    setenv("EMULATION_SEED", seed, 1);
    const bool good[] = {wrong(true) == 0, wrong(false) > 0, sums(), poisoned()};
    const char *const names[] = {"a barrier holds", "a missing barrier is detected",
                                 "sums over a block, three in a row", "shared memory is poisoned before every block"};
    for (int i = 0; i < 4; i++) {
      failed += !good[i];
      printf("%sok %d - %s, order %s\n", good[i] ? "" : "not ", ++test, names[i], seed);
    }
  }
  bool found = aborts();
  printf("%sok %d - a barrier that half of the threads reach is detected\n", found ? "" : "not ", ++test);
  return failed > 0 || !found;
}
