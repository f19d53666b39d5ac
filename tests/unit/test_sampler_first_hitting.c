/* test_sampler_first_hitting — tokens are unmasked one at a time in uniformly random order. The distribution is the
 * mean over all orders, enumerated on a tiny network (toy_sampler.h). Positions still masked at the last time are
 * filled together. */
#include "toy_sampler.h"

#include <math.h>
#include <string.h>

static double p[STATES][L][V];

/* law += weight · the distribution reached from `state` when the positions of `set` unmask one by one in random order
 */
static void hit(double law[STATES], int state, unsigned set, double weight) {
  int left = __builtin_popcount(set);
  if (left == 0) law[state] += weight;
  for (int l = 0; l < L; l++) {
    if (!(set >> l & 1)) continue;
    for (int y = 0; y < V; y++)
      if (p[state][l][y] > 0)
        hit(law, (state & ~(3 << 2 * l)) | y << 2 * l, set & ~(1u << l), weight * p[state][l][y] / left);
  }
}

static void law_of_hits(Network *n, const int32_t start[L], bool removal, double law[STATES]) {
  double left = toy_masked(n, 1e-5) / toy_masked(n, 1); /* the probability of a mask at the end */
  unsigned masks = 0;
  toy_conditionals(n, 1, p);
  memset(law, 0, STATES * sizeof *law);
  for (int l = 0; l < L; l++) masks |= (unsigned)(start[l] == MASK) << l;
  for (unsigned set = 0; set < 1u << L; set++)
    if ((set & ~masks) == 0)
      hit(law, toy_code(start), set,
          pow(1 - left, __builtin_popcount(set)) * pow(left, __builtin_popcount(masks & ~set)));
  if (removal) toy_law_finish(law, p);
}

static void test_law(void **state) {
  (void)state;
  const int32_t starts[][L] = {{MASK, MASK, MASK}, {MASK, 2, MASK}};
  for (int k = 0; k < 8; k++) {
    Network n;
    double law[STATES], coarse[STATES];
    int64_t count[STATES], draws = DRAWS / (k == 0 ? 1 : 10);
    const int32_t *start = starts[k % 2];
    bool removal = k / 2 % 2;
    toy_open_sampler(&n, (ToySampler){.batch = BATCH});
    if (k >= 4) n.schedule = (Schedule){.table = &toy_slow, .eps = EPS};
    law_of_hits(&n, start, removal, law);
    int64_t evaluated = toy_compare(&n, RUN("first_hitting", 1, removal, 6, 0, 0), start, draws, law, count);
    int masks = k % 2 ? 2 : 3;
    /* a noise removal replaces the evaluations for the positions it fills */
    assert_true(evaluated <= (draws + BATCH) * masks);
    if (k == 0) {
      toy_law_of(&n, start, STEPS, removal, coarse); /* a few steps have another distribution */
      toy_sharp(law, coarse, STATES, draws);
    }
    network_destroy(&n);
  }
}

/* The distribution of `event` with T steps converges to this one as 1/T. */
static void test_limit(void **state) {
  (void)state;
  toy_need_speed();
  Network n;
  double law[STATES], steps[STATES], off[2] = {0};
  toy_open_sampler(&n, (ToySampler){.batch = STATES});
  law_of_hits(&n, blank, true, law);
  for (int k = 0; k < 2; k++) {
    toy_law_of(&n, blank, k ? 400 : 100, true, steps);
    for (int s = 0; s < STATES; s++) off[k] += fabs(steps[s] - law[s]);
  }
  assert_true(off[0] > 1e-4 && fabs(off[0] / off[1] - 4) < 0.3);
  network_destroy(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_law), cmocka_unit_test(test_limit)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
