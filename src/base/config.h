/* config — a run's settings: a libconfig deck, overridden by section.key=value words. keys.def lists every key. */
#pragma once
#include "base/page.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Config {
#define KEY_INT(section, name, def, min, max, unit, help) int64_t section##_##name;
#define KEY_REAL(section, name, def, min, max, unit, help) double section##_##name;
#define KEY_BOOL(section, name, def, help) bool section##_##name;
#define KEY_STR(section, name, def, help) char *section##_##name;
#define KEY_WORD(section, name, def, choices, help) char *section##_##name;
#include "base/keys.def"
#undef KEY_INT
#undef KEY_REAL
#undef KEY_BOOL
#undef KEY_STR
#undef KEY_WORD
  char *deck; /* path of the deck, for messages */
} Config;

/* Not config_read and config_destroy: libconfig exports these names. */
/** config_load — read deck `path` (NULL: defaults only), then apply n overrides "section.key=value".
 *  Relative @include paths are relative to the file that has them. Strings are owned by cfg. Not collective: every
 *  rank reads.
 *  Errors  ERR_USAGE: missing file, syntax, unknown key (file, line, nearest key), wrong type, out of range (with range
 *  and unit), a value that is none of the choices (with the choices) */
int config_load(Config *cfg, const char *path, int n, char *const *overrides);
/** config_resolved — *text := a deck with every key and its value, in the order of keys.def; the caller mem_frees it.
 *  Reading it back gives the same Config. */
int config_resolved(const Config *cfg, char **text);
/** config_load_text — like config_load from a deck in memory, one that config_resolved wrote, perhaps in another version
 *  of the program: keys that it lacks have their defaults, and those that this version lacks are listed in *gone as
 *  "section.key = value, …", NULL if there are none; the caller mem_frees it. `name` is for messages. */
int config_load_text(Config *cfg, const char *text, const char *name, char **gone);
/** config_compare — call tell for each key, "section.key", whose values in a deck differ, in the order of keys.def.
 *  Errors  ERR_MEMORY */
int config_compare(const Config *now, const Config *before,
                   void (*tell)(void *arg, const char *key, const char *now, const char *before), void *arg);
/** config_borrow — the keys of a section of `to` := those of `from`, whose strings stay its own: `to` is not for
 *  config_free. */
void config_borrow(Config *to, const Config *from, const char *section);
/** config_free — release the strings; NULL-safe, clears cfg. */
void config_free(Config *cfg);
/* Which keys `word` asks for, whatever the case of its letters. */
typedef enum ConfigMatch {
  CONFIG_SECTION, /* those of the section */
  CONFIG_NAME,    /* the one of that full name, section.key */
  CONFIG_PART,    /* those whose name contains it; of fewer than 3 letters, as a whole part: lr in train.lr_min */
  CONFIG_TEXT     /* those whose help or choices mention it, but not their name */
} ConfigMatch;

/** config_help — an entry on the page for each key that matches: default, range, unit, help. *found := their number.
 *  Errors  ERR_MEMORY */
int config_help(const PageStyle *page, ConfigMatch match, const char *word, int *found);
/** config_help_unknown — raise ERR_USAGE for a word that matches no key, with the nearest one. */
int config_help_unknown(const char *word);
/** config_mentions — whether some word of the text begins with `word`, or is it where it has fewer than 3 letters. */
bool config_mentions(const char *text, const char *word);
/** config_section — name of section i in the order of keys.def, NULL behind the last one. */
const char *config_section(int i);
/** config_version — version of libconfig. */
const char *config_version(void);
