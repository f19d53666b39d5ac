/* test_profile — every number of a profile against a slow computation of its own: each sequence and draw by itself,
 * softmax, distances, frequencies and losses by their definitions. */
#include "store_bench.h"
#include "toy.h"

#include "measure/profile.h"
#include "model/transformer.h"
#include <math.h>

enum { L = 6, V = 9, MASK = V - 1, CELL = sizeof(ProfileCell) / sizeof(double) };

typedef struct Case {
  const char *objective, *model, *estimator;
  int64_t T, rows, batch, draws, sequences;
  bool subs_masking;
} Case;

static const Case cases[] = {
    {"subs", "dit", "count", 0, 40, 7, 3, 0, false},   {"subs", "dit", "time", 0, 40, 7, 2, 25, false},
    {"d3pm", "dit", "time", 9, 40, 7, 2, 0, false},    {"d3pm", "dit", "time", 9, 40, 7, 2, 0, true},
    {"sedd", "dit", "time", 0, 40, 7, 2, 0, false},    {"ar", "ar", "time", 0, 40, 7, 1, 0, false},
    {"subs", "dit", "count", 0, 1100, 2, 1, 0, false}, /* groups of 3, which a batch does not hold */
    {"subs", "dit", "count", 0, 1100, 8, 1, 0, false}, /* two groups a batch */
};

static void open_net(Network *n, const Case *c) {
  Toy toy = toy_tiny(V, MASK, L, c->batch);
  toy.model.name = c->model;
  toy.eps = 1e-3;
  toy.objective = (ObjectiveOptions){.name = c->objective, .T = c->T, .tau = 1e-3, .subs_masking = c->subs_masking};
  toy_open(n, &toy);
  toy_weights(n, 5, 3);
}

static Shards *open_data(const Case *c) {
  Shards *s;
  const char *path = bench_path("rows.h5");
  data_write(path, &(Data){.N = c->rows, .L = L, .V = V, .type = H5_U16});
  must(shards_open(&s, path));
  return s;
}

/* ---- the slow way */
typedef struct Slow {
  Network net;
  NelboPasses passes;
  int64_t count[V];
  ProfileBins bins; /* for its numbering only */
  ProfileCell *cells;
  double squares[2], rows; /* of the residual stream: embedded tokens, and before the final norm */
} Slow;

static void slow_count(Slow *w) {
  double values[NELBO_VALUES];
  for (int64_t i = 0; i < w->passes.n; i++) {
    must(nelbo_load(&w->passes, &i, 1, values));
    for (int l = 0; l < w->passes.lengths[0]; l++) w->count[w->passes.tokens[l]]++;
  }
}

static int slow_tenth(const Slow *w, int32_t token) {
  double before = 0, all = 0, own = (double)w->count[token];
  for (int v = 0; v < V; v++) {
    double n = (double)w->count[v];
    before += n > own || (v < token && n >= own) ? n : 0;
    all += n;
  }
  return (int)(10 * (before + own / 2) / all);
}

static int slow_distance(const int32_t *z, int length, int at, bool masks) {
  static const int bin[] = {0, 1, 2, 3, 3, 4}; /* of distances 0 … 5 */
  int least = L;
  for (int l = 0; l < length; l++)
    if (!(masks && z[l] == MASK) && abs(l - at) < least) least = abs(l - at);
  return least == L ? 5 : bin[least];
}

/* The objective's loss of a row by its definition. */
static double slow_loss(const Case *c, const double *f, int32_t x0, const double *terms) {
  double all = 0, others = 0;
  for (int v = 0; v < V; v++) all += exp(f[v]);
  others = all - exp(f[MASK]);
  if (strcmp(c->objective, "sedd") == 0) return *terms * (others / (V - 1) - (f[x0] - log(V - 1)) - 1);
  if (strcmp(c->objective, "d3pm") != 0 || c->subs_masking) return *terms * (log(others) - f[x0]);
  double m = exp(f[MASK]) / all, a = log1p(terms[2] * m), b = log1p((terms[2] + terms[3]) * m);
  return terms[0] * (a - (f[x0] - log(all))) + terms[1] * (a - b);
}

