/* mixture — the shares of every prefix, every row once in an epoch of its set on any number of ranks, resuming with the
 * same and with other sets, lists that are refused. */
#include "base/rng.h"
#include "check.h"
#include "store/checkpoint.h"
#include "store/loader.h"
#include "store_bench.h"
#include <math.h>

enum { FILES = 9 };
static const int64_t sizes[FILES] = {5, 8, 13, 21, 34, 3, 7, 50, 1};

static Data file_data(int i) {
  return (Data){.N = sizes[i],
                .L = 6,
                .V = 100,
                .type = H5_U16,
                .salt = (uint32_t)i + 1,
                .source = "abcdefghi" + i,
                .classes = i % 2 ? 4 : 0};
}

static const char *file_path(int i) {
  static char name[FILES][8];
  snprintf(name[i], sizeof name[i], "%c.h5", 'a' + i);
  return bench_path(name[i]);
}

static int make_files(void **state) {
  if (bench_setup(state) != 0) return -1;
  for (int i = 0; i < FILES; i++) {
    Data d = file_data(i);
    data_write(file_path(i), &d);
  }
  return 0;
}

/* The mixture of the first n files with these weights; set i is called a, b, c … */
static Mixture *mixture_of(int n, const double *weights) {
  char spec[FILES * 400];
  size_t used = 0;
  Mixture *m;
  for (int i = 0; i < n; i++)
    used += (size_t)snprintf(spec + used, sizeof spec - used, "%c=%.10g:%s; ", 'a' + i, weights[i], file_path(i));
  assert_true(used < sizeof spec);
  must(mixture_open(&m, spec));
  assert_int_equal(mixture_sets(m), n);
  return m;
}

/* After j draws a set of weight w of W has had ⌊jw/W⌋ or ⌈jw/W⌉, and the draws of a set are numbered in order. */
static void expect_shares(const Mixture *m, int n, const int64_t *w, int64_t W, int64_t draws) {
  int64_t had[FILES] = {0}, number;
  int set;
  for (int64_t j = 0; j < draws; j++) {
    for (int s = 0; s < n; s++) {
      assert_int_equal(mixture_drawn(m, s, j), had[s]);
      assert_in_range(had[s], j * w[s] / W, (j * w[s] + W - 1) / W);
    }
    mixture_draw(m, j, &set, &number);
    assert_int_equal(number, had[set]++);
  }
}

static void shares(void **state) {
  (void)state;
  for (int n = 2; n <= FILES; n++)
    for (int64_t trial = 0; trial < (check_watched() ? 2 : 12); trial++) {
      int64_t w[FILES], W = 0;
      double weights[FILES];
      for (int i = 0; i < n; i++) {
        double u = rng_uniform(rng_key(3, RNG_TEST, 0, (uint64_t)trial, (uint64_t)n), (uint64_t)i);
        w[i] = trial == 0 ? 1 : 1 + (int64_t)(u * u * u * 97); /* all equal, or some of them small */
        W += w[i];
        weights[i] = (double)w[i] / (trial % 3 == 1 ? 100 : 1);
      }
      Mixture *m = mixture_of(n, weights);
      expect_shares(m, n, w, W, 3 * W + 5);
      mixture_close(&m);
    }
}

/* Weights that no short cycle can hold: the shares are within 2^-18, and the prefixes follow those. */
static void long_weights(void **state) {
  (void)state;
  const double weights[] = {6458670, 74004228, 1.5, 1e-3};
  double sum = weights[0] + weights[1] + weights[2] + weights[3];
  Mixture *m = mixture_of(4, weights);
  for (int s = 0; s < 4; s++) {
    assert_true(fabs(mixture_share(m, s) - weights[s] / sum) < 0x1p-18);
    for (int64_t j = 0; j < 3 << 20; j += 98765)
      assert_true(fabs((double)mixture_drawn(m, s, j) - (double)j * mixture_share(m, s)) < 1);
  }
  mixture_close(&m);
}

/* ---- the loader */

typedef struct Draw {
  int64_t set;
  int64_t row;
} Draw;

