/* test_menus — the words of keys.def match the names of the tables. A toy objective and a toy sampler, defined only in
 * this file, can train, evaluate and sample without any other change to the program.
 *
 * This program defines its own `objectives` and `samplers`, which the linker uses instead of the library's. */
#include "store_bench.h"

#include "base/config.h"
#include "diffusion/noised.h"
#include "measure/nelbo.h"
#include "sampling/draws.h"
#include "sampling/sampler.h"
#include "train/trainer.h"

#include <math.h>

/* ---- the toys */
/* An objective: plain cross entropy of masked tokens with the same weight at all times. */
static void toy_score(const Objective *o, Noised *n, int64_t b, double t) { (void)t, noised_masked_rows(o, n, b, 1); }

static void toy_log_p(const Objective *o, double *out, const float *f, int32_t z, double t) {
  (void)z, (void)t;
  log_softmax(out, f, o->options.vocab, o->mask);
}

static const ObjectiveTable objective_toy = {.name = "toy",
                                             .gives = GIVES_X0,
                                             .terms = 1,
                                             .score = toy_score,
                                             .loss = objective_cross_entropy,
                                             .log_p = toy_log_p};

/* A sampler that works from right to left with `width` tokens per pass; the width is read from a key. */
static int toy_create(void **own, const SamplerOptions *o) {
  TRY(mem_alloc(own, sizeof(int64_t)));
  *(int64_t *)*own = o->cfg->sample_stride_length;
  return OK;
}

static void toy_destroy(void **own) { mem_free(own); }

static int toy_run(SamplerJob *job, const void *own) {
  int64_t L = job->model->options.length, width = *(const int64_t *)own;
  Draws d;
  int err = OK;
  TRY_TO(done, draws_create(&d, job->n * width));
  for (int64_t last = L; last > 0; last -= width) {
    d.n = 0;
    for (int64_t b = 0; b < job->n; b++)
      for (int64_t l = last - 1; l >= 0 && l >= last - width; l--)
        if (job->z[b * L + l] == job->objective->mask) draws_add(&d, job, b, l, draws_token(job, job->first + b, 0, l));
    TRY_TO(done, draws_evaluate(job, &d, job->z, job->n, 1));
    TRY_TO(done, draws_fill(job, &d, job->z, false, NULL));
  }
done:
  draws_destroy(&d);
  return err;
}

static const SamplerTable sampler_toy = {
    .name = "toy", .takes = TAKES(GIVES_X0), .create = toy_create, .destroy = toy_destroy, .run = toy_run};

/* ---- the menus of this program */
#define ROW(word) extern const ObjectiveTable objective_##word;
OBJECTIVES(ROW)
#undef ROW
#define ROW(word) extern const SamplerTable sampler_##word;
SAMPLERS(ROW)
#undef ROW
#define ROW(word) &objective_##word,
const ObjectiveTable *const objectives[] = {OBJECTIVES(ROW) ROW(toy) NULL};
#undef ROW
#define ROW(word) &sampler_##word,
const SamplerTable *const samplers[] = {SAMPLERS(ROW) ROW(toy) NULL};
#undef ROW

/* ---- words */
/* The next word of "a|b|c" must be the table's name. */
static void next_word(const char **choices, const char *name) {
  size_t n = strcspn(*choices, "|");
  assert_int_equal(n, strlen(name));
  assert_memory_equal(*choices, name, n);
  *choices += n + ((*choices)[n] == '|');
}

#define SAME_WORDS(MENU, list, more)                                                                                   \
  do {                                                                                                                 \
    const char *choices = CHOICES(MENU);                                                                               \
    int i = 0;                                                                                                         \
    for (; *choices; i++) next_word(&choices, (list)[i]->name);                                                        \
    assert_true((more) ? (list)[i] != NULL && (list)[i + 1] == NULL : (list)[i] == NULL);                              \
  } while (0)

static void test_words(void **state) {
  (void)state;
  SAME_WORDS(MODELS, models, 0);
  SAME_WORDS(OBJECTIVES, objectives, 1);
  SAME_WORDS(SCHEDULES, schedules, 0);
  SAME_WORDS(LAWS, laws, 0);
  SAME_WORDS(SAMPLERS, samplers, 1);
  SAME_WORDS(ESTIMATORS, estimators, 0);
}

/* Every objective has a sampler and can be measured by the first estimator; every sampler has an objective. */
static void test_served(void **state) {
  (void)state;
  unsigned given = 0, taken = 0;
  for (int i = 0; objectives[i]; i++) {
    const ObjectiveTable *o = objectives[i];
    given |= TAKES(o->gives);
    assert_true(o->score && o->loss && o->log_p && o->terms > 0 && (o->gives != GIVES_X0 || o->terms == 1));
  }
  for (int i = 0; models[i]; i++) {
    const ModelTable *m = models[i];
    assert_true(m->create && m->forward && m->destroy && (m->causal || m->halves) == (m->step != NULL));
  }
  for (int i = 0; samplers[i]; i++) {
    taken |= samplers[i]->takes;
    assert_true(samplers[i]->takes & given);
    assert_int_equal(samplers[i]->f32 & ~samplers[i]->takes, 0);
    assert_true(!samplers[i]->create == !samplers[i]->destroy);
  }
  assert_int_equal(given & ~taken, 0);
  /* validation uses the first estimator: it suits every objective */
  assert_null(estimators[0]->check);
  Config defaults;
  must(config_load(&defaults, NULL, 0, NULL));
  assert_string_equal("auto", defaults.eval_estimator);
  assert_string_equal(objectives[0]->name, defaults.diffusion_objective);
  assert_string_equal(samplers[0]->name, defaults.sample_sampler);
  config_free(&defaults);
}

