#include "base/page.h"

#include "base/log.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { LINE = 512, TEXT = 4000, INDENT = 2, HANGING = 4 };

/* Code points of n bytes of UTF-8: every byte but those that continue one. */
static int columns(const char *s, size_t n) {
  int count = 0;
  for (size_t i = 0; i < n; i++) count += ((unsigned char)s[i] & 0xc0) != 0x80;
  return count;
}

static size_t decode(const char *s, unsigned *point) {
  unsigned char c = (unsigned char)*s;
  size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
  *point = n == 1 ? c : c & (0xffu >> (n + 1));
  for (size_t i = 1; i < n && s[i]; i++) *point = *point << 6 | ((unsigned char)s[i] & 0x3f);
  return n;
}

/* ---- for a terminal */

static int width(void) {
  int n = log_columns(stdout);
  return n == 0 ? 80 : n < 60 ? 60 : n > 100 ? 100 : n;
}

/* Lines of `text`: the first one begins with `head`, the others with `indent` blanks. */
static void wrap(const char *head, int indent, const char *text) {
  char line[LINE];
  int used = snprintf(line, sizeof line, "%s", head), at = columns(head, strlen(head)), most = width();
  bool fresh = true; /* no word on this line yet */
  while (*text) {
    size_t n = strcspn(text, " ");
    int word = columns(text, n);
    if (!fresh && at + 1 + word > most) {
      log_info("%s", line);
      used = snprintf(line, sizeof line, "%*s", indent, "");
      at = indent;
      fresh = true;
    }
    int added = snprintf(line + used, sizeof line - (size_t)used, "%s%.*s", fresh ? "" : " ", (int)n, text);
    if (added < 0 || used + added >= LINE) break;
    used += added;
    at += word + !fresh;
    fresh = false;
    text += n;
    text += strspn(text, " ");
  }
  log_info("%s", line);
}

static void plain_title(const char *name, const char *version, const char *purpose) {
  log_info("%s %s — %s", name, version, purpose);
}

static void plain_section(const char *title) { log_info("\n%s", title); }

static void plain_part(const char *title) { log_info("\n%s", title); }

static void plain_text(const char *text) { wrap("  ", INDENT, text); }

static void plain_code(const char *line) { log_info("    %s", line); }

static void plain_row(int column, const char *term, const char *text) {
  char head[LINE];
  int n = columns(term, strlen(term)), gap = column - INDENT - n;
  if (gap < 2) {
    log_info("  %s", term);
    n = 0, term = "", gap = column - INDENT;
  }
  snprintf(head, sizeof head, "  %s%*s", term, gap, "");
  wrap(head, column, text);
}

static void plain_entry(const char *term, const char *detail, const char *text) {
  char head[LINE];
  snprintf(head, sizeof head, "%s   ", term);
  wrap(head, HANGING, detail);
  wrap("    ", HANGING, text);
}

const PageStyle page_plain = {plain_title, plain_section, plain_part, plain_text, plain_code, plain_row, plain_entry};

/* ---- for man */

/* The escapes of characters that roff interprets. */
static const char *roff_name(char c) {
  switch (c) {
  case '\\':
    return "\\e";
  case '-':
    return "\\-";
  case '\'':
    return "\\(aq";
  case '"':
    return "\\(dq";
  case '`':
    return "\\(ga";
  case '^':
    return "\\(ha";
  case '~':
    return "\\(ti";
  default:
    return NULL;
  }
}

static const char *roff(char buf[TEXT], const char *s) {
  size_t used = (size_t)snprintf(buf, TEXT, "%s", *s == '.' ? "\\&" : "");
  while (*s && used + 16 < TEXT) {
    unsigned point;
    size_t n = decode(s, &point);
    const char *name = n == 1 ? roff_name(*s) : NULL;
    if (name)
      used += (size_t)snprintf(buf + used, TEXT - used, "%s", name);
    else if (n == 1)
      buf[used++] = *s, buf[used] = '\0';
    else
      used += (size_t)snprintf(buf + used, TEXT - used, "\\[u%04X]", point);
    s += n;
  }
  return buf;
}

static void roff_upper(char buf[TEXT], const char *title) {
  char upper[LINE];
  snprintf(upper, sizeof upper, "%s", title);
  for (char *p = upper; *p; p++) *p = (char)toupper((unsigned char)*p);
  roff(buf, upper);
}

static void roff_title(const char *name, const char *version, const char *purpose) {
  char buf[TEXT], upper[TEXT];
  roff_upper(upper, name);
  log_info(".TH %s 1 \"\" \"%s %s\" \"User Commands\"", upper, name, version);
  log_info(".nh\n.ad l\n.SH NAME\n%s \\- %s", name, roff(buf, purpose));
}

static void roff_section(const char *title) {
  char buf[TEXT];
  roff_upper(buf, title);
  log_info(".SH %s", buf);
}

static void roff_part(const char *title) {
  char buf[TEXT];
  log_info(".SS %s", roff(buf, title));
}

static void roff_text(const char *text) {
  char buf[TEXT];
  log_info(".PP\n%s", roff(buf, text));
}

static void roff_code(const char *line) {
  char buf[TEXT];
  log_info(".PP\n.RS 4\n.nf\n%s\n.fi\n.RE", roff(buf, line));
}

static void roff_row(int column, const char *term, const char *text) {
  char buf[TEXT];
  log_info(".TP %d\n\\fB%s\\fR", column, roff(buf, term));
  log_info("%s", roff(buf, text));
}

static void roff_entry(const char *term, const char *detail, const char *text) {
  char buf[TEXT];
  log_info(".TP 4\n\\fB%s\\fR", roff(buf, term));
  log_info("%s", roff(buf, detail));
  log_info(".br\n%s", roff(buf, text));
}

const PageStyle page_roff = {roff_title, roff_section, roff_part, roff_text, roff_code, roff_row, roff_entry};
