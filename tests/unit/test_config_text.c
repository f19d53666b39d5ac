/* config_text — decks that no one writes on purpose: numbers that are none, open comments, files that are no files, decks
 * that are too large. Each is refused in one line and at once. */
#include "check.h"

#include "base/config.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BIG = 2 << 20 };
static char folder[256], deck[300], inner[300], text[BIG + 1];

static int make_folder(void **state) {
  (void)state;
  const char *tmp = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/mdlm-text-XXXXXX", tmp ? tmp : "/tmp");
  if (!mkdtemp(folder)) return -1;
  snprintf(deck, sizeof deck, "%s/x.cfg", folder);
  snprintf(inner, sizeof inner, "%s/y.cfg", folder);
  return 0;
}

static int drop_folder(void **state) {
  (void)state;
  unlink(deck);
  unlink(inner);
  return rmdir(folder);
}

static void write_file(const char *path, const char *s, size_t n) {
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  assert_int_equal(fwrite(s, 1, n, f), n);
  assert_int_equal(fclose(f), 0);
}

/* The message of the refusal, without the name of the folder. */
static void assert_refused(int got, const char *want) {
  char message[2048];
  assert_int_equal(got, ERR_USAGE);
  snprintf(message, sizeof message, "%s", err_message());
  for (char *at; (at = strstr(message, folder));)
    memmove(at, at + strlen(folder) + 1, strlen(at + strlen(folder) + 1) + 1);
  assert_string_equal(message, want);
  err_clear();
}

/* A deck is read, or refused, in a few seconds on any processor. */
static int load_at_once(Config *c) {
  clock_t begun = clock();
  int err = config_load(c, deck, 0, NULL);
  assert_true(clock() - begun < (check_watched() ? 100 : 5) * CLOCKS_PER_SEC);
  return err;
}

static void refuse(const char *s, const char *want) {
  Config c;
  write_file(deck, s, strlen(s));
  assert_refused(load_at_once(&c), want);
  assert_null(c.run_dir);
}

static void accept(const char *s, double lr) {
  Config c;
  write_file(deck, s, strlen(s));
  assert_int_equal(load_at_once(&c), OK);
  assert_true(c.train_lr == lr);
  config_free(&c);
}

/* ---- numbers */

static const char syntax[] =
    "syntax error (strings need quotes, settings end with a semicolon, sections are name: { … })";
static const char point[] =
    "a point needs a digit in a number; a key is written inside its section, as in train: { lr = 0.1; }";

/* Texts that are no number, as a value of a deck and as an override. */
static void no_numbers(void **state) {
  (void)state;
  static const struct {
    const char *value, *fault;
  } table[] = {{".", point},
               {"-.", point},
               {"+.", point},
               {".e5", point},
               {"-.e5", point},
               {"1..", point},
               {"-", syntax},
               {"+", syntax},
               {"e5", syntax},
               {"1e", NULL},
               {"1e+", syntax},
               {"0x", NULL},
               {"nan", syntax},
               {"inf", syntax},
               {"-inf", syntax},
               {"1x", NULL},
               {"1 2", syntax},
               {"1.2.3", NULL},
               {"1,2", NULL},
               {"--1", syntax},
               {"1e5L", NULL},
               {"1/*", NULL},
               {"\"1", NULL},
               {"1;2", syntax},
               {"0x1.8p3", NULL},
               {"true", NULL},
               {"\"1\"", NULL},
               {"(1)", NULL},
               {"[1, 2]", NULL},
               {"{}", NULL},
               {"1e999", NULL},
               {"-1e999", NULL},
               {"9e99", NULL},
               {"", NULL},
               {"1_000", NULL},
               {"\xc2\xbd", NULL},
               {"99999999999999999999", NULL}};
  char s[256], want[512];
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
    Config c;
    char *word = s;
    snprintf(s, sizeof s, "train:\n{ lr = %s; }", table[i].value);
    write_file(deck, s, strlen(s));
    int got = load_at_once(&c);
    if (table[i].fault) {
      snprintf(want, sizeof want, "x.cfg:2: %s", table[i].fault);
      assert_refused(got, want);
    } else {
      assert_int_equal(got, ERR_USAGE);
      assert_non_null(strstr(err_message(), "x.cfg:2: "));
    }
    snprintf(s, sizeof s, "train.lr=%s", table[i].value);
    assert_int_equal(config_load(&c, NULL, 1, &word), ERR_USAGE);
    assert_ptr_equal(strstr(err_message(), s), err_message());
    assert_non_null(strstr(err_message(), "it takes a real number, 0 to 1000"));
    err_clear();
  }
}