/* ---- the toys at work */
enum { ROWS = 64, LONG = 8, V = 11, SAMPLES = 6 };

static void set(char **word, const char *value) {
  mem_free(word);
  must(mem_strdup(word, value));
}

static void deck(Config *cfg, const char *run) {
  char keys[3][400];
  compose(keys[0], "run.dir=%s", bench_path(run));
  compose(keys[1], "data.train=%s", bench_path("train.h5"));
  compose(keys[2], "data.valid=%s", bench_path("train.h5"));
  char *words[] = {keys[0],
                   keys[1],
                   keys[2],
                   "model.width=16",
                   "model.heads=2",
                   "model.blocks=1",
                   "model.cond_dim=8",
                   "model.dropout=0",
                   "train.steps=30",
                   "train.global_batch=16",
                   "train.micro_batch=8",
                   "train.lr=0.01",
                   "train.warmup=1",
                   "train.ema=0",
                   "train.log_every=30"};
  must(config_load(cfg, NULL, LENGTH(words), words));
  set(&cfg->diffusion_objective, "toy");
  set(&cfg->sample_sampler, "toy");
  /* without oneDNN, whose generated code makes memory checkers report false errors */
  set(&cfg->device_name, "cpu_f64");
  cfg->sample_stride_length = 3;
}

static double evaluate(Trainer *t, const char *estimator) {
  Nelbo r;
  NelboOptions o = {.draws = 4, .seed = 3, .stratified = true};
  must(estimator_find(&o.estimator, estimator, &t->net.objective));
  must(nelbo_run(&r, &t->net, t->valid, t->comm, &o));
  double nll = r.interval.nll;
  assert_int_equal(r.sequences, ROWS);
  nelbo_destroy(&r);
  return nll;
}

static void sample(Trainer *t, const char *sampler, int64_t evaluations) {
  Sampler s;
  Config cfg = *t->cfg;
  int32_t z[SAMPLES * LONG];
  cfg.sample_sampler = (char *)(uintptr_t)sampler;
  SamplerOptions o = {
      .cfg = &cfg, .objective = &t->net.objective, .model = &t->net.model.options, .label = -1, .bos = 0};
  for (int i = 0; i < SAMPLES * LONG; i++) z[i] = i % LONG == 2 ? 4 : V - 1;
  SamplerJob job = {.model = &t->net.model,
                    .rows = &t->net.rows,
                    .objective = &t->net.objective,
                    .steps = 5,
                    .noise_removal = true,
                    .draw = {.temperature = 1, .nucleus = 1},
                    .n = SAMPLES,
                    .z = z};
  must(sampler_create(&s, &o));
  must(sampler_run(&s, &job));
  sampler_destroy(&s);
  for (int i = 0; i < SAMPLES * LONG; i++) assert_true(z[i] >= 0 && z[i] < V - 1 && (i % LONG != 2 || z[i] == 4));
  if (evaluations) assert_int_equal(job.evaluations, evaluations);
}

static void test_toys(void **state) {
  (void)state;
  static Trainer t;
  Config cfg;
  Comm comm;
  int stop;
  data_write(bench_path("train.h5"), &(Data){.N = ROWS, .L = LONG, .V = V, .type = H5_U16, .full = true});
  deck(&cfg, "run");
  must(comm_null_create(&comm));
  must(trainer_create(&t, &cfg, &comm, true, NULL));
  assert_string_equal(t.net.objective.table->name, "toy");
  double before = evaluate(&t, "count");
  must(trainer_run(&t, &stop));
  double after = evaluate(&t, "count");
  assert_true(fabs(before - log(V - 1)) < 0.1 && after < before - 0.02 && after > 0);
  assert_true(evaluate(&t, "time") > 0);
  sample(&t, "toy", (LONG + 2) / 3);
  for (int i = 0; samplers[i]; i++) /* every sampler that takes GIVES_X0 works with the toy objective */
    if (samplers[i]->takes & TAKES(GIVES_X0)) sample(&t, samplers[i]->name, 0);
  assert_true(bench_there(bench_path("run/last.h5")) && bench_there(bench_path("run/best.h5")));
  trainer_destroy(&t);
  comm_destroy(&comm);
  config_free(&cfg);
}

static void test_refusals(void **state) {
  (void)state;
  Schedule s;
  Objective o;
  must(schedule_create(&s, schedules[0]->name, 1e-3, 1e-3, 0));
  ObjectiveOptions options = {.name = "toy", .schedule = &s, .mask = V - 1, .vocab = V, .T = 5};
  refused(objective_create(&o, &options), ERR_USAGE, "toy", "diffusion.T = 5");
  options.T = 0, options.law.name = laws[1]->name;
  refused(objective_create(&o, &options), ERR_USAGE, "toy", "diffusion.time = ");
  options.law.name = NULL, options.subs_masking = true;
  refused(objective_create(&o, &options), ERR_USAGE, "toy", "subs_masking");
  options.subs_masking = false;
  must(objective_create(&o, &options));
  options.name = "toys";
  refused(objective_create(&o, &options), ERR_USAGE, "diffusion.objective = toys: no such objective");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_words), cmocka_unit_test(test_served),
                                     cmocka_unit_test(test_toys), cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
