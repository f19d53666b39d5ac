/* page — text wrapping for a terminal, and roff for man. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/page.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char text[8192];

/* The text that `print` prints. */
static const char *printed(void (*print)(void)) {
  fflush(stdout);
  int kept = dup(STDOUT_FILENO);
  FILE *f = tmpfile();
  assert_non_null(f);
  dup2(fileno(f), STDOUT_FILENO);
  print();
  fflush(stdout);
  dup2(kept, STDOUT_FILENO);
  close(kept);
  rewind(f);
  text[fread(text, 1, sizeof text - 1, f)] = '\0';
  fclose(f);
  return text;
}

#define A30 "aaaaaaaaa aaaaaaaaa aaaaaaaaa "
static void long_text(void) { page_plain.text(A30 A30 "bbbbbbbbbbbbbbbbbb c"); }
static void umlauts(void) { page_plain.text(A30 A30 "öööööööööööööööööö c"); }
static void long_word(void) {
  char word[2000];
  memset(word, 'x', sizeof word - 1);
  word[sizeof word - 1] = '\0';
  page_plain.text(word);
  page_plain.text("short");
}
static void rows(void) {
  page_plain.row(8, "ab", A30 A30 "last words");
  page_plain.row(8, "abcdefghi", "below");
  page_plain.entry("key = 1", "(a number)", "its help");
}

static void plain(void **state) {
  (void)state;
  const char *a30 = "aaaaaaaaa aaaaaaaaa aaaaaaaaa";
  char want[400];
  snprintf(want, sizeof want, "  %s %s bbbbbbbbbbbbbbbbbb\n  c\n", a30, a30);
  assert_string_equal(printed(long_text), want);
  snprintf(want, sizeof want, "  %s %s öööööööööööööööööö\n  c\n", a30, a30); /* 80 columns, more bytes */
  assert_string_equal(printed(umlauts), want);
  snprintf(want, sizeof want,
           "  ab    %s %s last words\n  abcdefghi\n        below\nkey = 1   (a number)\n    its help\n", a30, a30);
  assert_string_equal(printed(rows), want);
}

/* A word longer than the line buffer is cut, and the following text is still printed. */
static void endless_word(void **state) {
  (void)state;
  assert_string_equal(strchr(printed(long_word), '\n'), "\n  short\n");
  assert_in_range(strcspn(text, "\n"), 80, 1000);
}

static void roff_marks(void) { page_roff.text("a\\b 'c' \"d\" -e ~^` …"); }
static void roff_dots(void) {
  page_roff.row(12, ".x", "'y");
  page_roff.section("See also");
}

static void roff(void **state) {
  (void)state;
  assert_string_equal(printed(roff_marks), ".PP\na\\eb \\(aqc\\(aq \\(dqd\\(dq \\-e \\(ti\\(ha\\(ga \\[u2026]\n");
  assert_string_equal(printed(roff_dots), ".TP 12\n\\fB\\&.x\\fR\n\\(aqy\n.SH SEE ALSO\n");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(plain), cmocka_unit_test(endless_word), cmocka_unit_test(roff)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