static void numbers(void **state) {
  (void)state;
  accept("train: { lr = 1.; }", 1);
  accept("train: { lr = .5; }", 0.5);
  accept("train: { lr = +1; }", 1);
  accept("train: { lr = -0; }", 0);
  accept("train: { lr = 0x10; }", 16);
  accept("train: { lr = 1L; }", 1);
  accept("train: { lr = 1E-2 }", 0.01);
  accept("train: { lr = 5.e-1, warmup = 3 }", 0.5);
}

/* ---- comments, strings, line ends */

static void open_ends(void **state) {
  (void)state;
  const char *comment = "the comment that begins here has no end: close it with */";
  char want[256];
  snprintf(want, sizeof want, "x.cfg:2: %s", comment);
  refuse("train: { lr = 1; }\n/* to the end\n * of the file\n", want);
  refuse("\n/*/", want);
  snprintf(want, sizeof want, "y.cfg:1: %s", comment);
  write_file(inner, "/* lr = 2;", 10); /* would hide the rest of the file that includes it */
  refuse("@include \"y.cfg\"\ntrain: { lr = 1; }\n/* */\n", want);
  refuse("run: {\n dir = \"a\\\"; }\n", "x.cfg:2: the string that begins here has no end: close it with a quote");
  refuse("run: { dir = \"a\\x00b\"; }", "x.cfg:1: a string cannot hold the character \\x00: remove it");
  accept("run: { dir = \"a\\\\x00b\"; resume = \"au\\x74o\"; } train: { lr = 1; } /**//***/ // /*\n# /*", 1);
}

static void other_editors(void **state) {
  (void)state;
  write_file(inner, "\xef\xbb\xbflr = 0.5;\r\n", 13);
  accept("\xef\xbb\xbf# a deck\r\ntrain: {\r\n@include \"y.cfg\"\r\n  warmup = 3;\r\n}\r\n", 0.5);
  refuse("train: {\r\n lr = true;\r\n}\r\n",
         "x.cfg:2: train.lr = true has the wrong type: it takes a real number, 0 to 1000");
}

/* ---- messages are one line */

static void one_line(void **state) {
  (void)state;
  Config c;
  char word[4096] = "run.resume=a\nb\x1b[2J";
  char *words = word;
  refuse("run: { resume = \"a\\n\\x1b[2J\"; }",
         "x.cfg:1: run.resume = \"a  [2J\" is not a choice: it takes one of auto, never, must");
  assert_int_equal(config_load(&c, NULL, 1, &words), ERR_USAGE);
  assert_string_equal(err_message(), "run.resume=a b [2J is not a choice: it takes one of auto, never, must");
  memset(word + 11, 'x', sizeof word - 12);
  assert_int_equal(config_load(&c, NULL, 1, &words), ERR_USAGE);
  assert_non_null(strstr(err_message(), "xxx… is not a choice: it takes one of auto, never, must"));
  memset(word, 'x', sizeof word - 1);
  assert_int_equal(config_load(&c, NULL, 1, &words), ERR_USAGE);
  assert_non_null(strstr(err_message(), "xxx…: write an override as section.key=value"));
  err_clear();
}

/* ---- files */