static void slow_row(Slow *w, const Case *c, int64_t i, const float *logits) {
  const Noised *z = &w->net.noised;
  const Objective *o = &w->net.objective;
  int32_t x0 = z->target[i];
  int at = z->rows[i], length = z->length[0], masked = 0, best = 0;
  double f[V], sum = 0, entropy = 0;
  for (int v = 0; v < V; v++) f[v] = (double)logits[v];
  for (int v = 0; v < MASK; v++) {
    sum += exp(f[v]);
    if (f[v] > f[best]) best = v;
  }
  for (int v = 0; v < MASK; v++) entropy -= exp(f[v]) / sum * log(exp(f[v]) / sum);
  for (int l = 0; l < length; l++) masked += o->diffusion && z->z[l] == MASK;
  double nll = log(sum) - f[x0], top = exp(f[best]) / sum;
  int share = (int)ceil(10.0 * masked / length - 1e-9), tenth = (int)floor(10 * top);
  const int bin[CUTS] = {share, o->diffusion ? at : at + 1, slow_tenth(w, x0),
                         slow_distance(z->z, length, at, o->diffusion), 10 * share + tenth};
  for (int k = 0; k < CUTS; k++) {
    ProfileCell *to = &w->cells[w->bins.first[k] + bin[k]];
    const double more[CELL] = {1,          nll, nll * nll, slow_loss(c, f, x0, z->weight + i * o->terms),
                               best == x0, top, entropy};
    for (int j = 0; j < CELL; j++) ((double *)to)[j] += more[j];
  }
}

/* The squares of one predicted row, from the table of embeddings and from what the final norm says of its input. */
static void slow_norm(Slow *w, int64_t i) {
  enum { D = 8 };
  const Transformer *t = w->net.model.impl;
  double *table = toy_values(&w->net, w->net.model.params.list[t->embedding].value);
  double *mean = toy_values(&w->net, t->final.mean), *rstd = toy_values(&w->net, t->final.rstd);
  const double *x = table + w->net.noised.z[w->net.noised.rows[i]] * D;
  for (int d = 0; d < D; d++) w->squares[0] += x[d] * x[d];
  w->squares[1] += D * (1 / (rstd[i] * rstd[i]) - 1e-5 + mean[i] * mean[i]);
  w->rows += 1;
  mem_free(&table);
  mem_free(&mean);
  mem_free(&rstd);
}

static void slow_pass(Slow *w, const Case *c, bool first) {
  const Noised *z = &w->net.noised;
  float logits[L * V];
  ModelInput in = {.B = 1, .ids = z->z, .sigma = z->sigma, .lengths = z->length, .rows = z->rows, .n_rows = z->n_rows};
  must(model_forward(&w->net.model, &in));
  if (z->n_rows > 0) must(rows_logits(&w->net.rows, 0, z->n_rows, logits));
  for (int64_t i = 0; i < z->n_rows; i++) {
    slow_row(w, c, i, logits + i * V);
    if (first) slow_norm(w, i);
  }
}

static void slow_run(Slow *w, const Case *c, Shards *data, const NelboOptions *o) {
  double values[NELBO_VALUES];
  Case one = *c;
  one.batch = 1;
  *w = (Slow){0};
  open_net(&w->net, &one);
  must(nelbo_passes(&w->passes, &w->net, data, o));
  must(profile_bins_create(&w->bins, L, V));
  must(mem_alloc(&w->cells, (size_t)w->bins.first[CUTS] * sizeof *w->cells));
  slow_count(w);
  for (int64_t i = 0; i < w->passes.n; i++) {
    must(nelbo_load(&w->passes, &i, 1, values));
    for (int64_t draw = 0; draw < o->draws; draw++) {
      nelbo_noise(&w->passes, &i, 1, draw, values);
      slow_pass(w, c, true);
      if (network_passes(&w->net) == 1) continue;
      w->net.objective.table->second(&w->net.objective, &w->net.noised);
      slow_pass(w, c, false);
    }
  }
}

