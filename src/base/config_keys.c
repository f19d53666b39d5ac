#include "base/config_keys.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/nearest.h"

#include <ctype.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMON(section_, name_, type_, help_)                                                                          \
  .section = #section_, .name = #name_, .type = type_, .offset = offsetof(Config, section_##_##name_), .help = help_
#define KEY_INT(section, name, def, min, max, unit_, help)                                                             \
  {COMMON(section, name, KEY_IS_INT, help), .i = def, .imin = min, .imax = max, .unit = unit_},
#define KEY_REAL(section, name, def, min, max, unit_, help)                                                            \
  {COMMON(section, name, KEY_IS_REAL, help), .r = def, .rmin = min, .rmax = max, .unit = unit_},
#define KEY_BOOL(section, name, def, help) {COMMON(section, name, KEY_IS_BOOL, help), .b = def, .unit = ""},
#define KEY_STR(section, name, def, help) {COMMON(section, name, KEY_IS_STR, help), .s = def, .unit = ""},
#define KEY_WORD(section, name, def, words, help)                                                                      \
  {COMMON(section, name, KEY_IS_WORD, help), .s = def, .unit = "", .choices = words},

const Key config_keys[] = {
#include "base/keys.def"
};
const int config_key_count = sizeof config_keys / sizeof config_keys[0];

enum { KEYS = sizeof config_keys / sizeof config_keys[0], NAME = 64 };

static void *field(Config *cfg, const Key *key) { return (char *)cfg + key->offset; }

int config_keys_default(Config *cfg) {
  for (const Key *k = config_keys; k < config_keys + KEYS; k++) {
    void *to = field(cfg, k);
    switch (k->type) {
    case KEY_IS_INT:
      *(int64_t *)to = k->i;
      break;
    case KEY_IS_REAL:
      *(double *)to = k->r;
      break;
    case KEY_IS_BOOL:
      *(bool *)to = k->b;
      break;
    case KEY_IS_STR:
    case KEY_IS_WORD:
      TRY(mem_strdup(to, k->s));
      break;
    }
  }
  return OK;
}

void config_free(Config *cfg) {
  if (!cfg) return;
  for (const Key *k = config_keys; k < config_keys + KEYS; k++)
    if (k->type == KEY_IS_STR || k->type == KEY_IS_WORD) mem_free(field(cfg, k));
  mem_free(&cfg->deck);
  memset(cfg, 0, sizeof *cfg);
}

const Key *config_keys_find(const char *section, const char *name) {
  for (const Key *k = config_keys; k < config_keys + KEYS; k++)
    if (strcmp(k->section, section) == 0 && strcmp(k->name, name) == 0) return k;
  return NULL;
}

const FormerKey *config_keys_former(const char *section, const char *name) {
#define ROW(section_, name_, now_, word_) {.section = section_, .name = name_, .now = now_, .word = word_},
  static const FormerKey former[] = {FORMER_KEYS(ROW)};
#undef ROW
  for (size_t i = 0; i < sizeof former / sizeof *former; i++)
    if (strcmp(former[i].section, section) == 0 && strcmp(former[i].name, name) == 0) return &former[i];
  return NULL;
}

bool config_keys_has_section(const char *section) {
  for (const Key *k = config_keys; k < config_keys + KEYS; k++)
    if (strcmp(k->section, section) == 0) return true;
  return false;
}

const char *config_section(int i) {
  const char *last = "";
  for (const Key *k = config_keys; k < config_keys + KEYS; k++) {
    if (strcmp(k->section, last) != 0 && i-- == 0) return k->section;
    last = k->section;
  }
  return NULL;
}

/* ---- values */

int config_keys_set_int(Config *cfg, const Key *key, const char *subject, int64_t v) {
  char takes[256];
  CHECK(v >= key->imin && v <= key->imax, ERR_USAGE, "%s is out of range: it takes %s", subject,
        config_keys_takes(takes, sizeof takes, key));
  *(int64_t *)field(cfg, key) = v;
  return OK;
}

int config_keys_set_real(Config *cfg, const Key *key, const char *subject, double v) {
  char takes[256];
  CHECK(v >= key->rmin && v <= key->rmax, ERR_USAGE, "%s is out of range: it takes %s", subject,
        config_keys_takes(takes, sizeof takes, key));
  *(double *)field(cfg, key) = v;
  return OK;
}

static bool is_choice(const char *choices, const char *v) {
  size_t n = strlen(v);
  if (strchr(v, '|')) return false;
  for (const char *p = choices; p; p = strchr(p, '|')) {
    if (*p == '|') p++;
    if (strncmp(p, v, n) == 0 && (p[n] == '|' || p[n] == '\0')) return n > 0;
  }
  return false;
}

int config_keys_set_string(Config *cfg, const Key *key, const char *subject, const char *v) {
  char takes[256];
  CHECK(key->type != KEY_IS_WORD || is_choice(key->choices, v), ERR_USAGE, "%s is not a choice: it takes %s", subject,
        config_keys_takes(takes, sizeof takes, key));
  char **to = field(cfg, key);
  mem_free(to);
  return mem_strdup(to, v);
}

