/* config_load — from a deck and overrides, through libconfig, to a Config. The table of keys is config_keys.c. */
#include "base/config.h"

#include "base/config_keys.h"
#include "base/config_text.h"
#include "base/err.h"
#include "base/mem.h"

#include <libconfig.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLACE = 512, NAME = 80 };

/* ---- one value */

static const char *show(char *buf, size_t n, const config_setting_t *s) {
  switch (config_setting_type(s)) {
  case CONFIG_TYPE_INT:
  case CONFIG_TYPE_INT64:
    snprintf(buf, n, "%lld", config_setting_get_int64(s));
    break;
  case CONFIG_TYPE_FLOAT:
    config_keys_real(buf, n, config_setting_get_float(s));
    break;
  case CONFIG_TYPE_BOOL:
    snprintf(buf, n, config_setting_get_bool(s) ? "true" : "false");
    break;
  case CONFIG_TYPE_STRING:
    snprintf(buf, n, "\"%s\"", config_setting_get_string(s));
    break;
  case CONFIG_TYPE_GROUP:
    snprintf(buf, n, "{…}");
    break;
  default:
    snprintf(buf, n, "a list");
    break;
  }
  return buf;
}

static bool is_integer(const config_setting_t *s) {
  return config_setting_type(s) == CONFIG_TYPE_INT || config_setting_type(s) == CONFIG_TYPE_INT64;
}

/* An integer may be written as 1e6, as long as it is one. */
static int set_int(Config *cfg, const Key *key, const char *subject, const config_setting_t *s) {
  if (is_integer(s)) return config_keys_set_int(cfg, key, subject, config_setting_get_int64(s));
  double v = config_setting_get_float(s);
  CHECK(v == floor(v), ERR_USAGE, "%s is not an integer", subject);
  char takes[256];
  CHECK(v >= -0x1p63 && v < 0x1p63, ERR_USAGE, "%s is out of range: it takes %s", subject,
        config_keys_takes(takes, sizeof takes, key));
  return config_keys_set_int(cfg, key, subject, (int64_t)v);
}

static int set_value(Config *cfg, const Key *key, const char *subject, const config_setting_t *s) {
  char takes[256];
  int type = config_setting_type(s);
  bool number = is_integer(s) || type == CONFIG_TYPE_FLOAT;
  if (key->type == KEY_IS_INT && number) return set_int(cfg, key, subject, s);
  if (key->type == KEY_IS_REAL && number) {
    double v = is_integer(s) ? (double)config_setting_get_int64(s) : config_setting_get_float(s);
    return config_keys_set_real(cfg, key, subject, v);
  }
  if (key->type == KEY_IS_BOOL && type == CONFIG_TYPE_BOOL) {
    *(bool *)((char *)cfg + key->offset) = config_setting_get_bool(s);
    return OK;
  }
  if ((key->type == KEY_IS_STR || key->type == KEY_IS_WORD) && type == CONFIG_TYPE_STRING)
    return config_keys_set_string(cfg, key, subject, config_setting_get_string(s));
  return RAISE(ERR_USAGE, "%s has the wrong type: it takes %s", subject, config_keys_takes(takes, sizeof takes, key));
}

/* ---- a deck */

/* The name of a setting; one that is longer than any of ours is cut. */
static const char *name_of(const config_setting_t *s, char name[NAME + 8]) {
  const char *all = config_setting_name(s);
  snprintf(name, NAME + 8, "%.*s%s", NAME, all, strlen(all) > NAME ? "…" : "");
  return name;
}

/* Adds "section.key = value" to the list. */
static int note(char **list, const char *section, const char *name, const char *value) {
  size_t old = *list ? strlen(*list) : 0, more = strlen(section) + strlen(name) + strlen(value) + 8;
  TRY(mem_realloc(list, *list ? old + 1 : 0, old + more));
  snprintf(*list + old, more, "%s%s.%s = %s", old ? ", " : "", section, name, value);
  return OK;
}

