/* menu — a closed list of choices: const tables in a NULL-ended list, each with its word as `name`.
 *
 * Nobody outside a choice's own file knows it by name: what others need to know is a field of its table. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/** MENU_FIND — found := the table called `word`, or NULL. */
#define MENU_FIND(found, list, word)                                                                                   \
  do {                                                                                                                 \
    (found) = NULL;                                                                                                    \
    for (int i_ = 0; (list)[i_] && !(found); i_++)                                                                     \
      if (strcmp((list)[i_]->name, (word)) == 0) (found) = (list)[i_];                                                 \
  } while (0)

enum { MENU_TEXT = 128 };
/** menu_add — appends a word to a text "a or b or c" of MENU_TEXT characters, "" before the first; what does not fit is
 *  left out. */
static inline void menu_add(char text[MENU_TEXT], const char *word) {
  size_t used = strlen(text);
  if (used + strlen(word) + 5 > MENU_TEXT) return;
  if (used > 0) strcat(text, " or ");
  strcat(text, word);
}