static void slow_end(Slow *w) {
  nelbo_passes_end(&w->passes);
  profile_bins_destroy(&w->bins);
  mem_free(&w->cells);
  network_destroy(&w->net);
}

/* ---- comparisons */
static void near(const char *what, int64_t at, double got, double want, double tolerance) {
  if (!(fabs(got - want) <= tolerance * fmax(1, fabs(want))))
    fail_msg("%s of bin %lld is %.12g, not %.12g", what, (long long)at, got, want);
}

/* The logits of the slow way are f32. */
static void compare_cells(const Profile *p, const Slow *w) {
  static const char *const names[CELL] = {"rows", "nll", "square", "loss", "hits", "top", "entropy"};
  for (int64_t i = 0; i < p->bins.first[CUTS]; i++)
    for (int k = 0; k < CELL; k++)
      near(names[k], i, ((const double *)&p->cells[i])[k], ((const double *)&w->cells[i])[k], 2e-5);
}

static void compare_sums(const Profile *p, const Nelbo *r, const Case *c) {
  for (int cut = 0; cut < CUTS; cut++) {
    int64_t n = p->bins.first[cut + 1] - p->bins.first[cut];
    const ProfileCell t = profile_total(p->cells + p->bins.first[cut], n);
    near("nll from the losses", cut, t.loss / (double)(c->draws * r->interval.tokens), r->interval.nll, 1e-13);
    assert_true(t.rows > 0 && t.top > 0 && t.hits < t.rows);
  }
}

/* What a cut holds that the objective has no rows for is empty, and the rest is all. */
static void compare_cuts(const Profile *p, const Network *net) {
  bool masks = net->objective.diffusion, visible = masks && network_passes(net) == 2;
  int64_t first;
  assert_int_equal(profile_cut(p, net, CUT_POSITION, &first), L);
  assert_int_equal(profile_cut(p, net, CUT_FREQUENCY, &first), 10);
  assert_int_equal(profile_cut(p, net, CUT_SHARE, &first), masks ? 10 + visible : 0);
  assert_int_equal(profile_cut(p, net, CUT_DISTANCE, &first), masks ? 5 + visible : 0);
  assert_int_equal(profile_cut(p, net, CUT_CALIBRATION, &first), masks ? 10 + visible : 1);
  assert_int_equal(first, masks && !visible);
  const ProfileCell *share = p->cells + p->bins.first[CUT_SHARE];
  assert_true((share[0].rows > 0) == (visible || !masks));
  if (!masks) assert_true(profile_total(share + 1, 10).rows == 0);
}

static void compare_ece(const Profile *p, const Slow *w) {
  const ProfileCell *cells = w->cells + w->bins.first[CUT_CALIBRATION];
  double off = 0, rows = 0, all = 0;
  for (int s = 0; s < PROFILE_SHARES; s++) {
    double one = 0, mine = 0;
    for (int k = 0; k < 10; k++) {
      one += fabs(cells[10 * s + k].hits - cells[10 * s + k].top);
      mine += cells[10 * s + k].rows;
    }
    if (mine > 0) near("ece", s, profile_ece(p, s, 1), one / mine, 1e-5);
    if (mine == 0) assert_true(isnan(profile_ece(p, s, 1)));
    all += one, rows += mine;
  }
  for (int k = 0; k < 10; k++) {
    double sum = 0;
    for (int s = 0; s < PROFILE_SHARES; s++) sum += cells[10 * s + k].hits - cells[10 * s + k].top;
    off += fabs(sum);
  }
  near("ece of all", 0, profile_ece(p, 0, PROFILE_SHARES), off / rows, 1e-5);
  assert_true(off <= all * (1 + 1e-12));
}

static void compare_types(const Profile *p, const Slow *w) {
  for (int k = 0; k < 10; k++) {
    int64_t types = 0, low = 0, high = 0;
    for (int v = 0; v < V; v++) {
      int64_t n = w->count[v];
      if (n == 0 || slow_tenth(w, v) != k) continue;
      low = types == 0 || n < low ? n : low;
      high = n > high ? n : high;
      types++;
    }
    assert_int_equal(p->bins.types[k], types);
    assert_int_equal(p->bins.low[k], low);
    assert_int_equal(p->bins.high[k], high);
  }
}

