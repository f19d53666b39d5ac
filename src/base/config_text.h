/* config_text — a deck's text with its @include lines replaced by the files they name, and where each line came from.
 *
 * Files are regular files of text. Their size, the number of includes and the number of words are limited, so that any
 * file is read or refused at once.
 *
 * libconfig 1.5 can include files itself, but it reports errors in an included file under the wrong name, exits the
 * process if it cannot read one, truncates integers beyond 32 bits unless they end in L, and accepts a point
 * as a number and a comment without an end. It is therefore given text without these. */
#pragma once
#include <stddef.h>

typedef struct ConfigText {
  char *text;
  size_t used, size;
  size_t read;         /* bytes of files */
  int words, includes; /* so far */
  int line;            /* of text, that the next character stands on; the first is 1 */
  struct Piece {
    char *file;
    int line, at; /* line `line` of `file` is line `at` of text, and so on to the next piece */
  } * pieces;
  int count;
} ConfigText;

/** config_text_file — t := the deck in file `path`; a relative include is relative to the file that has it.
 *  Errors  ERR_USAGE, with file and line for a bad include */
int config_text_file(ConfigText *t, const char *path);
/** config_text_string — t := the deck in `text`; `name` stands for its file. */
int config_text_string(ConfigText *t, const char *text, const char *name);
/** config_text_place — "file:line" of a line of t->text, into buf, which is returned. */
const char *config_text_place(const ConfigText *t, int line, char *buf, size_t n);
/** config_text_free — NULL-safe, clears t. */
void config_text_free(ConfigText *t);