/* All draws of the steps, in the order of their places, from loaders of so many ranks. The tokens are compared. */
static void draw_steps(Mixture *m, LoaderOptions o, int64_t ranks, int64_t steps, Draw *draws) {
  Micro micro;
  o.data = m;
  o.count = o.global_batch / ranks;
  for (o.first = 0; o.first < o.global_batch; o.first += o.count) {
    Loader *l;
    must(loader_create(&l, &o));
    for (int64_t i = 0; i < steps * o.count; i += micro.n) {
      must(loader_next(l, &micro));
      for (int64_t b = 0; b < micro.n; b++) {
        Data d = file_data(micro.sets[b]);
        draws[(micro.step - o.step) * o.global_batch + micro.first + b] = (Draw){micro.sets[b], micro.rows[b]};
        for (int64_t p = 0; p < d.L; p++) assert_int_equal(micro.tokens[b * d.L + p], data_token(&d, micro.rows[b], p));
        assert_int_equal(micro.lengths[b], data_length(&d, micro.rows[b]));
        assert_int_equal(micro.labels[b], data_label(&d, micro.rows[b]));
      }
    }
    loader_destroy(&l);
  }
}

/* Every row of each set is seen e or e+1 times, where the set has had e whole epochs. */
static void expect_epochs(const Mixture *m, const Draw *draws, int64_t n) {
  for (int s = 0; s < mixture_sets(m); s++) {
    int64_t seen[64] = {0}, all = 0, N = shards_rows(mixture_shards(m, s));
    for (int64_t j = 0; j < n; j++)
      if (draws[j].set == s) seen[draws[j].row]++, all++;
    for (int64_t row = 0; row < N; row++) assert_in_range(seen[row], all / N, (all + N - 1) / N);
  }
}

static void same_on_any_ranks(void **state) {
  (void)state;
  enum { B = 12, STEPS = 30 };
  const LoaderOrder orders[] = {ORDER_PERMUTED, ORDER_BLOCKED, ORDER_SEQUENTIAL};
  const double weights[] = {0.2, 0.5, 0.3};
  Draw one[STEPS * B], other[STEPS * B];
  Mixture *m = mixture_of(3, weights);
  for (int i = 0; i < 3; i++) {
    LoaderOptions o = {.order = orders[i], .seed = 5, .global_batch = B, .micro_batch = 1};
    draw_steps(m, o, 1, STEPS, one);
    expect_epochs(m, one, STEPS * B);
    for (int64_t ranks = 2; ranks <= 4; ranks++) {
      memset(other, 0, sizeof other);
      draw_steps(m, o, ranks, STEPS, other);
      assert_memory_equal(one, other, sizeof one);
    }
    o.micro_batch = 3, o.step = 11, o.sequences = 11 * B; /* a loader that starts there goes on */
    draw_steps(m, o, 2, STEPS - 11, other);
    assert_memory_equal(one + 11 * B, other, (STEPS - 11) * B * sizeof *one);
  }
  mixture_close(&m);
}

/* The time of a sequence depends on its place in the batch: each set comes to each place. */
static void places_change(void **state) {
  (void)state;
  enum { B = 8, STEPS = 400 };
  Draw draws[STEPS * B];
  int first[B] = {0};
  Mixture *m = mixture_of(2, (double[]){1, 1});
  draw_steps(m, (LoaderOptions){.seed = 9, .global_batch = B, .micro_batch = 8}, 1, STEPS, draws);
  for (int j = 0; j < STEPS * B; j++) first[j % B] += draws[j].set == 0;
  for (int k = 0; k < B; k++) assert_in_range(first[k], 150, 250); /* 5 standard deviations */
  mixture_close(&m);
}

/* ---- resuming */

static CheckpointState stored(const Mixture *m, int64_t sequences) {
  CheckpointState was = {.deck = "", .length = 6, .sequences = sequences, .tokens = 6 * sequences}, read;
  was.mixture = mixture_state(m, sequences);
  was.protocol = *mixture_protocol(m);
  was.vocab = data_vocab(100);
  snprintf(was.data_digest, sizeof was.data_digest, "%s", was.protocol.digest);
  must(checkpoint_save(bench_path("mixed.h5"), &was, (CheckpointArray *[CKPT_GROUPS]){NULL}, 0, NULL, 0));
  vocab_destroy(&was.vocab);
  must(checkpoint_read(bench_path("mixed.h5"), &read));
  return read;
}

