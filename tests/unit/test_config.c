/* config — decks, includes, overrides, every kind of mistake and its message, and writing a deck. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/config.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/nearest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[256], deck[300];

static int make_folder(void **state) {
  (void)state;
  const char *tmp = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/mdlm-config-XXXXXX", tmp ? tmp : "/tmp");
  if (!mkdtemp(folder)) return -1;
  snprintf(deck, sizeof deck, "%s/x.cfg", folder);
  return 0;
}

static const char *path_of(const char *name) {
  static char path[400];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static void write_bytes(const char *name, const char *text, size_t n) {
  FILE *f = fopen(path_of(name), "w");
  assert_non_null(f);
  assert_int_equal(fwrite(text, 1, n, f), n);
  assert_int_equal(fclose(f), 0);
}

static void write_deck(const char *name, const char *text) { write_bytes(name, text, strlen(text)); }

static int drop_folder(void **state) {
  (void)state;
  const char *names[] = {"x.cfg", "inner.cfg", "sub/deep.cfg", "sub/leaf.cfg"};
  for (int i = 0; i < 4; i++) unlink(path_of(names[i]));
  rmdir(path_of("sub"));
  return rmdir(folder);
}

/* ---- what is accepted */

static void defaults_alone(void **state) {
  (void)state;
  Config c;
  assert_int_equal(config_load(&c, NULL, 0, NULL), OK);
#define KEY_INT(section, name, def, min, max, unit, help) assert_true(c.section##_##name == (def));
#define KEY_REAL(section, name, def, min, max, unit, help) assert_true(c.section##_##name == (def));
#define KEY_BOOL(section, name, def, help) assert_true(c.section##_##name == (def));
#define KEY_STR(section, name, def, help) assert_string_equal(c.section##_##name, def);
#define KEY_WORD(section, name, def, choices, help) assert_string_equal(c.section##_##name, def);
#include "base/keys.def"
#undef KEY_INT
#undef KEY_REAL
#undef KEY_BOOL
#undef KEY_STR
#undef KEY_WORD
  config_free(&c);
  config_free(&c);
  config_free(NULL);
  assert_null(c.run_dir);
}

static void values_of_a_deck(void **state) {
  (void)state;
  Config c;
  write_deck("x.cfg", "# a comment with @include \"nothing\"\n"
                      "/* and one\n @include \"nothing\" */\n"
                      "run: { dir = \"runs/a \\\"b\\\" \" \"c\"; seed = 9223372036854775807; resume = \"must\"; }\n"
                      "train = { lr = 1; steps = 1e6; warmup = 3000000000 weight_decay = 1e-2, micro_batch = 0x10 }\n"
                      "model: { time_conditioning = TRUE; dropout = 0.; } // done\n");
  assert_int_equal(config_load(&c, deck, 0, NULL), OK);
  assert_string_equal(c.run_dir, "runs/a \"b\" c");
  assert_true(c.run_seed == INT64_MAX);
  assert_string_equal(c.run_resume, "must");
  assert_true(c.train_lr == 1.0 && c.train_steps == 1000000 && c.train_weight_decay == 1e-2);
  assert_true(c.train_warmup == 3000000000); /* more than 32 bits, without the L suffix that libconfig requires */
  assert_true(c.train_micro_batch == 16 && c.train_beta2 == 0.999);
  assert_true(c.model_time_conditioning && c.model_dropout == 0);
  assert_string_equal(c.deck, deck);
  config_free(&c);
}

static void empty_deck(void **state) {
  (void)state;
  Config c;
  write_deck("x.cfg", "");
  assert_int_equal(config_load(&c, deck, 0, NULL), OK);
  assert_true(c.train_global_batch == 512);
  config_free(&c);
}

static void overrides_win(void **state) {
  (void)state;
  Config c;
  char *words[] = {"train.lr=2e-4",
                   "run.dir=runs/x = y \"z\" \\",
                   "run.resume=never",
                   "train.steps=4e9",
                   "model.time_conditioning=true",
                   "data.train=\"quoted.h5\"",
                   "eval.sequences=20000000000",
                   "data.valid=",
                   "train.lr=0.5"};
  write_deck("x.cfg", "train: { lr = 0.1; beta1 = 0.5; }\n");
  assert_int_equal(config_load(&c, deck, sizeof words / sizeof words[0], words), OK);
  assert_true(c.train_lr == 0.5 && c.train_beta1 == 0.5 && c.eval_sequences == 20000000000 &&
              c.train_steps == 4000000000);
  assert_string_equal(c.run_dir, "runs/x = y \"z\" \\");
  assert_string_equal(c.run_resume, "never");
  assert_string_equal(c.data_train, "quoted.h5");
  assert_string_equal(c.data_valid, "");
  assert_true(c.model_time_conditioning);
  config_free(&c);
}

