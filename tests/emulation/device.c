/* device — linked with the tests of ops, makes them test the CUDA backend emulated on the CPU. */
#include <stdio.h>
#include <stdlib.h>

#include "check.h"

const char *check_device = "cuda";
bool check_slow = true;

/* Every run of a case has an order of its own: equal bits do not depend on it. EMULATION_SEED shifts them all. */
void check_order(int run) {
  static int first = -1;
  char seed[16];
  const char *given = getenv("EMULATION_SEED");
  if (first < 0) first = given ? atoi(given) : 0;
  snprintf(seed, sizeof seed, "%d", first + run);
  setenv("EMULATION_SEED", seed, 1);
}