/* One block has two branches. */
static void compare_norms(const Profile *p, const Slow *w) {
  assert_int_equal(p->seams, 3);
  for (int s = 0; s < 3; s++) near("rows of the residual stream", s, p->norms[s].rows, w->rows, 0);
  near("squares of the embedding", 0, p->norms[0].squares, w->squares[0], 1e-12);
  near("squares before the final norm", 2, p->norms[2].squares, w->squares[1], 1e-9);
  assert_true(p->norms[1].squares > 0 && p->norms[1].squares != p->norms[0].squares);
}

static void profile_case(const Case *c) {
  Network net;
  Comm comm;
  Slow slow;
  Profile p;
  Nelbo r, plain;
  NelboOptions o = {.draws = c->draws, .seed = 3, .stratified = true, .sequences = c->sequences};
  print_message("# %s, estimator %s, T = %d%s, %d rows in batches of %d\n", c->objective, c->estimator, (int)c->T,
                c->subs_masking ? ", subs_masking" : "", (int)c->rows, (int)c->batch);
  Shards *data = open_data(c);
  open_net(&net, c);
  must(comm_null_create(&comm));
  must(estimator_find(&o.estimator, c->estimator, &net.objective));
  must(nelbo_run(&plain, &net, data, &comm, &o));
  must(profile_run(&p, &r, &net, data, &comm, &o));
  slow_run(&slow, c, data, &o);
  toy_same("loss", r.loss, plain.loss, r.sequences);
  toy_same("square", r.square, plain.square, r.sequences);
  assert_memory_equal(r.length, plain.length, (size_t)r.sequences * sizeof *r.length);
  assert_int_equal(r.masked, plain.masked);
  compare_cells(&p, &slow);
  compare_sums(&p, &r, c);
  compare_cuts(&p, &net);
  compare_ece(&p, &slow);
  compare_norms(&p, &slow);
  compare_types(&p, &slow);
  slow_end(&slow);
  profile_destroy(&p);
  nelbo_destroy(&r);
  nelbo_destroy(&plain);
  network_destroy(&net);
  comm_destroy(&comm);
  shards_close(&data);
}

static void test_numbers(void **state) {
  (void)state;
  for (int i = 0; i < LENGTH(cases); i += check_stride(3)) profile_case(&cases[i]);
}

/* The bins of long rows: 0, 1, 2, 3–4, …, nothing visible. */
static void test_distances(void **state) {
  (void)state;
  static const int64_t edges[][2] = {{0, 0}, {1, 1}, {2, 2}, {3, 4}, {5, 8}, {9, 16}, {17, 32}, {33, 33}};
  ProfileBins b;
  must(profile_bins_create(&b, 33, V));
  assert_int_equal(b.first[CUT_DISTANCE + 1] - b.first[CUT_DISTANCE], LENGTH(edges));
  for (int k = 0; k < LENGTH(edges); k++) {
    int64_t low, high;
    profile_bins_distance(&b, k, &low, &high);
    assert_int_equal(low, edges[k][0]);
    assert_int_equal(high, edges[k][1]);
  }
  profile_bins_destroy(&b);
}

/* One type with more than a tenth of the tokens, unseen types, equal counts. */
static void test_tenths(void **state) {
  (void)state;
  const int64_t count[V] = {1, 70, 0, 10, 10, 5, 4, 0, 0};
  const uint8_t want[V] = {9, 3, 0, 7, 8, 9, 9, 0, 0};
  ProfileBins b;
  must(profile_bins_create(&b, L, V));
  must(profile_bins_count(&b, count));
  for (int v = 0; v < V; v++) assert_int_equal(b.tenth[v], want[v]);
  assert_int_equal(b.types[9], 3);
  assert_int_equal(b.low[9], 1);
  assert_int_equal(b.high[9], 5);
  profile_bins_destroy(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers), cmocka_unit_test(test_distances),
                                     cmocka_unit_test(test_tenths)};
  return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