/* Includes are relative to the including file, may be nested, and may stand between and inside sections. */
static void includes(void **state) {
  (void)state;
  Config c;
  assert_int_equal(mkdir(path_of("sub"), 0700), 0);
  write_deck("x.cfg", "@include \"sub/deep.cfg\"\ntrain: {\n  @include \"inner.cfg\" # rates\n  beta1 = 0.25;\n}\n");
  write_deck("inner.cfg", "lr = 0.125;");
  write_deck("sub/deep.cfg", "@include \"leaf.cfg\"\nmodel: { width = 64; }\n");
  write_deck("sub/leaf.cfg", "run: { seed = 7; }\n");
  assert_int_equal(config_load(&c, deck, 0, NULL), OK);
  assert_true(c.run_seed == 7 && c.model_width == 64 && c.train_lr == 0.125 && c.train_beta1 == 0.25);
  config_free(&c);
}

/* ---- what is refused, and with which message */

static void assert_refused(int got, const char *want) {
  char text[2048];
  assert_int_equal(got, ERR_USAGE);
  snprintf(text, sizeof text, "%s", err_message()); /* without the temporary folder's name, which is random */
  char *at = strstr(text, folder);
  if (at) memmove(at, at + strlen(folder) + 1, strlen(at + strlen(folder) + 1) + 1);
  assert_string_equal(text, want);
  err_clear();
}

static void refuse_deck(const char *text, const char *want) {
  Config c;
  write_deck("x.cfg", text);
  assert_refused(config_load(&c, deck, 0, NULL), want);
  assert_null(c.run_dir); /* everything is freed */
}

static void refuse_word(char *word, const char *want) {
  Config c;
  assert_refused(config_load(&c, NULL, 1, &word), want);
  assert_null(c.run_dir);
}

static void unknown_keys(void **state) {
  (void)state;
  refuse_deck("train: {\n\n lerning_rate = 1; }", "x.cfg:3: unknown key train.lerning_rate; did you mean train.lr?");
  refuse_deck("train: { micro_bacth = 1; }", "x.cfg:1: unknown key train.micro_bacth; did you mean train.micro_batch?");
  refuse_deck("model: { lr = 1; }", "x.cfg:1: unknown key model.lr; did you mean train.lr?");
  refuse_deck("trian: { steps = 1; }", "x.cfg:1: unknown key trian.steps; did you mean train.steps?");
  refuse_deck("model: { hidden_size = 1; }", "x.cfg:1: unknown key model.hidden_size; did you mean model.width?");
  refuse_deck("train: { zzzzzz = 1; }", "x.cfg:1: unknown key train.zzzzzz; `mdlm help` lists them all");
  refuse_deck("\nwarmup = 5;", "x.cfg:2: unknown key warmup; did you mean train.warmup?");
  refuse_deck("nosuch: { };", "x.cfg:1: unknown section nosuch; `mdlm help` lists them all");
  refuse_deck("train = 5;", "x.cfg:1: train is a section: write train: { key = value; }");
}

static void wrong_types(void **state) {
  (void)state;
  refuse_deck("train: { lr = \"fast\"; }",
              "x.cfg:1: train.lr = \"fast\" has the wrong type: it takes a real number, 0 to 1000");
  refuse_deck("model: { width = true; }",
              "x.cfg:1: model.width = true has the wrong type: it takes an integer, 8 to 65536");
  refuse_deck("model: { time_conditioning = 1; }",
              "x.cfg:1: model.time_conditioning = 1 has the wrong type: it takes true or false");
  refuse_deck("run: { dir = 5; }", "x.cfg:1: run.dir = 5 has the wrong type: it takes a string in quotes");
  refuse_deck("run: { dir = { a = 5; }; }", "x.cfg:1: run.dir = {…} has the wrong type: it takes a string in quotes");
  refuse_deck("run: { seed = [1, 2]; }",
              "x.cfg:1: run.seed = a list has the wrong type: it takes an integer, 0 to 9223372036854775807");
  refuse_deck("train: { steps = 1.5; }", "x.cfg:1: train.steps = 1.5 is not an integer");
}

