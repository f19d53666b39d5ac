/* log — what a person reads while the program runs. Rank 0 speaks; errors are printed by the rank that has them. */
#pragma once
#include <stdio.h>
#ifdef __cplusplus
extern "C" {
#endif

/** log_init — rank and number of ranks of this process (0, 1 before the call). Not collective. */
void log_init(int rank, int size);
/** log_info — one line on stdout, rank 0 only. */
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** log_text — a text of any length and a newline on stdout, rank 0 only; not 0 if that fails. */
int log_text(const char *text);
/** log_warn — one line on stderr, headed "warning:", rank 0 only. */
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** log_error — one line on stderr, headed "mdlm: error" and, with several ranks, the rank; any rank. */
void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Progress — a long loop's one line: redrawn on a terminal, a plain line now and then elsewhere. Rank 0 only. */
typedef struct Progress {
  const char *what; /* not owned */
  const char *unit; /* not owned */
  double start, shown;
  long long total;
} Progress;
/** progress_start — begin a line "what done/total unit (rate unit/s, ETA h:mm:ss)"; nothing is printed yet. */
void progress_start(Progress *p, const char *what, const char *unit, long long total);
/** progress_show — show the state when it is due (0.2 s on a terminal, 10 s elsewhere). */
void progress_show(Progress *p, long long done);
/** progress_end — end the line. */
void progress_end(Progress *p, long long done);
/** log_duration — seconds as "1d 02:03:04", "2:03:04" or "3:04" into buf, which is returned. */
const char *log_duration(char *buf, size_t n, double seconds);

#ifdef __cplusplus
}
#endif