static void no_files(void **state) {
  (void)state;
  Config c;
  char first[300], second[300];
  const char *const paths[] = {"/dev/zero", "/dev/null", "y.cfg"}; /* the last one is a pipe that no one writes to */
  unlink(inner);
  assert_int_equal(mkfifo(inner, 0600), 0);
  for (int i = 0; i < 3; i++) {
    snprintf(first, sizeof first, "\n@include \"%s\"\n", paths[i]);
    snprintf(second, sizeof second, "x.cfg:2: %s is not a deck: it is not a regular file", paths[i]);
    refuse(first, second);
    snprintf(second, sizeof second, "%s is not a deck: it is not a regular file", paths[i]);
    assert_refused(config_load(&c, i < 2 ? paths[i] : inner, 0, NULL), second);
  }
  unlink(inner);
}

/* Writes n bytes of `piece` again and again between head and tail. */
static void write_large(const char *path, const char *head, const char *piece, size_t n, const char *tail) {
  size_t used = (size_t)snprintf(text, sizeof text, "%s", head), one = strlen(piece);
  for (size_t end = used + n; used + one <= end; used += one) memcpy(text + used, piece, one);
  used += (size_t)snprintf(text + used, sizeof text - used, "%s", tail);
  write_file(path, text, used);
}

static void too_large(void **state) {
  (void)state;
  Config c;
  const char *most = "x.cfg is too large: a deck and its includes have at most 1048576 bytes";
  write_large(deck, "train: { lr = 1; }\n", "# nothing\n", (1 << 20) - 19, "");
  assert_int_equal(load_at_once(&c), OK);
  config_free(&c);
  write_large(deck, "train: { lr = 1; }\n", "# nothing\n", 1 << 20, "");
  assert_refused(load_at_once(&c), most);
  write_large(inner, "", "# nothing\n", 1 << 19, "");
  refuse("@include \"y.cfg\"\n@include \"y.cfg\"\n",
         "x.cfg:2: y.cfg is too large: a deck and its includes have at most 1048576 bytes");
  write_file(inner, "", 0);
  write_large(deck, "", "@include \"y.cfg\"\n", 1 << 19, "");
  assert_refused(load_at_once(&c), "x.cfg:257: a deck has at most 256 includes");
}

/* Within the limit of bytes, but of so many words that libconfig would take long. */
static void too_many_words(void **state) {
  (void)state;
  Config c;
  const char *why = "the deck is too large: it has more than 16384 names, values and signs; no key takes a list";
  char want[256];
  snprintf(want, sizeof want, "x.cfg:2: %s", why);
  write_large(deck, "run:\n{ seed = [1", ",1", 1000000, "]; }");
  assert_refused(load_at_once(&c), want);
  write_large(deck, "run:\n", "{a=", 999999, "");
  assert_refused(load_at_once(&c), want);
  size_t used = (size_t)sprintf(text, "run:\n{\n");
  for (int i = 0; i < 100000; i++) used += (size_t)sprintf(text + used, "k%d=1\n", i);
  write_file(deck, text, used);
  snprintf(want, sizeof want, "x.cfg:5463: %s", why);
  assert_refused(load_at_once(&c), want);
}

/* What passes the limits of size reaches libconfig; that is quick, too. */
static void just_below_the_limits(void **state) {
  (void)state;
  Config c;
  write_large(deck, "run: { seed = [1", ",1", 16000, "]; }");
  assert_int_equal(load_at_once(&c), ERR_USAGE);
  assert_non_null(strstr(err_message(), "run.seed = a list has the wrong type"));
  write_large(deck, "run: ", "{a=", 16000, "");
  assert_int_equal(load_at_once(&c), ERR_USAGE);
  size_t used = (size_t)sprintf(text, "run: {");
  for (int i = 0; i < 5000; i++) used += (size_t)sprintf(text + used, "k%d=1 ", i);
  write_file(deck, text, used + (size_t)sprintf(text + used, "}"));
  assert_int_equal(load_at_once(&c), ERR_USAGE);
  assert_non_null(strstr(err_message(), "x.cfg:1: unknown key run.k0"));
  write_large(deck, "run: { ", "x", 1000000, " = 1; }");
  assert_int_equal(load_at_once(&c), ERR_USAGE);
  assert_non_null(strstr(err_message(), "x.cfg:1: unknown key run.xxx"));
  err_clear();
}

/* ---- any deck: a valid one with random changes is either read, and then its resolved deck is the same, or refused in
 * one line with the name of the file */

