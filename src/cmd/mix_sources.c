#include "cmd/mix_sources.h"
#include "base/err.h"
#include "base/mem.h"
#include "network/power.h"
#include "train/rundir.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The value of a word "key=value", NULL if it is none. */
static const char *value_of(const char *word, const char *key) {
  size_t n = strlen(key);
  return strncmp(word, key, n) == 0 && word[n] == '=' ? word + n + 1 : NULL;
}

static bool real_of(const char *text, double *x) {
  char *end;
  *x = strtod(text, &end);
  return *text && !*end && isfinite(*x);
}

static int whole_of(const char *word, const char *text, int64_t low, int64_t *x) {
  char *end;
  errno = 0;
  *x = strtoll(text, &end, 10);
  CHECK(*text && !*end && errno == 0 && *x >= low, ERR_USAGE, "%s: a whole number from %lld on is wanted", word,
        (long long)low);
  return OK;
}

/* *is := whether the word is an option, which is then taken. */
static int take_option(MixSources *s, const char *word, bool *is) {
  const char *value;
  *is = true;
  if ((value = value_of(word, "weights"))) {
    CHECK(strcmp(value, "ema") == 0 || strcmp(value, "live") == 0, ERR_USAGE, "%s: choose ema or live", word);
    s->weights = value;
  } else if ((value = value_of(word, "last"))) {
    TRY(whole_of(word, value, 1, &s->last));
  } else if ((value = value_of(word, "step"))) {
    TRY(whole_of(word, value, 0, &s->step));
  } else if ((value = value_of(word, "sigma"))) {
    CHECK(real_of(value, &s->sigma) && s->sigma >= POWER_NARROW && s->sigma <= POWER_WIDE, ERR_USAGE,
          "%s: a width from %g to %g is wanted", word, POWER_NARROW, POWER_WIDE);
  } else {
    *is = false;
  }
  return OK;
}

static int add(MixSources *s, const char *path, bool weighted, double weight) {
  if (s->n == s->room) {
    int more = 2 * s->room + 16;
    TRY(mem_realloc(&s->list, (size_t)s->room * sizeof *s->list, (size_t)more * sizeof *s->list));
    s->room = more;
  }
  MixSource *x = &s->list[s->n];
  *x = (MixSource){.weighted = weighted, .weight = weight};
  TRY(files_path(x->path, NULL, path));
  s->n++;
  return OK;
}

static int add_number(MixSources *s, const char *folder, int64_t step) {
  char name[64], path[FILES_PATH];
  TRY(files_path(path, folder, rundir_number(step, name)));
  return add(s, path, false, 0);
}

static int add_folder(MixSources *s, const char *folder) {
  char last[FILES_PATH];
  int64_t *steps;
  int n, first = 0;
  TRY(rundir_numbers(folder, &steps, &n));
  while (s->step >= 0 && n > 0 && steps[n - 1] > s->step) n--;
  if (s->last > 0 && s->last < n) first = n - (int)s->last;
  int err = OK;
  if (n == 0 || n - first < s->last)
    err = RAISE(ERR_DATA, "%s holds %d numbered checkpoints%s; train.keep_every keeps them", folder, n,
                s->step >= 0 ? " up to that step" : "");
  for (int i = first; i < n && err == OK; i++) err = add_number(s, folder, steps[i]);
  mem_free(&steps);
  TRY(err);
  TRY(files_path(last, folder, "last.h5"));
  return s->sigma > 0 && access(last, F_OK) == 0 ? add(s, last, false, 0) : OK;
}

/* FILE, FILE=WEIGHT or a directory. A file whose name has a = is itself. */
static int add_word(MixSources *s, const char *word) {
  struct stat st;
  const char *equals = strrchr(word, '=');
  char path[FILES_PATH];
  double weight;
  bool there = stat(word, &st) == 0;
  if (there && S_ISDIR(st.st_mode)) {
    s->folders++;
    return add_folder(s, word);
  }
  if (there || !equals) return add(s, word, false, 0);
  CHECK(real_of(equals + 1, &weight), ERR_USAGE, "%s: no such file, and %s is not a weight", word, equals + 1);
  CHECK((size_t)(equals - word) < sizeof path, ERR_USAGE, "%s: the path is too long", word);
  snprintf(path, sizeof path, "%.*s", (int)(equals - word), word);
  CHECK(stat(path, &st) != 0 || !S_ISDIR(st.st_mode), ERR_USAGE, "%s: a directory has no weight, its checkpoints do",
        word);
  return add(s, path, true, weight);
}

static int read_words(MixSources *s, int n, char *const *words) {
  bool option;
  for (int i = 0; i < n; i++) TRY(take_option(s, words[i], &option));
  for (int i = 0; i < n; i++) {
    TRY(take_option(s, words[i], &option));
    if (!option) TRY(add_word(s, words[i]));
  }
  CHECK(s->folders > 0 || s->last == 0, ERR_USAGE, "last = %lld chooses from a directory, and none is given",
        (long long)s->last);
  CHECK(s->sigma == 0 || *s->weights == 0, ERR_USAGE, "sigma = %g takes the traces of checkpoints, not weights=%s",
        s->sigma, s->weights);
  CHECK(s->folders > 0 || s->step < 0 || s->sigma > 0, ERR_USAGE,
        "step = %lld chooses from a directory, and none is given", (long long)s->step);
  CHECK(s->n > 0, ERR_USAGE, "no checkpoints: name files or a run's directory");
  for (int i = 0; i < s->n; i++)
    CHECK(s->sigma == 0 || !s->list[i].weighted, ERR_USAGE, "%s has a weight, but sigma = %g finds the weights",
          s->list[i].path, s->sigma);
  for (int i = 1; i < s->n; i++)
    CHECK(s->list[i].weighted == s->list[0].weighted, ERR_USAGE,
          "%s has a weight and %s has none: give a weight to each, or to none for their mean",
          s->list[s->list[i].weighted ? i : 0].path, s->list[s->list[i].weighted ? 0 : i].path);
  return OK;
}

int mix_sources_read(MixSources *s, int n, char *const *words) {
  *s = (MixSources){.weights = "", .step = -1};
  int err = read_words(s, n, words);
  if (err != OK) mix_sources_destroy(s);
  return err;
}

void mix_sources_destroy(MixSources *s) { mem_free(&s->list); }