static void home(void **state) {
  (void)state;
  Config c;
  char *there = "run.dir=./~/a";
  refuse_word("run.dir=~/a", "run.dir=~/a: the shell does not expand ~ here; write $HOME/…");
  assert_int_equal(config_load(&c, NULL, 1, &there), OK);
  assert_string_equal(c.run_dir, "./~/a");
  config_free(&c);
}

static void out_of_range(void **state) {
  (void)state;
  refuse_deck("train: { lr = -1; }", "x.cfg:1: train.lr = -1 is out of range: it takes a real number, 0 to 1000");
  refuse_deck("train: { steps = -1; }",
              "x.cfg:1: train.steps = -1 is out of range: it takes an integer, 0 to 4294967296 steps");
  refuse_deck("train: { steps = 4294967297; }",
              "x.cfg:1: train.steps = 4294967297 is out of range: it takes an integer, 0 to 4294967296 steps");
  refuse_deck("model: { dropout = 1e999; }",
              "x.cfg:1: model.dropout = inf is out of range: it takes a real number, 0 to 0.9");
  refuse_deck("run: { seed = 1e30; }",
              "x.cfg:1: run.seed = 1e+30 is out of range: it takes an integer, 0 to 9223372036854775807");
  refuse_deck("run: {\n seed = 9223372036854775808; }",
              "x.cfg:2: the integer 9223372036854775808 does not fit 64 bits");
}

static void bad_words(void **state) {
  (void)state;
  const char *want = "x.cfg:1: run.resume = \"aut\" is not a choice: it takes one of auto, never, must";
  refuse_deck("run: { resume = \"aut\"; }", want);
  refuse_deck("run: { resume = \"auto|never\"; }",
              "x.cfg:1: run.resume = \"auto|never\" is not a choice: it takes one of auto, never, must");
  refuse_deck("run: { resume = \"\"; }",
              "x.cfg:1: run.resume = \"\" is not a choice: it takes one of auto, never, must");
}

static void bad_syntax(void **state) {
  (void)state;
  const char *hint = "strings need quotes, settings end with a semicolon, sections are name: { … }";
  char want[300];
  snprintf(want, sizeof want, "x.cfg:2: syntax error (%s)", hint);
  refuse_deck("run: {\n resume = auto; }", want);
  refuse_deck("train: { lr = 1; lr = 2; }",
              "x.cfg:1: duplicate setting name (a section or key may appear only once in a deck and its includes)");
}

static void bad_includes(void **state) {
  (void)state;
  refuse_deck("run: { seed = 1; }\n@include inner.cfg\n", "x.cfg:2: write @include \"file.cfg\"");
  refuse_deck("@include \"inner.cfg\" run: { seed = 1; }\n", "x.cfg:1: an @include must be alone on its line");
  write_deck("inner.cfg", "lr = 1;\nbeta3 = 2;\n");
  refuse_deck("train: {\n\n@include \"inner.cfg\"\n}\n",
              "inner.cfg:2: unknown key train.beta3; did you mean train.beta1?");
  write_deck("inner.cfg", "lr = 1;\nbeta1 = ;\n");
  refuse_deck(
      "train: {\n\n@include \"inner.cfg\"\n}\n",
      "inner.cfg:2: syntax error (strings need quotes, settings end with a semicolon, sections are name: { … })");
  write_deck("inner.cfg", "lr = 1;");
  refuse_deck("train: {\n\n@include \"inner.cfg\"\n\n  beta = 2;\n}\n",
              "x.cfg:5: unknown key train.beta; did you mean train.beta1?");
}

static void refuse_including(const char *text, const char *first, const char *second) {
  Config c;
  write_deck("x.cfg", text);
  assert_int_equal(config_load(&c, deck, 0, NULL), ERR_USAGE);
  assert_non_null(strstr(err_message(), first));
  assert_non_null(strstr(err_message(), second));
  err_clear();
}

