/* shard — steps of the optimizer whose state is divided over the ranks (1 to 8): with `tree` weights, moments, average
 * and norms have the bits of steps with all of the state on one rank. Linked with another check_device it tests that
 * device. */
#include "toy_network.h"

#include <math.h>
#include <mpi.h>

#include "base/mem.h"
#include "train/optimizer.h"
#include "train/reduce.h"

enum { MICROS = 3, STEPS = 8, FEW = 2, BUFFERS = 4 }; /* FEW steps on a slow device */

static Comm world, alone;

typedef struct Way { /* of training */
  Comm *comm;
  bool tree, divided;
} Way;

typedef struct Outcome {
  double norm[STEPS], *flat[BUFFERS]; /* weights, average, moments, each [count] */
  int64_t count, own, blocks;
} Outcome;

/* Clipping, weight decay and averaging all have an effect. */
static const OptimizerOptions RECIPE = {.lr = {.peak = 1e-2, .warmup = 5},
                                        .beta1 = 0.9,
                                        .beta2 = 0.99,
                                        .eps = 1e-8,
                                        .weight_decay = 0.1,
                                        .clip = 0.5,
                                        .ema = 0.9};

static void backward(Network *n, Reduction *r, int64_t step) {
  int64_t micros = MICROS * world.size / r->comm->size;
  MUST(reduction_begin(r));
  for (int64_t i = 0; i < micros; i++) {
    n->ready = reduction_ready(r);
    toy_pass(n, &toy_mixed, (int)((r->comm->rank * micros + i + step) % TOY_B), 1, toy_none, true);
    n->ready = (Ready){0};
    MUST(reduction_add(r));
  }
  MUST(reduction_finish(r));
}

/* What the trainer does after backward. */
static double update(Network *n, Reduction *r, Optimizer *o) {
  Params *p = &n->model.params;
  double squares, norm, lr;
  MUST(optimizer_squares(o, &squares));
  MUST(optimizer_step(o, squares, 1.0 / (MICROS * world.size), &norm, &lr));
  MUST(reduction_gather(r, p->value));
  if (!tensor_none(p->low)) MUST(op_to_bf16(p->dev, p->low, p->value));
  return norm;
}

static double *whole(Network *n, Reduction *r, Tensor own) {
  Params *p = &n->model.params;
  if (r->shard.parts == 1) return toy_values(n, own);
  MUST(shard_put(&r->shard, p->dev, p->grad, own));
  MUST(reduction_gather(r, p->grad));
  return toy_values(n, p->grad);
}

/* The parts are taken from a whole buffer as they were put there. */
static void taken_again(Network *n, Reduction *r, Optimizer *o, const double *want) {
  Params *p = &n->model.params;
  MUST(shard_take(&r->shard, p->dev, o->v, p->value));
  double *got = whole(n, r, o->v);
  toy_same("weights taken and gathered", got, want, p->count);
  mem_free(&got);
}

static Outcome train(Toy t, Way way) {
  Network n;
  Reduction r;
  Optimizer o;
  Outcome out = {0};
  OptimizerOptions options = RECIPE;
  ShardBlock b;
  t.model.parts = way.divided ? way.comm->size : 0;
  toy_network_open(&n, &t);
  Params *p = &n.model.params;
  Shard shard = shard_whole(p->count);
  if (way.divided) shard = shard_ranks(p->dev, way.comm, p->count, way.tree);
  options.shard = &shard;
  options.comm = way.comm;
  MUST(optimizer_create(&o, p, &options));
  MUST(optimizer_begin(&o));
  MUST(reduction_create(&r, way.comm, p, way.tree, MICROS * world.size, MICROS * world.size));
  r.shard = shard;
  for (int i = 0; i < (check_slow ? FEW : STEPS); i++) {
    backward(&n, &r, i);
    out.norm[i] = update(&n, &r, &o);
  }
  const Tensor state[BUFFERS] = {p->value, o.ema, o.m, o.v};
  for (int i = 0; i < BUFFERS; i++) out.flat[i] = i == 0 ? toy_values(&n, p->value) : whole(&n, &r, state[i]);
  out.count = p->count;
  out.own = tensor_count(o.m);
  for (int64_t at = 0; shard_next(&shard, at, &b); at += b.n) out.blocks++;
  taken_again(&n, &r, &o, out.flat[0]);
  reduction_destroy(&r);
  optimizer_destroy(&o);
  network_destroy(&n);
  return out;
}

static void forget(Outcome *x) {
  for (int i = 0; i < BUFFERS; i++) mem_free(&x->flat[i]);
}

static const char *const names[] = {"weights", "average", "first moments", "second moments"};

static void same(const Outcome *got, const Outcome *want) {
  int64_t n = got->count < want->count ? got->count : want->count;
  for (int i = 0; i < BUFFERS; i++) toy_same(names[i], got->flat[i], want->flat[i], n);
  for (int i = 0; i < BUFFERS; i++)
    for (int64_t k = n; k < got->count; k++) assert_true(got->flat[i][k] == 0); /* padding */
  toy_same("norms", got->norm, want->norm, STEPS);
}

/* Sums of more than two numbers in other orders: the norms of the first step differ by rounding. */
static void near(const Outcome *got, const Outcome *want, double tolerance) {
  if (fabs(got->norm[0] / want->norm[0] - 1) > tolerance)
    fail_msg("norm %.17g instead of %.17g", got->norm[0], want->norm[0]);
}

/* Buckets of one unit, so that there are several blocks, and of the usual size. */
static void compare(Toy t, double tolerance) {
  const size_t kept = device_comm_bucket, buckets[] = {256, kept};
  t.device.place = world.place;
  t.device.deterministic = true; /* else each rank may choose other algorithms */
  Outcome one = train(t, (Way){&alone, true, false}), fast = train(t, (Way){&world, false, false});
  assert_true(one.norm[0] / RECIPE.clip > 1); /* is clipped */
  for (int i = 0; i < (check_slow || world.size > 4 ? 1 : 2); i++) {
    device_comm_bucket = buckets[i];
    Outcome tree = train(t, (Way){&world, true, true}), divided = train(t, (Way){&world, false, true});
    assert_true(tree.own * world.size == tree.count && (tree.blocks > 1) == (i == 0 && world.size > 1));
    same(&tree, &one);
    if (world.size <= 2) /* a sum of two numbers has one order */
      same(&divided, &fast);
    near(&divided, &fast, tolerance);
    forget(&tree);
    forget(&divided);
  }
  device_comm_bucket = kept;
  forget(&one);
  forget(&fast);
}

static void divided_state_gives_the_same(void **state) {
  const ToyNetwork *x = *state;
  toy_network_skip_slow(x);
  Toy t = toy_network(x->name, check_device, x->timed);
  t.model.width = 64;
  t.model.blocks = 2;
  compare(t, 1e-4);
  t.device.bf16 = true;
  if (!check_slow) compare(t, 1e-2);
  t.device.bf16 = false;
  t.device.name = "cpu_f64";
  if (!check_slow) compare(t, 1e-12);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(divided_state_gives_the_same)};
  MPI_Init(&argc, &argv);
  if (comm_mpi_create(&world) || comm_null_create(&alone)) return 1;
  int failed = toy_networks_main(tests, 1);
  comm_destroy(&world);
  MPI_Finalize();
  return failed;
}
