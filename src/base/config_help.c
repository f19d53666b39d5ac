/* config_help — what is printed from the table of keys: help for a reader, a resolved deck for a file, and what differs
 * between two decks. */
#include "base/config_keys.h"
#include "base/err.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_text(FILE *to, const char *s) {
  fputc('"', to);
  for (; *s; s++) {
    if (*s == '"' || *s == '\\')
      fprintf(to, "\\%c", *s);
    else if ((unsigned char)*s < ' ')
      fprintf(to, "\\x%02x", (unsigned)*s);
    else
      fputc(*s, to);
  }
  fputc('"', to);
}

static void print_value(FILE *to, const Config *cfg, const Key *key) {
  char real[40];
  const void *at = (const char *)cfg + key->offset;
  switch (key->type) {
  case KEY_IS_INT:
    fprintf(to, "%lld", (long long)*(const int64_t *)at);
    break;
  case KEY_IS_REAL:
    fputs(config_keys_real(real, sizeof real, *(const double *)at), to);
    break;
  case KEY_IS_BOOL:
    fputs(*(const bool *)at ? "true" : "false", to);
    break;
  case KEY_IS_STR:
  case KEY_IS_WORD:
    print_text(to, *(char *const *)at);
    break;
  }
}

int config_resolved(const Config *cfg, char **text) {
  char *buf = NULL;
  size_t size = 0;
  FILE *to = open_memstream(&buf, &size);
  CHECK(to, ERR_MEMORY, "no memory for the text of the resolved deck");
  const char *section = "";
  for (const Key *k = config_keys; k < config_keys + config_key_count; k++) {
    if (strcmp(k->section, section) != 0) fprintf(to, "%s%s:\n{\n", section[0] ? "}\n" : "", k->section);
    section = k->section;
    fprintf(to, "  %s = ", k->name);
    print_value(to, cfg, k);
    fputs(";\n", to);
  }
  fputs("}\n", to);
  int failed = ferror(to) | fclose(to);
  int err = failed ? RAISE(ERR_MEMORY, "no memory for the text of the resolved deck") : mem_strdup(text, buf);
  free(buf);
  return err;
}

/* ---- what differs */

/* A value as a deck has it; the caller frees it. */
static char *value_text(const Config *cfg, const Key *key) {
  char *text = NULL;
  size_t size = 0;
  FILE *to = open_memstream(&text, &size);
  if (!to) return NULL;
  print_value(to, cfg, key);
  fclose(to);
  return text;
}

int config_compare(const Config *now, const Config *before,
                   void (*tell)(void *arg, const char *key, const char *now, const char *before), void *arg) {
  char name[128];
  for (const Key *k = config_keys; k < config_keys + config_key_count; k++) {
    char *a = value_text(now, k), *b = value_text(before, k);
    bool there = a && b;
    snprintf(name, sizeof name, "%s.%s", k->section, k->name);
    if (there && strcmp(a, b) != 0) tell(arg, name, a, b);
    free(a);
    free(b);
    CHECK(there, ERR_MEMORY, "no memory to compare %s", name);
  }
  return OK;
}

/* ---- help */

static bool same_letter(char a, char b) { return tolower((unsigned char)a) == tolower((unsigned char)b); }

static bool same(const char *a, const char *b) {
  while (*a && same_letter(*a, *b)) a++, b++;
  return *a == *b;
}

static bool begins(const char *text, const char *word) {
  while (*word && same_letter(*text, *word)) text++, word++;
  return *word == '\0';
}

static bool in_word(char c) { return isalnum((unsigned char)c); }

bool config_mentions(const char *text, const char *word) {
  size_t n = strlen(word);
  bool whole = n < 3; /* "T" is a word, but no beginning to look for */
  for (const char *p = text; *p; p++)
    if ((p == text || !in_word(p[-1])) && begins(p, word) && !(whole && in_word(p[n]))) return true;
  return false;
}

/* Short words must be a part between points and underscores: "lr" is in train.lr_min, "t" is not in every name. */
static bool name_has(const char *name, const char *word) {
  if (strlen(word) < 3) return config_mentions(name, word);
  for (const char *p = name; *p; p++)
    if (begins(p, word)) return true;
  return false;
}

static bool matches(const Key *k, ConfigMatch match, const char *word) {
  char name[128];
  snprintf(name, sizeof name, "%s.%s", k->section, k->name);
  switch (match) {
  case CONFIG_SECTION:
    return same(k->section, word);
  case CONFIG_NAME:
    return same(name, word);
  case CONFIG_PART:
    return name_has(name, word);
  case CONFIG_TEXT:
    return !name_has(name, word) &&
           (config_mentions(k->help, word) || (k->choices && config_mentions(k->choices, word)));
  }
  return false;
}

static int print_help(const PageStyle *page, const Key *key, const Config *defaults) {
  char takes[256], bracketed[260], *term = NULL;
  size_t size = 0;
  FILE *to = open_memstream(&term, &size);
  CHECK(to, ERR_MEMORY, "no memory for a line of help");
  fprintf(to, "%s.%s = ", key->section, key->name);
  print_value(to, defaults, key);
  fclose(to);
  snprintf(bracketed, sizeof bracketed, "(%s)", config_keys_takes(takes, sizeof takes, key));
  page->entry(term, bracketed, key->help);
  free(term);
  return OK;
}

int config_help(const PageStyle *page, ConfigMatch match, const char *word, int *found) {
  Config defaults = {0};
  int err = config_keys_default(&defaults);
  *found = 0;
  for (const Key *k = config_keys; k < config_keys + config_key_count && err == OK; k++) {
    if (!matches(k, match, word)) continue;
    err = print_help(page, k, &defaults);
    ++*found;
  }
  config_free(&defaults);
  return err;
}

int config_help_unknown(const char *word) {
  const char *dot = strchr(word, '.');
  char section[64];
  if (!dot) return config_keys_unknown("help", NULL, word);
  snprintf(section, sizeof section, "%.*s", (int)(dot - word), word);
  return config_keys_unknown("help", section, dot + 1);
}