static void unreadable_decks(void **state) {
  (void)state;
  Config c;
  assert_int_equal(config_load(&c, path_of("nosuch.cfg"), 0, NULL), ERR_USAGE);
  assert_non_null(strstr(err_message(), "nosuch.cfg: No such file"));
  assert_int_equal(config_load(&c, folder, 0, NULL), ERR_USAGE);
  assert_non_null(strstr(err_message(), "Is a directory"));
  write_bytes("x.cfg", "run: {\0}", 8);
  assert_int_equal(config_load(&c, deck, 0, NULL), ERR_USAGE);
  assert_non_null(strstr(err_message(), "is not a deck: it is not text"));
  err_clear();
  refuse_including("\n@include \"nosuch.cfg\"\n", "x.cfg:2: cannot open the deck", "nosuch.cfg: No such file");
  refuse_including("@include \".\"\n", "x.cfg:1: cannot read the deck", "Is a directory");
  refuse_including("@include \"x.cfg\"\n", "x.cfg:1:", "does it include itself?");
}

static void bad_overrides(void **state) {
  (void)state;
  refuse_word("diffusion.importance_sampling=false",
              "diffusion.importance_sampling=false: diffusion.importance_sampling is now diffusion.time = importance");
  refuse_word("train.lerning_rate=3", "train.lerning_rate=3: unknown key train.lerning_rate; did you mean train.lr?");
  refuse_word("train.lr=fast", "train.lr=fast has the wrong type: it takes a real number, 0 to 1000");
  refuse_word("train.lr=", "train.lr= has the wrong type: it takes a real number, 0 to 1000");
  refuse_word("train.lr=1; b=2", "train.lr=1; b=2 has the wrong type: it takes a real number, 0 to 1000");
  refuse_word("train.lr=-1", "train.lr=-1 is out of range: it takes a real number, 0 to 1000");
  refuse_word("train.steps=2.5", "train.steps=2.5 is not an integer");
  refuse_word("run.resume=yes", "run.resume=yes is not a choice: it takes one of auto, never, must");
  refuse_word("model.time_conditioning=1", "model.time_conditioning=1 has the wrong type: it takes true or false");
  refuse_word("lr=1", "lr=1: write an override as section.key=value");
  refuse_word("train.lr", "train.lr: write an override as section.key=value");
  refuse_word("train.=1", "train.=1: write an override as section.key=value");
  refuse_word("run=a.b", "run=a.b: write an override as section.key=value");
}

/* ---- writing a deck and reading it again */

static const char *last_choice(const char *choices) {
  const char *bar = strrchr(choices, '|');
  return bar ? bar + 1 : choices;
}

/* Every key differs from its default and has a value that is hard to print exactly. */
static void fill(Config *c) {
  assert_int_equal(config_load(c, NULL, 0, NULL), OK);
#define SET(field, value)                                                                                              \
  mem_free(&c->field);                                                                                                 \
  assert_int_equal(mem_strdup(&c->field, value), OK);
#define KEY_INT(section, name, def, min, max, unit, help) c->section##_##name = (max) - ((def) == (max));
#define KEY_REAL(section, name, def, min, max, unit, help) c->section##_##name = (min) + ((max) - (min)) / 3.0;
#define KEY_BOOL(section, name, def, help) c->section##_##name = !(def);
#define KEY_STR(section, name, def, help) SET(section##_##name, "a \"b\" \\ c\n\t\x01 ε # // /* " #name)
#define KEY_WORD(section, name, def, choices, help) SET(section##_##name, last_choice(choices))
#include "base/keys.def"
#undef KEY_INT
#undef KEY_REAL
#undef KEY_BOOL
#undef KEY_STR
#undef KEY_WORD
#undef SET
}

static void assert_same(const Config *a, const Config *b) {
#define KEY_INT(section, name, def, min, max, unit, help) assert_true(a->section##_##name == b->section##_##name);
#define KEY_REAL(section, name, def, min, max, unit, help) assert_true(a->section##_##name == b->section##_##name);
#define KEY_BOOL(section, name, def, help) assert_true(a->section##_##name == b->section##_##name);
#define KEY_STR(section, name, def, help) assert_string_equal(a->section##_##name, b->section##_##name);
#define KEY_WORD(section, name, def, choices, help) assert_string_equal(a->section##_##name, b->section##_##name);
#include "base/keys.def"
#undef KEY_INT
#undef KEY_REAL
#undef KEY_BOOL
#undef KEY_STR
#undef KEY_WORD
}

