#include "toy_network.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static const ToyNetwork rows[] = {
    {"dit", "subs", true, 2, 1.5, TOY_D, 1e-5, 0.1},
    {"dimamba", "subs", true, 5, 1, 8, 2e-5, 0.15},
    {"ar", "ar", false, 2, 1.5, TOY_D, 1e-5, 0.1},
};
enum { ROWS = sizeof rows / sizeof *rows, MOST = 16 };

static const ToyNetwork *find(const char *name) {
  for (int i = 0; i < ROWS; i++)
    if (strcmp(rows[i].name, name) == 0) return &rows[i];
  fail_msg("%s is no row of the networks", name);
  return NULL;
}

Toy toy_network(const char *name, const char *backend, bool time) {
  const ToyNetwork *x = find(name);
  Toy t = toy_dit(backend, time);
  t.model.name = x->name;
  t.model.heads = x->heads;
  t.objective.name = x->objective;
  return t;
}

void toy_network_open(Network *n, const Toy *toy) {
  toy_open(n, toy);
  toy_weights(n, 1, find(toy->model.name)->gain);
}

int toy_networks_main(const struct CMUnitTest *tests, int count) {
  static struct CMUnitTest all[ROWS * MOST];
  static char names[ROWS * MOST][64];
  assert_true(count <= MOST);
  for (int i = 0; i < ROWS * count; i++) {
    const ToyNetwork *x = &rows[i / count];
    all[i] = tests[i % count];
    snprintf(names[i], sizeof names[i], "%s of %s", all[i].name, x->name);
    all[i].name = names[i];
    all[i].initial_state = (void *)(uintptr_t)x;
  }
  return _cmocka_run_group_tests("networks", all, (size_t)(ROWS * count), NULL, NULL);
}

void toy_network_skip_slow(const ToyNetwork *x) {
  if (!check_slow || check_long() || strcmp(x->name, "dimamba") != 0) return;
  print_message("# skip: make check-long runs it; a whole step of this network is compared by test_step\n");
  skip();
}

void toy_fill(Network *n, int64_t first, int64_t count, double value, const char *name_format, ...) {
  char name[96];
  va_list args;
  va_start(args, name_format);
  vsnprintf(name, sizeof name, name_format, args);
  va_end(args);
  const Param *p = params_find(&n->model.params, name);
  assert_non_null(p);
  for (int64_t i = p->offset + first; i < p->offset + first + count; i++)
    MUST(tensor_upload(&n->dev, tensor_rows(n->model.params.value, i, 1), &value));
}

/* With p = ½ each unit takes one of 16 levels, and the norm of a row keeps them distinct. If two of the dropouts had
 * the same bits, only 8 levels would be possible. */
void toy_dropouts_differ(Network *n) {
  Dropout half = {.p = 0.5, .seed = 5};
  double *h = toy_hidden(n, &toy_mixed, 0, TOY_B, half), levels = 0;
  for (int r = 0; r < TOY_TOKENS; r++)
    for (int i = 0; i < TOY_D; i++) {
      bool met = false;
      for (int j = 0; j < i; j++) met |= fabs(h[r * TOY_D + i] - h[r * TOY_D + j]) < 1e-6;
      levels += !met;
    }
  /* D = 16 units on k levels occupy k(1 − (1 − 1/k)¹⁶) of them on average: 10.3 of 16, 7.1 of 8 */
  assert_true(levels / TOY_TOKENS > 9 && levels / TOY_TOKENS < 11.5);
  mem_free(&h);
}
