/* log — messages to the user. Rank 0 prints them; an error is printed by the rank where it occurred. */
#pragma once
#include <stdbool.h>
#include <stdio.h>
#ifdef __cplusplus
extern "C" {
#endif

/** log_init — rank and number of ranks of this process (0, 1 before the call). Not collective. */
void log_init(int rank, int size);
/** log_info — one line on stdout, rank 0 only. */
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** log_text — a text of any length and a newline on stdout, rank 0 only; 0, or -1 if writing failed. What goes to a
 *  closed pipe is dropped, which is not a failure. */
int log_text(const char *text);
/** log_lost — errno of the first write to stdout that failed, 0 if none did. */
int log_lost(void);
/** log_warn — one line on stderr, headed "warning:", rank 0 only. */
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** log_error — one line on stderr, headed "mdlm: error" and, with several ranks, the rank; any rank. */
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/** log_urgent — an error or a warning, as log_error and log_warn print it, but by any rank, and without the locks of
 * stdio, which a thread that hangs may hold. */
void log_urgent(bool error, const char *text);

/** log_columns — width of the stream's terminal, 0 if it is not a terminal or the width is unknown. */
int log_columns(FILE *stream);

/* Progress — how far a long loop is: one line on stderr, redrawn in place on a terminal. Rank 0 only. A loop shows
 * either its progress alone or, on a terminal only, a live line between the lines that it logs:
 *
 *   progress_start, progress_show …, progress_end    "what done/total unit (rate unit/s, ETA h:mm:ss)"
 *   progress_start, progress_live …                  "what done/total  NOTE  rate unit/s  eta h:mm:ss" */
typedef struct Progress {
  const char *what; /* not owned */
  const char *unit; /* not owned */
  double start, shown;
  long long total;
  long long from, work; /* done, and work done, at the first progress_live; from = -1: before that */
} Progress;
/** progress_start — begin; nothing is printed yet. */
void progress_start(Progress *p, const char *what, const char *unit, long long total);
/** progress_show — show the state when it is due: every 0.2 s on a terminal, a line every 10 s elsewhere. */
void progress_show(Progress *p, long long done);
/** progress_end — end the line. */
void progress_end(Progress *p, long long done);
/** progress_live — draw the live line when it is due, every 0.2 s; nothing where stderr is not a terminal. The next
 * line of the log replaces it. `done` counts towards total, `work` is in units; the first call only starts the clock,
 * so that steps before a resume and a slow first step do not count in the rate. */
void progress_live(Progress *p, long long done, long long work, const char *note, ...)
    __attribute__((format(printf, 4, 5)));
/** log_duration — seconds as "1d 02:03:04", "2:03:04" or "3:04" into buf, which is returned. */
const char *log_duration(char *buf, size_t n, double seconds);

#ifdef __cplusplus
}
#endif