/* Draws go on from a checkpoint; a batch of another size and other weights lose no row of any set. */
static void goes_on(void **state) {
  (void)state;
  enum { B = 12, STEPS = 9, MORE = 40, ALL = STEPS * B + MORE * 10 };
  Draw draws[ALL], again[ALL];
  Mixture *m = mixture_of(3, (double[]){0.2, 0.5, 0.3});
  LoaderOptions o = {.seed = 5, .global_batch = B, .micro_batch = 2};
  draw_steps(m, o, 1, STEPS, draws);
  CheckpointState s = stored(m, STEPS * B);
  assert_true(mixture_same(m, &s.mixture));
  mixture_close(&m);

  const double weights[2][3] = {{0.2, 0.5, 0.3}, {3, 1, 1}}; /* those of before, then others */
  for (int i = 0; i < 2; i++) {
    m = mixture_of(3, weights[i]);
    assert_int_equal(mixture_same(m, &s.mixture), i == 0);
    mixture_resume(m, &s.mixture, s.sequences);
    o.step = STEPS, o.sequences = s.sequences, o.global_batch = 10, o.micro_batch = 1;
    draw_steps(m, o, 2, MORE, draws + STEPS * B);
    expect_epochs(m, draws, ALL);
    CheckpointState later = stored(m, ALL - 100); /* once more, in the middle */
    assert_int_equal(later.mixture.start, i == 0 ? 0 : STEPS * B);
    mixture_close(&m);
    m = mixture_of(3, weights[i]);
    assert_true(mixture_same(m, &later.mixture));
    mixture_resume(m, &later.mixture, later.sequences);
    o.step = STEPS + MORE - 10, o.sequences = later.sequences;
    draw_steps(m, o, 1, 10, again);
    assert_memory_equal(again, draws + ALL - 100, 100 * sizeof *draws);
    checkpoint_state_destroy(&later);
    mixture_close(&m);
  }
  checkpoint_state_destroy(&s);
}

/* From one set to two, to the other alone: each goes on where it stood. */
static void sets_come_and_go(void **state) {
  (void)state;
  Mixture *m;
  int set;
  int64_t n;
  MixtureState was;
  must(mixture_open(&m, file_path(0)));
  assert_string_equal(mixture_name(m, 0), "data");
  was = mixture_single(mixture_protocol(m)->digest, 17);
  assert_true(mixture_same(m, &was));
  mixture_close(&m);

  m = mixture_of(2, (double[]){1, 1});
  assert_false(mixture_same(m, &was));
  mixture_resume(m, &was, 17);
  assert_int_equal(mixture_drawn(m, 0, 17), 17);
  assert_int_equal(mixture_drawn(m, 1, 17), 0);
  mixture_draw(m, 17, &set, &n);
  assert_int_equal(n, set == 0 ? 17 : 0);
  was = mixture_state(m, 27);
  mixture_close(&m);

  must(mixture_open(&m, file_path(1)));
  mixture_resume(m, &was, 27);
  mixture_draw(m, 27, &set, &n);
  assert_int_equal(n, 5);
  CheckpointState s = stored(m, 30); /* 30 draws in all, 8 of this set */
  assert_true(s.mixture.n == 1 && s.mixture.start == 27 && s.mixture.sets[0].drawn == 8);
  checkpoint_state_destroy(&s);
  mixture_close(&m);

  must(mixture_open(&m, file_path(2)));
  assert_null(mixture_find(&was, mixture_protocol(m)->digest));
  mixture_close(&m);
}

static void foreign_state(void **state) {
  (void)state;
  Mixture *m = mixture_of(2, (double[]){1, 1});
  CheckpointState s = stored(m, 20);
  const struct {
    const char *group, *attribute;
    int64_t value;
    const char *words;
  } wrong[] = {{"/mixture/a", "drawn", 9, "do not add up"}, {"/mixture/a", "drawn", 21, "drawn"},
               {"/mixture/b", "first", 11, "first"},        {"/mixture/b", "rows", 0, "rows"},
               {"/mixture/b", "share", 0, "share"},         {"/mixture", "start", 21, "start"}};
  for (int i = 0; i < LENGTH(wrong); i++) {
    H5 *f;
    CheckpointState other = stored(m, 20);
    checkpoint_state_destroy(&other);
    must(h5_open(&f, bench_path("mixed.h5"), true));
    must(h5_set_int(f, wrong[i].group, wrong[i].attribute, wrong[i].value));
    must(h5_close(&f));
    refused(checkpoint_read(bench_path("mixed.h5"), &other), ERR_DATA, "mixed.h5", wrong[i].words);
  }
  checkpoint_state_destroy(&s);
  mixture_close(&m);
}

