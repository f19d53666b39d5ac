/* test_plan — predicted steps against closed forms, and against a timeline computed by hand. */
#include "base/config.h"
#include "base/err.h"
#include "check.h"
#include "train/plan.h"
#include <math.h>

static void assert_near(double got, double want) {
  if (!(fabs(got - want) <= 1e-12 * fabs(want))) fail_msg("%.17g instead of %.17g", got, want);
}

/* Eight micro-batches of 10 s, an update of 1 s; gradients of 100 bytes become final in two halves, 6 s and 10 s after
 * the start of a micro-batch. Links of 10 bytes/s within a node of 4 and of 5 bytes/s between nodes. */
static Plan made(bool overlap, int64_t leaves) {
  return (Plan){.micro = 10,
                .update = 1,
                .final_at = {6, 10},
                .final_bytes = {50, 50},
                .events = 2,
                .gradient = 100,
                .bucket = 50,
                .sum = 30,
                .micros = 8,
                .leaves = leaves,
                .per_node = 4,
                .overlap = overlap,
                .node = {10, 0},
                .network = {5, 0}};
}

static void test_one_rank(void **state) {
  (void)state;
  Plan p = made(true, 0);
  PlanStep s = plan_step(&p, 1);
  assert_near(s.seconds, 81);
  assert_true(s.exposed == 0);
}

/* fast: on one node 2(R−1)/R·b/node; over nodes each rank sends its part of the node's sum. */
static void test_fast(void **state) {
  (void)state;
  Plan p = made(true, 0);
  assert_near(plan_reduction(&p, 2, 50), 5);
  assert_near(plan_reduction(&p, 4, 50), 7.5);
  assert_near(plan_reduction(&p, 8, 50), 7.5 + 2 * 0.5 * (50.0 / 4) / 5);
  p.node.seconds = 0.1;
  p.network.seconds = 1;
  assert_near(plan_reduction(&p, 4, 0), 0.6);
  assert_near(plan_reduction(&p, 16, 0), 0.6 + 4);
}

/* tree: halves, quarters … there and back, and added once: each step at the link of its distance. */
static void test_tree(void **state) {
  (void)state;
  Plan p = made(true, 8);
  assert_near(plan_reduction(&p, 2, 100), 2 * 50.0 / 10 + 3 * 50.0 / 30);
  assert_near(plan_reduction(&p, 4, 100), 2 * 75.0 / 10 + 3 * 75.0 / 30);
  assert_near(plan_reduction(&p, 3, 90), 2 * 60.0 / 10 + 3 * 60.0 / 30);
  assert_near(plan_reduction(&p, 12, 120), 2 * 90.0 / 10 + 2 * 20.0 / 5 + 3 * 110.0 / 30);
  assert_near(plan_reduction(&p, 8, 100), 2 * 75.0 / 10 + 2 * 12.5 / 5 + 3 * 87.5 / 30);
}

/* Two ranks: a bucket takes 5 s. With overlap the first one is over at 11 s, the second at 16 s of the last micro-batch;
 * without, both add to it. Of four micro-batches each, three are as measured. */
static void test_timeline(void **state) {
  (void)state;
  Plan p = made(true, 0);
  PlanStep s = plan_step(&p, 2);
  assert_near(s.seconds, 30 + 16 + 1);
  assert_near(s.exposed, 6);
  p.overlap = false;
  assert_near(plan_step(&p, 2).seconds, 30 + 20 + 1);
  p.overlap = true;
  p.bucket = 100; /* nothing to begin with before the end */
  assert_near(plan_step(&p, 2).seconds, 30 + 20 + 1);
  p.node.bytes = 1e12;
  assert_near(plan_step(&p, 2).seconds, 41 + 2 * 0.5 * 100 / 1e12);
}

/* The state divided over two ranks: reduce-scatters of 2.5 s, half of the update, and 5 s to gather the weights. */
static void test_divided(void **state) {
  (void)state;
  Plan p = made(true, 0);
  p.divided = true;
  assert_near(plan_step(&p, 1).seconds, 81);
  PlanStep s = plan_step(&p, 2);
  assert_near(s.seconds, 30 + 12.5 + 0.5 + 5);
  assert_near(s.exposed, 2.5 + 5);
  p.overlap = false;
  assert_near(plan_step(&p, 2).seconds, 30 + 15 + 0.5 + 5);
  p = made(false, 8); /* tree: all of the adding is in the reduce-scatter */
  p.divided = true;
  assert_near(plan_gather(&p, 3, 90), 60.0 / 10);
  assert_near(plan_step(&p, 2).seconds, 30 + 10 + 50.0 / 10 + 3 * 50.0 / 30 + 0.5 + 5);
}

/* Ranks that share cores compute more slowly, gradients become final later. */
static void test_shared_cores(void **state) {
  (void)state;
  Plan p = made(false, 0);
  p.threads = 1;
  p.cores = 2;
  assert_near(plan_step(&p, 2).seconds, 30 + 20 + 1);
  assert_near(plan_step(&p, 4).seconds, 2 * (10 + 10 + 1) + 2 * 7.5);
  assert_near(plan_step(&p, 4).exposed, 15);
}

static void test_ranks(void **state) {
  (void)state;
  Plan fast = made(true, 0), tree = made(true, 4);
  fast.micros = tree.micros = 24;
  assert_true(plan_ranks(&fast, 3) && plan_ranks(&fast, 12) && !plan_ranks(&fast, 6) && !plan_ranks(&fast, 16));
  assert_true(plan_ranks(&tree, 4) && !plan_ranks(&tree, 3) && !plan_ranks(&tree, 8));
  tree.leaves = 12;
  assert_true(plan_ranks(&tree, 3) && plan_ranks(&tree, 12) && !plan_ranks(&tree, 8));
}

static void test_links(void **state) {
  (void)state;
  char *words[] = {"plan.node_link=pcie", "plan.network=ethernet", "plan.network_us=7"};
  Config cfg;
  Plan p;
  MUST(config_load(&cfg, NULL, 3, words));
  plan_links(&p, &cfg);
  assert_near(p.node.bytes, 20e9);
  assert_near(p.network.bytes, 1.1e9);
  assert_near(p.network.seconds, 7e-6);
  config_free(&cfg);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_rank), cmocka_unit_test(test_fast),
                                     cmocka_unit_test(test_tree),     cmocka_unit_test(test_timeline),
                                     cmocka_unit_test(test_divided),  cmocka_unit_test(test_shared_cores),
                                     cmocka_unit_test(test_ranks),    cmocka_unit_test(test_links)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
