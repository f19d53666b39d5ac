/* test_clip_search — the variance of a block's mean loss between two times, on a network whose masks are enumerated and
 * whose times are integrated, beside that of blocks at random times; and the pair of times with the least. */
#include "toy.h"

#include <math.h>
#include <string.h>

#include "diffusion/timestep.h"
#include "measure/clip_search.h"

enum { V = 4, MASK = 3, L = 4, SIZE = 2, BLOCKS = L / SIZE, SETS = 1 << SIZE, ROWS = 3, BATCH = 48, SEED = 3 };
static const double EPS = 1e-3, TAU = 1e-3;
static const int32_t rows[ROWS][L] = {{0, 1, 2, 0}, {2, 2, 1, 0}, {1, 0, 0, 2}};
static const int64_t length[ROWS] = {4, 3, 4}; /* the last block of one has one real token */

static void open_toy(Network *n, bool plain) {
  Toy t = toy_tiny(V, MASK, L, BATCH);
  t.eps = EPS;
  t.model.block = SIZE;
  t.objective = (ObjectiveOptions){.block = SIZE, .tau = TAU, .plain = plain, .law = {.name = "clip", .clip_high = 1}};
  toy_open(n, &t);
  toy_weights(n, 7, 3);
}

/* ---- enumerated */
typedef double Costs[ROWS][BLOCKS][SETS]; /* Σ −log p over the masked real tokens / all real tokens of the block */

static void fill_costs(Network *n, Costs cost) {
  Noised *z = &n->noised;
  double loss[SETS];
  int64_t scored = 0;
  memset(cost, 0, sizeof(Costs));
  for (int r = 0; r < ROWS; r++) {
    noised_begin(z, SETS);
    for (unsigned s = 0; s < SETS; s++) {
      toy_masks(z->z + s * L, rows[r], L, MASK, s | s << SIZE);
      noised_add(&n->objective, z, s, rows[r], length[r], 1);
    }
    MUST(network_loss(n, &toy_none, false, loss, &scored));
    for (int64_t i = 0; i < z->n_rows; i++) {
      int64_t s = z->rows[i] / L, k = z->rows[i] % L / SIZE, left = length[r] - k * SIZE;
      cost[r][k][s] += n->row_loss[i] / z->weight[i] / (double)(left < SIZE ? left : SIZE);
    }
  }
}

/* For times uniform between low and high. */
static double enumerated(Costs cost, double low, double high, bool plain) {
  const int steps = check_statistics() ? 20000 : 200;
  double sum = 0, squares = 0, width = (high - low) / steps;
  for (int i = 0; i < steps; i++) {
    double t = low + (i + 0.5) * width, c = (1 - EPS) * t, weight = plain ? 1 : 1 / t;
    for (unsigned s = 0; s < SETS; s++) {
      int k = __builtin_popcount(s);
      double chance = pow(c, k) * pow(1 - c, SIZE - k) / steps / ROWS / BLOCKS;
      for (int r = 0; r < ROWS; r++)
        for (int b = 0; b < BLOCKS; b++) {
          sum += chance * weight * cost[r][b][s];
          squares += chance * weight * weight * cost[r][b][s] * cost[r][b][s];
        }
    }
  }
  return squares - sum * sum;
}

/* ---- drawn */
static void draw_blocks(Network *n, ClipPiece *sums) {
  const int64_t steps = check_statistics() ? 3000 : 30;
  Noised *z = &n->noised;
  double loss[BATCH];
  int64_t scored = 0;
  for (int64_t step = 0; step < steps; step++) {
    noised_begin(z, BATCH);
    for (int64_t b = 0; b < BATCH; b++) {
      RngKey mask = rng_key(SEED, RNG_MASK, 0, (uint64_t)step, (uint64_t)b);
      timestep_blocks(z->t, BLOCKS, SEED, RNG_TIME, step, b, b, BATCH, true, TAU);
      noised_draw(&n->objective, z, b, rows[b % ROWS], length[b % ROWS], z->t, mask);
    }
    MUST(network_loss(n, &toy_none, false, loss, &scored));
    for (int64_t b = 0; b < BATCH; b++) clip_search_add(sums, n, b);
  }
  double blocks = 0;
  for (int i = 0; i < CLIP_PIECES; i++) blocks += sums[i].blocks;
  assert_true(blocks == (double)(steps * BATCH * BLOCKS));
}

/* Every pair: its variance; and the pick is the pair of the least enumerated one. */
static void search(bool plain) {
  Network n;
  Costs cost;
  ClipPiece sums[CLIP_PIECES] = {0};
  ClipChoice pick;
  double least = INFINITY, low = 0, high = 0;
  open_toy(&n, plain);
  fill_costs(&n, cost);
  draw_blocks(&n, sums);
  for (int pieces = 10; pieces <= 20; pieces += 2)
    for (int first = 0; first + pieces <= CLIP_PIECES; first++) {
      double from = first / 20.0, to = (first + pieces) / 20.0;
      double want = enumerated(cost, fmax(from, TAU), to, plain);
      ClipChoice c = clip_search_between(sums, first, first + pieces);
      assert_true(c.low == from && c.high == to && c.blocks > 0);
      if (check_statistics() && first > 0 &&
          !(fabs(c.variance / want - 1) < 0.05)) /* at all times there are rare large losses */
        fail_msg("variance from %g to %g: %g, enumerated %g", from, to, c.variance, want);
      if (want < least) least = want, low = from, high = to;
    }
  assert_true(clip_search_pick(&pick, sums));
  if (check_statistics() && (pick.low != low || pick.high != high))
    fail_msg("plain %d: picked %g to %g, the least variance is from %g to %g", plain, pick.low, pick.high, low, high);
  network_destroy(&n);
}

static void test_search(void **state) {
  (void)state;
  search(false);
  search(true);
}

/* Pieces that were made up: of equal variances the first pair wins; too few blocks have none, nor have losses of 0. */
static void test_pick(void **state) {
  (void)state;
  ClipPiece sums[CLIP_PIECES] = {0};
  ClipChoice pick;
  assert_false(clip_search_pick(&pick, sums));
  sums[19] = (ClipPiece){1, 2, 4};
  assert_false(clip_search_pick(&pick, sums));
  for (int i = 0; i < CLIP_PIECES; i++) sums[i] = (ClipPiece){4, 4, 4};
  assert_true(clip_search_pick(&pick, sums));
  assert_true(pick.low == 0 && pick.high == 1 && pick.variance == 0 && pick.blocks == 80);
  sums[0].squares = sums[18].squares = sums[19].squares = 9; /* leaves pieces 1 … 17 */
  assert_true(clip_search_pick(&pick, sums));
  assert_true(pick.low == 1 / 20.0 && pick.high == 11 / 20.0 && pick.variance == 0 && pick.blocks == 40);
  for (int i = 0; i < CLIP_PIECES; i++) sums[i] = (ClipPiece){4, i < 15 ? 0 : 4, i < 15 ? 0 : 4 + i};
  assert_true(clip_search_pick(&pick, sums));
  assert_true(pick.high > 15 / 20.0 && pick.variance > 0);
  for (int i = 0; i < CLIP_PIECES; i++) sums[i] = (ClipPiece){4, 0, 0};
  assert_false(clip_search_pick(&pick, sums));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_search), cmocka_unit_test(test_pick)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