/* ---- lists */

static void lists(void **state) {
  (void)state;
  char spec[2000];
  Mixture *m;
  compose(spec, "b_2=3:%s,%s;a-1=1:%s", file_path(1), file_path(2), file_path(0)); /* sources differ: two sets do */
  refused(mixture_open(&m, spec), ERR_DATA, "differ: source");
  compose(spec, " b_2=.75 :%s", file_path(1));
  refused(mixture_open(&m, spec), ERR_DATA, "no such file"); /* no list: a file with a strange name */
  compose(spec, "b_2=.75:  %s ;\n a-1=2.5e-1:%s;", file_path(1), file_path(0));
  must(mixture_open(&m, spec));
  assert_string_equal(mixture_name(m, 0), "a-1"); /* in the order of names */
  assert_true(mixture_share(m, 0) == 0.25 && mixture_rows(m) == 13 && mixture_length(m) == 6);
  assert_string_equal(mixture_protocol(m)->source, "a-1 25 %, b_2 75 %");
  mixture_close(&m);
}

static void lists_refused(void **state) {
  (void)state;
  const char *a = file_path(0), *b = file_path(1);
  char spec[2000];
  Mixture *m;
  const char *const weights[] = {"x", "", "0", "-1", "0.5x", "nan", "inf", "1e99"};
  for (int i = 0; i < LENGTH(weights); i++) {
    compose(spec, "one=%s:%s; two=1:%s", weights[i], a, b);
    refused(mixture_open(&m, spec), ERR_USAGE, "the weight of one is", weights[i]);
    assert_null(m);
  }
  compose(spec, "one=1:%s; two=1:%s; one=2:%s", a, b, file_path(2));
  refused(mixture_open(&m, spec), ERR_USAGE, "two sets are called one");
  compose(spec, "one=1:%s; two=1:%s", a, a);
  refused(mixture_open(&m, spec), ERR_USAGE, "one and two hold the same rows");
  compose(spec, "%s; two=1:%s", a, b);
  refused(mixture_open(&m, spec), ERR_USAGE, "is not NAME=WEIGHT:FILES");
  compose(spec, "one=1:; two=1:%s", b);
  refused(mixture_open(&m, spec), ERR_USAGE, "is not NAME=WEIGHT:FILES");
  compose(spec, "one=1:%s.missing; two=1:%s", a, b);
  refused(mixture_open(&m, spec), ERR_DATA, "a.h5.missing: no such file");
  compose(spec, "a23456789012345678901234567890123=1:%s; two=1:%s", a, b);
  refused(mixture_open(&m, spec), ERR_USAGE, "more than 31 letters");
  refused(mixture_open(&m, " ; ;"), ERR_USAGE, "names no set");
}

static void sets_differ(void **state) {
  (void)state;
  Data length = file_data(0), vocabulary = file_data(0), wrap = file_data(0);
  const char *path = bench_path("other.h5");
  char spec[1000];
  Mixture *m;
  H5 *f;
  length.L = 8, vocabulary.V = 90, wrap.salt = 77;
  compose(spec, "one=1:%s; two=1:%s", file_path(1), path);
  data_write(path, &length);
  refused(mixture_open(&m, spec), ERR_DATA, "other.h5 has rows of 8 tokens", "b.h5 of 6");
  data_write(path, &vocabulary);
  refused(mixture_open(&m, spec), ERR_DATA, "b.h5", "other.h5");
  data_write(path, &wrap);
  must(h5_open(&f, path, true));
  must(h5_set_int(f, "/", "wrap", 0));
  must(h5_close(&f));
  refused(mixture_open(&m, spec), ERR_DATA, "differ: wrap 1 and 0");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(shares),        cmocka_unit_test(long_weights), cmocka_unit_test(same_on_any_ranks),
      cmocka_unit_test(places_change), cmocka_unit_test(goes_on),      cmocka_unit_test(sets_come_and_go),
      cmocka_unit_test(foreign_state), cmocka_unit_test(lists),        cmocka_unit_test(lists_refused),
      cmocka_unit_test(sets_differ)};
  return cmocka_run_group_tests(tests, make_files, bench_teardown);
}