/* libconfig 1.5 leaks a string before a syntax error: where leaks are looked for, decks have no strings. */
static const char with_string[] = "run: { dir = \"runs/a\"; };\n",
                  valid[] = "# a deck\ndata: { crop = false; }; /* more */\n"
                            "train: {\n  lr = 1e-3; steps = 0x10;\n  clip = +1.5E+0; // off\n  ema = .5;\n};\n"
                            "model: { time_conditioning = true; width = 64; };\n";
static const char *const pieces[] = {"\"",   "\\x00", "\n@include \"x.cfg\"\n",
                                     ".",    "/*",    "*/",
                                     "//",   "#",     "{",
                                     "}",    "(",     ")",
                                     "[",    "]",     ";",
                                     ":",    "=",     "\\",
                                     "\n",   "\r",    "1e",
                                     "0x",   "L",     "+",
                                     "-",    "true",  ",",
                                     "9",    "a",     "$",
                                     "\x01", "\xff",  "lr",
                                     "@",    "nan",   "1e999",
                                     "run"};
enum { PIECES = sizeof pieces / sizeof pieces[0], OF_STRINGS = 3 };

static void change(size_t *n, RngKey key, uint64_t *k) {
  size_t at = (size_t)(rng_uniform(key, (*k)++) * (double)(*n + 1));
  size_t part = (size_t)(rng_uniform(key, (*k)++) * (double)(*n - at < 9 ? *n - at : 9));
  double what = rng_uniform(key, (*k)++);
  if (what < 0.4) { /* leave out some characters */
    memmove(text + at, text + at + part, *n - at - part + 1);
    *n -= part;
    return;
  }
  int first = check_watched() ? OF_STRINGS : 0;
  const char *piece = pieces[first + (int)(rng_uniform(key, (*k)++) * (PIECES - first))];
  size_t more = what < 0.8 ? strlen(piece) : part; /* insert a piece, or repeat some characters */
  memmove(text + at + more, text + at, *n - at + 1);
  if (what < 0.8) memcpy(text + at, piece, more);
  *n += more;
}

/* Whether deck number n is read. */
static bool assert_read_or_refused(int n) {
  Config c, again;
  char *resolved = NULL, *twice = NULL, *gone;
  int err = load_at_once(&c);
  if (err != OK) {
    assert_int_equal(err, ERR_USAGE);
    if (!strstr(err_message(), "x.cfg") || strpbrk(err_message(), "\n\x1b") || strlen(err_message()) > 600)
      fail_msg("change %d: %s", n, err_message());
    err_clear();
    return false;
  }
  assert_int_equal(config_resolved(&c, &resolved), OK);
  assert_int_equal(config_load_text(&again, resolved, "again", &gone), OK);
  assert_int_equal(config_resolved(&again, &twice), OK);
  assert_string_equal(resolved, twice);
  mem_free(&resolved);
  mem_free(&twice);
  config_free(&c);
  config_free(&again);
  return true;
}

static void changed_decks(void **state) {
  (void)state;
  int decks = check_watched() ? 100 : check_long() ? 6000 : 1500, good = 0;
  for (int i = 0; i < decks; i++) {
    RngKey key = rng_key(1, RNG_TEST, 0, (uint64_t)i, 0);
    uint64_t k = 0;
    size_t n = (size_t)sprintf(text, "%s%s", check_watched() ? "" : with_string, valid);
    for (int changes = 1 + i % 4; changes > 0; changes--) change(&n, key, &k);
    write_file(deck, text, n);
    good += assert_read_or_refused(i);
  }
  assert_true(good > decks / 20 && good < decks / 2); /* both happen */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(no_numbers),    cmocka_unit_test(numbers),        cmocka_unit_test(open_ends),
      cmocka_unit_test(other_editors), cmocka_unit_test(one_line),       cmocka_unit_test(no_files),
      cmocka_unit_test(too_large),     cmocka_unit_test(too_many_words), cmocka_unit_test(just_below_the_limits),
      cmocka_unit_test(changed_decks),
  };
  return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
