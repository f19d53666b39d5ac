/* log — every line is flushed at once, so that a killed job loses no output. */
#include "base/log.h"

#include "base/activity.h"
#include "base/clock.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int my_rank, ranks = 1;
static int lost;   /* errno of the first write to stdout that failed */
static bool drawn; /* a progress line is on the terminal; the next line wipes it */

void log_init(int rank, int size) {
  my_rank = rank;
  ranks = size;
}

static bool on_terminal(void) { return isatty(STDERR_FILENO); }

static void wipe(void) {
  if (!drawn) return;
  fputs("\r\033[K", stderr);
  fflush(stderr);
  drawn = false;
}

/* No one reads on where a pipe was closed, as by head: that is not an error. */
static int written(FILE *to, bool good) {
  if (good && fflush(to) == 0) return 0;
  int reason = errno;
  clearerr(to);
  if (reason == EPIPE) return 0;
  if (to == stdout && lost == 0) lost = reason;
  return -1;
}

int log_lost(void) { return lost; }

/* One call of fwrite per line, so that the lines of several ranks do not mix. */
static void put_line(FILE *to, const char *head, const char *fmt, va_list args) {
  char line[4096];
  int used = snprintf(line, sizeof line, "%s", head);
  int n = vsnprintf(line + used, sizeof line - 1 - (size_t)used, fmt, args);
  size_t length = n < 0 ? (size_t)used : strlen(line);
  line[length++] = '\n';
  wipe();
  written(to, fwrite(line, 1, length, to) == length);
}

void log_info(const char *fmt, ...) {
  if (my_rank != 0) return;
  va_list args;
  va_start(args, fmt);
  put_line(stdout, "", fmt, args);
  va_end(args);
}

int log_text(const char *text) {
  if (my_rank != 0) return 0;
  wipe();
  return written(stdout, fputs(text, stdout) >= 0 && fputc('\n', stdout) != EOF);
}

void log_warn(const char *fmt, ...) {
  if (my_rank != 0) return;
  va_list args;
  va_start(args, fmt);
  put_line(stderr, "warning: ", fmt, args);
  va_end(args);
}

static void error_head(char head[64]) {
  snprintf(head, 64, "mdlm: error: ");
  if (ranks > 1) snprintf(head, 64, "mdlm: error on rank %d: ", my_rank);
}

void log_error(const char *fmt, ...) {
  char head[64];
  error_head(head);
  va_list args;
  va_start(args, fmt);
  put_line(stderr, head, fmt, args);
  va_end(args);
}

void log_urgent(bool error, const char *text) {
  char head[64] = "warning: ", line[1024];
  if (error) error_head(head);
  snprintf(line, sizeof line, "%s%s%s\n", on_terminal() ? "\r\033[K" : "", head, text);
  if (write(STDERR_FILENO, line, strlen(line)) < 0) return; /* there is no other place to say it */
}

const char *log_duration(char *buf, size_t n, double seconds) {
  if (!isfinite(seconds) || fabs(seconds) > 1e15) {
    snprintf(buf, n, "?");
    return buf;
  }
  long long s = seconds > 0 ? llround(seconds) : 0, d = s / 86400, h = s / 3600 % 24, m = s / 60 % 60;
  if (d > 0)
    snprintf(buf, n, "%lldd %02lld:%02lld:%02lld", d, h, m, s % 60);
  else if (h > 0)
    snprintf(buf, n, "%lld:%02lld:%02lld", h, m, s % 60);
  else
    snprintf(buf, n, "%lld:%02lld", m, s % 60);
  return buf;
}

int log_columns(FILE *stream) {
  struct winsize size = {0};
  return ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

/* ---- progress, on stderr: stdout may be piped into another program */

static const double REDRAW = 0.2, NEXT_LINE = 10;

/* Draw the line in place of the last one, cut to what the terminal shows: a wrapped line could not be wiped. */
static void redraw(char *line) {
  int most = log_columns(stderr) - 1;
  if (most > 0 && strlen(line) > (size_t)most) line[most] = '\0';
  fprintf(stderr, "\r%s\033[K", line);
  fflush(stderr);
  drawn = true;
}

void progress_start(Progress *p, const char *what, const char *unit, long long total) {
  *p = (Progress){.what = what, .unit = unit, .total = total, .from = -1};
  p->start = p->shown = clock_now();
}

static void show(const Progress *p, long long done, double now, bool terminal, bool last) {
  char left[64], speed[32], line[256];
  double seconds = now - p->start, rate = seconds > 0 ? (double)done / seconds : 0;
  if (last)
    log_duration(left, sizeof left, seconds);
  else
    log_duration(left, sizeof left, rate > 0 ? (double)(p->total - done) / rate : INFINITY);
  snprintf(speed, sizeof speed, rate < 100 ? "%.3g" : "%.0f", rate);
  snprintf(line, sizeof line, "%s %lld/%lld %s (%s %s/s, %s %s)", p->what, done, p->total, p->unit, speed, p->unit,
           last ? "took" : "ETA", left);
  if (terminal) {
    redraw(line);
  } else {
    fprintf(stderr, "%s\n", line);
    fflush(stderr);
  }
}

void progress_show(Progress *p, long long done) {
  activity_tick();
  if (my_rank != 0) return;
  bool terminal = on_terminal();
  double now = clock_now();
  if (now - p->shown < (terminal ? REDRAW : NEXT_LINE)) return;
  p->shown = now;
  show(p, done, now, terminal, false);
}

void progress_end(Progress *p, long long done) {
  if (my_rank != 0 || p->shown <= p->start) return; /* a short loop that never spoke stays silent */
  bool terminal = on_terminal();
  show(p, done, clock_now(), terminal, true);
  if (terminal) fputc('\n', stderr);
  drawn = false;
}

void progress_live(Progress *p, long long done, long long work, const char *note, ...) {
  char left[64], text[128], line[256];
  if (my_rank != 0 || !on_terminal()) return;
  double now = clock_now(), seconds = now - p->start;
  if (p->from < 0) {
    p->from = done, p->work = work, p->start = now;
    return;
  }
  if (now - p->shown < REDRAW || done <= p->from) return;
  p->shown = now;
  va_list args;
  va_start(args, note);
  vsnprintf(text, sizeof text, note, args);
  va_end(args);
  log_duration(left, sizeof left, seconds / (double)(done - p->from) * (double)(p->total - done));
  snprintf(line, sizeof line, "%s %lld/%lld  %s  %.0f %s/s  eta %s", p->what, done, p->total, text,
           (double)(work - p->work) / seconds, p->unit, left);
  redraw(line);
}