const char *config_keys_real(char *buf, size_t n, double v) {
  for (int digits = 6; digits <= 17; digits++) {
    snprintf(buf, n, "%.*g", digits, v);
    if (strtod(buf, NULL) == v) break;
  }
  size_t used = strlen(buf);
  if (!strpbrk(buf, ".en") && used + 3 <= n) strcpy(buf + used, ".0");
  return buf;
}

const char *config_keys_takes(char *buf, size_t n, const Key *key) {
  char words[160];
  const char *gap = key->unit[0] ? " " : "";
  size_t used = 0;
  switch (key->type) {
  case KEY_IS_INT:
    snprintf(buf, n, "an integer, %lld to %lld%s%s", (long long)key->imin, (long long)key->imax, gap, key->unit);
    break;
  case KEY_IS_REAL:
    snprintf(buf, n, "a real number, %.15g to %.15g%s%s", key->rmin, key->rmax, gap, key->unit);
    break;
  case KEY_IS_BOOL:
    snprintf(buf, n, "true or false");
    break;
  case KEY_IS_STR:
    snprintf(buf, n, "a string in quotes");
    break;
  case KEY_IS_WORD:
    for (const char *p = key->choices; *p && used + 3 < sizeof words; p++) {
      words[used++] = *p == '|' ? ',' : *p;
      if (*p == '|') words[used++] = ' ';
    }
    snprintf(buf, n, strchr(key->choices, '|') ? "one of %.*s" : "only %.*s", (int)used, words);
    break;
  }
  return buf;
}

/* ---- suggestions for misspelt keys */

/* Whether the help has words near `name`, as "learning rate" is near lerning_rate: it is compared with each run of as
 * many words. */
static bool help_speaks_of(const char *help, const char *name) {
  int words = 1, slack = (int)strlen(name) / 6;
  if (strlen(name) < 6) return false;
  for (const char *p = name; *p; p++) words += *p == '_';
  for (const char *p = help; *p; p++) {
    if (p > help && p[-1] != ' ') continue;
    char run[NAME + 1];
    int n = 0, spaces = 0;
    for (const char *q = p; *q && n < NAME; q++) {
      if (*q == ' ' && ++spaces == words) break;
      if (isalnum((unsigned char)*q) || *q == ' ' || *q == '_') run[n++] = *q == ' ' ? '_' : (char)tolower(*q);
    }
    run[n] = '\0';
    if (nearest_distance(name, run) <= slack) return true;
  }
  return false;
}

static const char *meant_section(const char *section) {
  const char *list[KEYS + 1] = {0};
  for (int i = 0; i < KEYS; i++) list[i] = config_keys[i].section;
  return nearest_word(section, list);
}

static const Key *meant_in(const char *section, const char *name) {
  const char *list[KEYS + 1] = {0};
  int n = 0;
  for (const Key *k = config_keys; k < config_keys + KEYS; k++)
    if (strcmp(k->section, section) == 0) list[n++] = k->name;
  const char *near = nearest_word(name, list);
  if (near) return config_keys_find(section, near);
  for (const Key *k = config_keys; k < config_keys + KEYS; k++)
    if (strcmp(k->section, section) == 0 && help_speaks_of(k->help, name)) return k;
  return NULL;
}

static const Key *meant(const char *section, const char *name) {
  const char *near = section ? meant_section(section) : NULL;
  const Key *found = near ? meant_in(near, name) : NULL;
  for (const Key *k = config_keys; !found && k < config_keys + KEYS; k++)
    if (strcmp(k->name, name) == 0) found = k;
  for (const Key *k = config_keys; !found && k < config_keys + KEYS; k++) found = meant_in(k->section, name);
  return found;
}

int config_keys_unknown(const char *place, const char *section, const char *name) {
  const char *dot = section ? "." : "";
  const FormerKey *former = section ? config_keys_former(section, name) : NULL;
  if (former)
    return RAISE(ERR_USAGE, "%s: %s.%s is now %s.%s = %s", place, section, name, section, former->now, former->word);
  const Key *k = meant(section, name);
  if (!section) section = "";
  if (k)
    return RAISE(ERR_USAGE, "%s: unknown key %s%s%s; did you mean %s.%s?", place, section, dot, name, k->section,
                 k->name);
  return RAISE(ERR_USAGE, "%s: unknown key %s%s%s; `mdlm help` lists them all", place, section, dot, name);
}

void config_borrow(Config *to, const Config *from, const char *section) {
  static const size_t size[] = {[KEY_IS_INT] = sizeof(int64_t),
                                [KEY_IS_REAL] = sizeof(double),
                                [KEY_IS_BOOL] = sizeof(bool),
                                [KEY_IS_STR] = sizeof(char *),
                                [KEY_IS_WORD] = sizeof(char *)};
  for (const Key *k = config_keys; k < config_keys + config_key_count; k++)
    if (strcmp(k->section, section) == 0) memcpy((char *)to + k->offset, (const char *)from + k->offset, size[k->type]);
}
