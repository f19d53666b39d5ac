/* device — linked with a test program, makes it test the CUDA backend emulated on the CPU. */
#include <stdio.h>
#include <stdlib.h>

#include "check.h"

const char *check_device = "cuda";
bool check_slow = true;

/* Each run of a case has a different order of threads, so the comparison of bits also covers the order. EMULATION_SEED
 * shifts all orders. */
void check_order(int run) {
  static int first = -1;
  char seed[16];
  const char *given = getenv("EMULATION_SEED");
  if (first < 0) first = given ? atoi(given) : 0;
  snprintf(seed, sizeof seed, "%d", first + run);
  setenv("EMULATION_SEED", seed, 1);
}