static void resolved_round_trip(void **state) {
  (void)state;
  for (int filled = 0; filled < 2; filled++) {
    Config a, b;
    char *text = NULL, *again = NULL, *gone;
    if (filled)
      fill(&a);
    else
      assert_int_equal(config_load(&a, NULL, 0, NULL), OK);
    assert_int_equal(config_resolved(&a, &text), OK);
    assert_int_equal(config_load_text(&b, text, "resolved", &gone), OK);
    assert_null(gone);
    assert_string_equal(b.deck, "resolved");
    assert_same(&a, &b);
    assert_int_equal(config_resolved(&b, &again), OK);
    assert_string_equal(text, again);
    mem_free(&text);
    mem_free(&again);
    config_free(&a);
    config_free(&b);
  }
}

static void resolved_names_every_key(void **state) {
  (void)state;
  Config c;
  char *text = NULL;
  assert_int_equal(config_load(&c, NULL, 0, NULL), OK);
  assert_int_equal(config_resolved(&c, &text), OK);
  assert_non_null(strstr(text, "  adam_eps = 1e-08;\n"));
  assert_non_null(strstr(text, "  lr = 0.0003;\n"));
  assert_non_null(strstr(text, "  clip = 1.0;\n"));
  const char *at = text;
#define NAMED(name) assert_non_null(at = strstr(at, "  " #name " = "));
#define KEY_INT(section, name, def, min, max, unit, help) NAMED(name)
#define KEY_REAL(section, name, def, min, max, unit, help) NAMED(name)
#define KEY_BOOL(section, name, def, help) NAMED(name)
#define KEY_STR(section, name, def, help) NAMED(name)
#define KEY_WORD(section, name, def, choices, help) NAMED(name)
#include "base/keys.def"
#undef KEY_INT
#undef KEY_REAL
#undef KEY_BOOL
#undef KEY_STR
#undef KEY_WORD
  mem_free(&text);
  config_free(&c);
}

static void text_errors_have_a_name(void **state) {
  (void)state;
  Config c;
  char *gone;
  assert_int_equal(config_load_text(&c, "train: {\n lr = -1; }", "last.h5", &gone), ERR_USAGE);
  assert_string_equal(err_message(), "last.h5:2: train.lr = -1 is out of range: it takes a real number, 0 to 1000");
  err_clear();
}

/* ---- the table itself, and help */

static void every_key_is_described(void **state) {
  (void)state;
  char all[256];
#define KEY_INT(section, name, def, min, max, unit, help)                                                              \
  assert_true(strlen(help) > 10 && (min) <= (def) && (def) <= (max));
#define KEY_REAL(section, name, def, min, max, unit, help)                                                             \
  assert_true(strlen(help) > 10 && (min) <= (def) && (def) <= (max));
#define KEY_BOOL(section, name, def, help) assert_true(strlen(help) > 10);
#define KEY_STR(section, name, def, help) assert_true(strlen(help) > 10);
#define KEY_WORD(section, name, def, choices, help)                                                                    \
  snprintf(all, sizeof all, "|%s|", choices);                                                                          \
  assert_true(strlen(help) > 6 && strstr(all, "|" def "|"));
#include "base/keys.def"
#undef KEY_INT
#undef KEY_REAL
#undef KEY_BOOL
#undef KEY_STR
#undef KEY_WORD
}

/* The text that config_help prints; returns the number of keys it finds. */
static int capture_help(char *text, size_t n, ConfigMatch match, const char *word) {
  int found = -1;
  fflush(stdout);
  int kept = dup(STDOUT_FILENO);
  FILE *f = tmpfile();
  assert_non_null(f);
  dup2(fileno(f), STDOUT_FILENO);
  int got = config_help(&page_plain, match, word, &found);
  fflush(stdout);
  dup2(kept, STDOUT_FILENO);
  close(kept);
  rewind(f);
  text[fread(text, 1, n - 1, f)] = '\0';
  fclose(f);
  assert_int_equal(got, OK);
  return found;
}

