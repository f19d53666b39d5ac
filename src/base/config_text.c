#include "base/config_text.h"

#include "base/err.h"
#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Far above what a deck needs, and read within a fraction of a second: libconfig's time grows with the square of the
 * number of keys. */
enum { MAX_DEPTH = 8, MAX_INCLUDES = 256, MAX_BYTES = 1 << 20, MAX_WORDS = 1 << 14 };

static int put(ConfigText *t, const char *s, size_t n) {
  if (t->used + n + 1 > t->size) {
    size_t size = 2 * (t->used + n + 1);
    TRY(mem_realloc(&t->text, t->size, size));
    t->size = size;
  }
  memcpy(t->text + t->used, s, n);
  t->used += n;
  t->text[t->used] = '\0';
  for (size_t i = 0; i < n; i++) t->line += s[i] == '\n';
  return OK;
}

static int begin_piece(ConfigText *t, const char *file, int line) {
  size_t one = sizeof *t->pieces, old = (size_t)t->count * one;
  TRY(mem_realloc(&t->pieces, old, old + one));
  struct Piece *p = &t->pieces[t->count];
  TRY(mem_strdup(&p->file, file));
  p->line = line;
  p->at = t->line;
  t->count++;
  return OK;
}

/* ---- tokens: just enough of libconfig's language to tell includes and integers from strings and comments, and to find
 * what libconfig would accept in silence */

typedef enum Kind {
  OTHER,
  STRING,
  INTEGER,
  BLANK,
  NEWLINE,
  COMMENT,
  POINT, /* from here on: errors */
  OPEN_COMMENT,
  OPEN_STRING,
  STRING_WITH_NUL
} Kind;

static const char *const faults[] = {
    [POINT] = "a point needs a digit in a number; a key is written inside its section, as in train: { lr = 0.1; }",
    [OPEN_COMMENT] = "the comment that begins here has no end: close it with */",
    [OPEN_STRING] = "the string that begins here has no end: close it with a quote",
    [STRING_WITH_NUL] = "a string cannot hold the character \\x00: remove it",
};

static size_t until(const char *p, const char *end) {
  size_t n = 0, length = strlen(end);
  while (p[n] && strncmp(p + n, end, length) != 0) n++;
  return n;
}

static size_t comment_length(const char *p, Kind *kind) {
  size_t n = 2 + until(p + 2, "*/");
  *kind = p[n] ? COMMENT : OPEN_COMMENT;
  return p[n] ? n + 2 : n;
}

static size_t string_length(const char *p, Kind *kind) {
  size_t n = 1;
  bool nul = false;
  while (p[n] && p[n] != '"') {
    nul = nul || strncmp(p + n, "\\x00", 4) == 0;
    n += p[n] == '\\' && p[n + 1] ? 2 : 1;
  }
  *kind = !p[n] ? OPEN_STRING : nul ? STRING_WITH_NUL : STRING;
  return p[n] ? n + 1 : n;
}

static size_t number_length(const char *p, Kind *kind) {
  const char *decimal = "0123456789", *q = p;
  *kind = INTEGER;
  if (*q == '+' || *q == '-') q++;
  if (q[0] == '0' && (q[1] == 'x' || q[1] == 'X')) {
    q += 2;
    q += strspn(q, "0123456789abcdefABCDEF");
  } else {
    q += strspn(q, decimal);
    if (*q == '.') {
      *kind = OTHER;
      q++;
      q += strspn(q, decimal);
    }
    if (*q == 'e' || *q == 'E') {
      *kind = OTHER;
      q++;
      if (*q == '+' || *q == '-') q++;
      q += strspn(q, decimal);
    }
  }
  if (*q == 'L') *kind = OTHER; /* marked as long by its author */
  return (size_t)(q - p);
}

static bool starts_number(const char *p) {
  if (*p == '+' || *p == '-') p++;
  if (*p == '.') p++;
  return isdigit((unsigned char)*p);
}

static size_t token_length(const char *p, Kind *kind) {
  *kind = OTHER;
  if (*p == '\n') return *kind = NEWLINE, 1;
  if (isspace((unsigned char)*p)) return *kind = BLANK, 1;
  if (*p == '#' || (p[0] == '/' && p[1] == '/')) return *kind = COMMENT, until(p, "\n");
  if (p[0] == '/' && p[1] == '*') return comment_length(p, kind);
  if (*p == '"') return string_length(p, kind);
  if (starts_number(p)) return number_length(p, kind);
  if (*p == '.') return *kind = POINT, 1;
  size_t n = 0;
  while (isalnum((unsigned char)p[n]) || (p[n] && strchr("_-*", p[n]))) n++;
  return n > 0 ? n : 1;
}

/* ---- files */

/* Opens a regular file; does not wait for the other end of a pipe. */
static int open_deck(FILE **f, const char *path, const char *place) {
  struct stat st = {0};
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  CHECK(fd >= 0, ERR_USAGE, "%scannot open the deck %s: %s", place, path, strerror(errno));
  *f = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? fdopen(fd, "r") : NULL;
  if (*f) return OK;
  close(fd);
  if (S_ISDIR(st.st_mode)) return RAISE(ERR_USAGE, "%scannot read the deck %s: %s", place, path, strerror(EISDIR));
  return RAISE(ERR_USAGE, "%s%s is not a deck: it is not a regular file", place, path);
}

