/* config_keys — keys.def as a table, for the sources of config only. */
#pragma once
#include "base/config.h"

typedef enum KeyType { KEY_IS_INT, KEY_IS_REAL, KEY_IS_BOOL, KEY_IS_STR, KEY_IS_WORD } KeyType;

typedef struct Key {
  const char *section, *name;
  KeyType type;
  size_t offset;         /* of the field in Config                 */
  int64_t i, imin, imax; /* default and range of an integer        */
  double r, rmin, rmax;  /* default and range of a real            */
  bool b;                /* default of a boolean                   */
  const char *s;         /* default of a string or word            */
  const char *unit;      /* "" if none                             */
  const char *choices;   /* of a word: "a|b|…"                     */
  const char *help;
} Key;

extern const Key config_keys[];
extern const int config_key_count;

/** config_keys_default — every field of the cleared cfg := its default. */
int config_keys_default(Config *cfg);
/** config_keys_find — the key, or NULL. */
const Key *config_keys_find(const char *section, const char *name);
typedef struct FormerKey { /* was true or false, and is now a word of another key of its section */
  const char *section, *name, *now, *word;
} FormerKey;
/** config_keys_former — the former key of that name, or NULL. */
const FormerKey *config_keys_former(const char *section, const char *name);
/** config_keys_has_section — whether some key has this section. */
bool config_keys_has_section(const char *section);
/** config_keys_set_… — check v and store it. `subject` opens the message: "deck.cfg:12: train.lr = -1". ERR_USAGE. */
int config_keys_set_int(Config *cfg, const Key *key, const char *subject, int64_t v);
int config_keys_set_real(Config *cfg, const Key *key, const char *subject, double v);
int config_keys_set_string(Config *cfg, const Key *key, const char *subject, const char *v);
/** config_keys_unknown — raise ERR_USAGE for a key that does not exist, suggesting the nearest one.
 *  `place` opens the message; section may be NULL, for a key outside of any. */
int config_keys_unknown(const char *place, const char *section, const char *name);
/** config_keys_real — a short decimal text that reads back as v, marked as a real by a point or an exponent. */
const char *config_keys_real(char *buf, size_t n, double v);
/** config_keys_takes — what a key takes, in words: "an integer, 0 to 10 steps". */
const char *config_keys_takes(char *buf, size_t n, const Key *key);