static void help_prints_keys(void **state) {
  (void)state;
  static char text[65536];
  assert_int_equal(capture_help(text, sizeof text, CONFIG_NAME, "train.lr"), 1);
  assert_string_equal(text, "train.lr = 0.0003   (a real number, 0 to 1000)\n    learning rate after the warm-up\n");
  assert_int_equal(capture_help(text, sizeof text, CONFIG_NAME, "train.l"), 0);
  assert_int_equal(capture_help(text, sizeof text, CONFIG_PART, "WARM"), 1);
  assert_non_null(strstr(text, "train.warmup = 2500   (an integer, 0 to 4294967296 steps)\n"));
  assert_int_equal(capture_help(text, sizeof text, CONFIG_PART, "run.resume"), 1);
  assert_non_null(strstr(text, "run.resume = \"auto\"   (one of auto, never, must)\n"));
  assert_int_equal(capture_help(text, sizeof text, CONFIG_PART, "lr"), 3); /* whole parts of names, not substrings */
  assert_int_equal(capture_help(text, sizeof text, CONFIG_TEXT, "sediment"), 0);
  assert_int_equal(capture_help(text, sizeof text, CONFIG_SECTION, "dist"), 5);
  assert_non_null(strstr(text, "dist.reduce = "));
  assert_null(strstr(text, "run.dir = "));
  assert_refused(config_help_unknown("train.lerning_rate"),
                 "help: unknown key train.lerning_rate; did you mean train.lr?");
}

/* Help texts and choices are searched; keys that match by name are not listed again. */
static void help_searches_texts(void **state) {
  (void)state;
  static char text[65536];
  assert_int_equal(capture_help(text, sizeof text, CONFIG_TEXT, "top-p"), 1);
  assert_non_null(strstr(text, "sample.nucleus = "));
  assert_int_equal(capture_help(text, sizeof text, CONFIG_TEXT, "geomet"), 3);
  assert_non_null(strstr(text, "diffusion.schedule = "));
  assert_int_equal(capture_help(text, sizeof text, CONFIG_TEXT, "warmup"), 1);
  assert_null(strstr(text, "train.warmup = "));
  assert_true(config_mentions("a bound for T > 0", "t") && !config_mentions("a tau", "t"));
  assert_true(config_mentions("the tau", "ta") == false && config_mentions("the taut", "tau"));
}

static void help_fits_80_columns(void **state) {
  (void)state;
  static char text[65536];
  capture_help(text, sizeof text, CONFIG_SECTION, "sample");
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) assert_in_range(strlen(line), 5, 80);
}

static void sections_in_order(void **state) {
  (void)state;
  int n = 0;
  assert_string_equal(config_section(0), "run");
  assert_string_equal(config_section(1), "data");
  while (config_section(n)) n++;
  assert_string_equal(config_section(n - 1), "plan");
  assert_null(config_section(n + 1));
}

static void nearest_words(void **state) {
  (void)state;
  const char *const list[] = {"train", "eval", "sample", "info", "check", "help", NULL}, *const none[] = {NULL};
  assert_string_equal(nearest_word("trian", list), "train");
  assert_string_equal(nearest_word("smaple", list), "sample");
  assert_string_equal(nearest_word("evaluate", (const char *const[]){"eval", "evaluat", NULL}), "evaluat");
  assert_string_equal(nearest_word("check", list), "check");
  assert_null(nearest_word("completely", list));
  assert_null(nearest_word("xx", list));
  assert_null(nearest_word("train", none));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(defaults_alone),
      cmocka_unit_test(values_of_a_deck),
      cmocka_unit_test(empty_deck),
      cmocka_unit_test(overrides_win),
      cmocka_unit_test(includes),
      cmocka_unit_test(unknown_keys),
      cmocka_unit_test(wrong_types),
      cmocka_unit_test(home),
      cmocka_unit_test(out_of_range),
      cmocka_unit_test(bad_words),
      cmocka_unit_test(bad_syntax),
      cmocka_unit_test(bad_includes),
      cmocka_unit_test(unreadable_decks),
      cmocka_unit_test(bad_overrides),
      cmocka_unit_test(resolved_round_trip),
      cmocka_unit_test(resolved_names_every_key),
      cmocka_unit_test(text_errors_have_a_name),
      cmocka_unit_test(every_key_is_described),
      cmocka_unit_test(help_prints_keys),
      cmocka_unit_test(help_searches_texts),
      cmocka_unit_test(help_fits_80_columns),
      cmocka_unit_test(sections_in_order),
      cmocka_unit_test(nearest_words),
  };
  return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
