/* config_help — what goes out of the table of keys: help for a reader, a resolved deck for a file. */
#include "base/config_keys.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

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

static int print_help(const Key *key, const Config *defaults) {
  char takes[256], *value = NULL;
  size_t size = 0;
  FILE *to = open_memstream(&value, &size);
  CHECK(to, ERR_MEMORY, "no memory for a line of help");
  print_value(to, defaults, key);
  fclose(to);
  log_info("%s.%s = %s   (%s)\n    %s", key->section, key->name, value, config_keys_takes(takes, sizeof takes, key),
           key->help);
  free(value);
  return OK;
}

/* "section.name" or "name" that no key contains. */
static int no_such_key(const char *pattern) {
  const char *dot = strchr(pattern, '.');
  char section[64];
  if (!dot) return config_keys_unknown("help", NULL, pattern);
  snprintf(section, sizeof section, "%.*s", (int)(dot - pattern), pattern);
  return config_keys_unknown("help", section, dot + 1);
}

/* Help on the key of that very name or, `part`, on those whose name contains it. */
static int print_matches(const char *pattern, bool part, const Config *defaults, int *found) {
  for (const Key *k = config_keys; k < config_keys + config_key_count; k++) {
    char name[128];
    snprintf(name, sizeof name, "%s.%s", k->section, k->name);
    if (part ? strstr(name, pattern) == NULL : strcmp(name, pattern) != 0) continue;
    TRY(print_help(k, defaults));
    ++*found;
  }
  return OK;
}

int config_help(const char *pattern) {
  Config defaults = {0};
  int err = config_keys_default(&defaults), found = 0;
  if (err == OK && pattern) err = print_matches(pattern, false, &defaults, &found);
  if (err == OK && found == 0) err = print_matches(pattern ? pattern : "", true, &defaults, &found);
  config_free(&defaults);
  return err == OK && found == 0 ? no_such_key(pattern) : err;
}