/* The word that the key of an older version means, if it is true. */
static int apply_former(Config *cfg, const FormerKey *former, const char *place, const config_setting_t *s) {
  const Key *now = config_keys_find(former->section, former->now);
  return config_setting_get_bool(s) ? config_keys_set_string(cfg, now, place, former->word) : OK;
}

/* gone NULL: an unknown key is an error; otherwise it is added to that list. */
static int apply_key(Config *cfg, const char *section, const config_setting_t *s, const ConfigText *t, char **gone) {
  char place[PLACE], subject[2 * PLACE], value[PLACE / 2], text[NAME + 8];
  const char *name = name_of(s, text);
  config_text_place(t, (int)config_setting_source_line(s), place, sizeof place);
  const Key *key = config_keys_find(section, name);
  const FormerKey *former = gone ? config_keys_former(section, name) : NULL;
  show(value, sizeof value, s);
  if (former && config_setting_type(s) == CONFIG_TYPE_BOOL) return apply_former(cfg, former, place, s);
  if (!key) return gone ? note(gone, section, name, value) : config_keys_unknown(place, section, name);
  snprintf(subject, sizeof subject, "%s: %s.%s = %s", place, section, name, value);
  return set_value(cfg, key, subject, s);
}

static int apply_section(Config *cfg, const config_setting_t *group, const ConfigText *t, char **gone) {
  char place[PLACE], text[NAME + 8];
  const char *section = name_of(group, text);
  config_text_place(t, (int)config_setting_source_line(group), place, sizeof place);
  bool known = config_keys_has_section(section);
  if (!config_setting_is_group(group)) {
    CHECK(!known, ERR_USAGE, "%s: %s is a section: write %s: { key = value; }", place, section, section);
    return config_keys_unknown(place, NULL, section);
  }
  int n = config_setting_length(group);
  CHECK(known || n > 0, ERR_USAGE, "%s: unknown section %s; `mdlm help` lists them all", place, section);
  for (int i = 0; i < n; i++) TRY(apply_key(cfg, section, config_setting_get_elem(group, (unsigned)i), t, gone));
  return OK;
}

static int parse(config_t *parsed, const ConfigText *t) {
  char place[PLACE];
  if (config_read_string(parsed, t->text)) return OK;
  const char *what = config_error_text(parsed);
  config_text_place(t, config_error_line(parsed), place, sizeof place);
  const char *hint = "strings need quotes, settings end with a semicolon, sections are name: { … }";
  if (strstr(what, "duplicate")) hint = "a section or key may appear only once in a deck and its includes";
  return RAISE(ERR_USAGE, "%s: %s (%s)", place, what, hint);
}

static int apply_deck(Config *cfg, const ConfigText *t, char **gone) {
  config_t parsed;
  config_init(&parsed);
  int err = parse(&parsed, t);
  const config_setting_t *root = config_root_setting(&parsed);
  for (int i = 0; err == OK && i < config_setting_length(root); i++)
    err = apply_section(cfg, config_setting_get_elem(root, (unsigned)i), t, gone);
  config_destroy(&parsed);
  return err;
}

/* ---- overrides */

/* Strings on the command line lack the quotes that the shell has removed: add them, unless they are there. */
static int quote(char **quoted, const char *value) {
  size_t n = strlen(value);
  TRY(mem_alloc(quoted, 2 * n + 3));
  char *to = *quoted;
  if (n > 1 && value[0] == '"' && value[n - 1] == '"') {
    memcpy(to, value, n + 1);
    return OK;
  }
  *to++ = '"';
  for (; *value; value++) {
    if (*value == '"' || *value == '\\') *to++ = '\\';
    *to++ = *value;
  }
  *to = '"';
  return OK;
}