/* *text := the file; at most MAX_BYTES with what t has read so far. */
static int read_file(ConfigText *t, char **text, const char *path, const char *place) {
  static const char bom[] = "\xef\xbb\xbf"; /* some editors write this mark before UTF-8 */
  FILE *f;
  size_t room = MAX_BYTES - t->read + 1;
  int err = OK;
  TRY(open_deck(&f, path, place));
  TRY_TO(done, mem_alloc(text, room + 1));
  size_t used = fread(*text, 1, room, f);
  if (ferror(f))
    err = RAISE(ERR_USAGE, "%scannot read the deck %s: %s", place, path, strerror(errno));
  else if (used == room)
    err = RAISE(ERR_USAGE, "%s%s is too large: a deck and its includes have at most %d bytes", place, path, MAX_BYTES);
  else if (memchr(*text, '\0', used))
    err = RAISE(ERR_USAGE, "%s%s is not a deck: it is not text", place, path);
  t->read += used;
  if (err == OK && strncmp(*text, bom, 3) == 0) memset(*text, ' ', 3);
done:
  if (err != OK) mem_free(text);
  fclose(f);
  return err;
}

static int add_file(ConfigText *t, const char *path, const char *place, int depth);

/* p points behind the word @include: copy the path, make it relative to the folder of `file`, find the end of line. */
static int read_include(char path[PATH_MAX], size_t *length, const char *p, const char *file, int line) {
  const char *open = p + strspn(p, " \t"), *close = *open == '"' ? strpbrk(open + 1, "\"\n") : NULL;
  CHECK(close && *close == '"', ERR_USAGE, "%s:%d: write @include \"file.cfg\"", file, line);
  const char *slash = strrchr(file, '/');
  int folder = open[1] != '/' && slash ? (int)(slash + 1 - file) : 0;
  int n = snprintf(path, PATH_MAX, "%.*s%.*s", folder, file, (int)(close - open - 1), open + 1);
  CHECK(n < PATH_MAX, ERR_USAGE, "%s:%d: the path of the @include is too long", file, line);
  const char *end = close + 1 + strspn(close + 1, " \t\r;");
  CHECK(strchr("#\n", *end) || strncmp(end, "//", 2) == 0, ERR_USAGE, "%s:%d: an @include must be alone on its line",
        file, line);
  *length = (size_t)(end - p) + until(end, "\n");
  return OK;
}

static int add_integer(ConfigText *t, const char *p, size_t n, const char *file, int line) {
  errno = 0;
  long long v = strtoll(p, NULL, memchr(p, 'x', n) || memchr(p, 'X', n) ? 16 : 10);
  CHECK(errno == 0, ERR_USAGE, "%s:%d: the integer %.*s does not fit 64 bits", file, line, (int)n, p);
  TRY(put(t, p, n));
  if (v < INT32_MIN || v > INT32_MAX) TRY(put(t, "L", 1));
  return OK;
}

static int add_text(ConfigText *t, const char *p, const char *file, int depth) {
  bool fresh = true; /* nothing but blanks on this line so far */
  int line = 1;
  TRY(begin_piece(t, file, line));
  TRY(put(t, "", 0)); /* an empty deck is a deck */
  while (*p) {
    if (fresh && strncmp(p, "@include", 8) == 0) {
      char path[PATH_MAX], place[PATH_MAX + 32];
      size_t n = 0;
      TRY(read_include(path, &n, p + 8, file, line));
      snprintf(place, sizeof place, "%s:%d: ", file, line);
      CHECK(depth < MAX_DEPTH, ERR_USAGE, "%s@include \"%s\" is nested too deep; does it include itself?", place, path);
      CHECK(t->includes++ < MAX_INCLUDES, ERR_USAGE, "%sa deck has at most %d includes", place, MAX_INCLUDES);
      TRY(add_file(t, path, place, depth + 1));
      p += 8 + n;
      TRY(begin_piece(t, file, line));
      continue;
    }
    Kind kind;
    size_t n = token_length(p, &kind);
    CHECK(kind < POINT, ERR_USAGE, "%s:%d: %s", file, line, faults[kind]);
    if (kind < BLANK) t->words++;
    CHECK(t->words <= MAX_WORDS, ERR_USAGE,
          "%s:%d: the deck is too large: it has more than %d names, values and signs; no key takes a list", file, line,
          MAX_WORDS);
    TRY(kind == INTEGER ? add_integer(t, p, n, file, line) : put(t, p, n));
    for (size_t i = 0; i < n; i++) line += p[i] == '\n';
    fresh = kind == NEWLINE || (fresh && kind == BLANK);
    p += n;
  }
  bool ended = t->used > 0 && t->text[t->used - 1] == '\n';
  return ended ? OK : put(t, "\n", 1); /* libconfig refuses a comment at the end without it */
}

static int add_file(ConfigText *t, const char *path, const char *place, int depth) {
  char *text;
  TRY(read_file(t, &text, path, place));
  int err = add_text(t, text, path, depth);
  mem_free(&text);
  return err;
}

int config_text_file(ConfigText *t, const char *path) {
  *t = (ConfigText){.line = 1};
  int err = add_file(t, path, "", 0);
  if (err != OK) config_text_free(t);
  return err;
}

int config_text_string(ConfigText *t, const char *text, const char *name) {
  *t = (ConfigText){.line = 1};
  int err = add_text(t, text, name, 0);
  if (err != OK) config_text_free(t);
  return err;
}

const char *config_text_place(const ConfigText *t, int line, char *buf, size_t n) {
  const struct Piece *p = t->pieces;
  for (int i = 1; i < t->count && t->pieces[i].at <= line; i++) p = &t->pieces[i];
  snprintf(buf, n, "%s:%d", p->file, p->line + line - p->at);
  return buf;
}

void config_text_free(ConfigText *t) {
  if (!t) return;
  for (int i = 0; i < t->count; i++) mem_free(&t->pieces[i].file);
  mem_free(&t->pieces);
  mem_free(&t->text);
  *t = (ConfigText){0};
}