/* Parse `value` as a deck that consists of the setting "value". */
static int parse_value(config_t *parsed, const Key *key, const char *subject, const char *value) {
  char *quoted = NULL, *line = NULL, takes[256];
  ConfigText t = {0};
  bool text = key->type == KEY_IS_STR || key->type == KEY_IS_WORD;
  int err = OK;
  if (text) TRY(quote(&quoted, value));
  const char *v = text ? quoted : value;
  TRY_TO(done, mem_alloc(&line, strlen(v) + 16));
  sprintf(line, "value = %s;", v);
  err = config_text_string(&t, line, subject);
  if (err == ERR_USAGE)
    err = RAISE(ERR_USAGE, "%s is not a value: it takes %s", subject, config_keys_takes(takes, sizeof takes, key));
  else if (err == OK &&
           (!config_read_string(parsed, t.text) || config_setting_length(config_root_setting(parsed)) != 1))
    err = RAISE(ERR_USAGE, "%s has the wrong type: it takes %s", subject, config_keys_takes(takes, sizeof takes, key));
done:
  config_text_free(&t);
  mem_free(&line);
  mem_free(&quoted);
  return err;
}

static int apply_override(Config *cfg, const char *word) {
  enum { SHOWN = 200 }; /* bytes of a long word in a message */
  char section[64], name[64], subject[SHOWN + 8];
  snprintf(subject, sizeof subject, "%.*s%s", SHOWN, word, strlen(word) > SHOWN ? "…" : "");
  const char *equals = strchr(word, '='), *dot = strchr(word, '.');
  CHECK(equals && dot && dot < equals && dot > word && dot + 1 < equals, ERR_USAGE,
        "%s: write an override as section.key=value", subject);
  snprintf(section, sizeof section, "%.*s", (int)(dot - word), word);
  snprintf(name, sizeof name, "%.*s", (int)(equals - dot - 1), dot + 1);
  const Key *key = config_keys_find(section, name);
  if (!key) return config_keys_unknown(subject, section, name);
  /* a shell expands ~ at the beginning of a word only: run.dir=~/a would make a directory called ~ */
  CHECK(key->type != KEY_IS_STR || strncmp(equals, "=~/", 3) != 0, ERR_USAGE,
        "%s: the shell does not expand ~ here; write $HOME/…", subject);
  config_t parsed;
  config_init(&parsed);
  int err = parse_value(&parsed, key, subject, equals + 1);
  if (err == OK) err = set_value(cfg, key, subject, config_setting_get_elem(config_root_setting(&parsed), 0));
  config_destroy(&parsed);
  return err;
}

/* ---- */

static int load(Config *cfg, const char *name, const ConfigText *t, char **gone, int n, char *const *overrides) {
  int err = OK;
  memset(cfg, 0, sizeof *cfg);
  TRY_TO(fail, config_keys_default(cfg));
  TRY_TO(fail, mem_strdup(&cfg->deck, name));
  if (t) TRY_TO(fail, apply_deck(cfg, t, gone));
  for (int i = 0; i < n; i++) TRY_TO(fail, apply_override(cfg, overrides[i]));
  return OK;
fail:
  config_free(cfg);
  return err;
}

int config_load(Config *cfg, const char *path, int n, char *const *overrides) {
  ConfigText t = {0};
  memset(cfg, 0, sizeof *cfg);
  if (path) TRY(config_text_file(&t, path));
  int err = load(cfg, path ? path : "(no deck)", path ? &t : NULL, NULL, n, overrides);
  config_text_free(&t);
  return err;
}

int config_load_text(Config *cfg, const char *text, const char *name, char **gone) {
  ConfigText t;
  memset(cfg, 0, sizeof *cfg);
  *gone = NULL;
  TRY(config_text_string(&t, text, name));
  int err = load(cfg, name, &t, gone, 0, NULL);
  config_text_free(&t);
  if (err != OK) mem_free(gone);
  return err;
}

#define TEXT_OF(x) #x
#define VERSION_TEXT(major, minor, revision) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(revision)
const char *config_version(void) {
  return VERSION_TEXT(LIBCONFIG_VER_MAJOR, LIBCONFIG_VER_MINOR, LIBCONFIG_VER_REVISION);
}
