#include "base/stop.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const struct {
  int number;
  const char *name;
} signals[] = {{SIGTERM, "SIGTERM"}, {SIGUSR1, "SIGUSR1"}, {SIGINT, "SIGINT"}, {SIGHUP, "SIGHUP"}};
enum { SIGNALS = sizeof signals / sizeof *signals };

static int seen;

/* Those that the parent of this process has not told it to ignore, as nohup does. */
static sigset_t stop_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  for (int i = 0; i < SIGNALS; i++) {
    struct sigaction now;
    if (sigaction(signals[i].number, NULL, &now) == 0 && now.sa_handler != SIG_IGN) sigaddset(&set, signals[i].number);
  }
  return set;
}

void stop_block(void) {
  sigset_t set = stop_signals();
  sigprocmask(SIG_BLOCK, &set, NULL);
}

/* From now on another Ctrl-C ends the process at once. */
static void interrupt_ends(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

int stop_requested(const char *dir) {
  const sigset_t set = stop_signals();
  const struct timespec now = {0, 0};
  char path[480];
  int number = seen ? 0 : sigtimedwait(&set, NULL, &now);
  if (number > 0) seen = number;
  if (number == SIGINT) interrupt_ends();
  if (seen || dir == NULL) return seen;
  snprintf(path, sizeof path, "%s/STOP", dir);
  return access(path, F_OK) == 0 ? STOP_FILE : 0;
}

const char *stop_name(int request) {
  for (int i = 0; i < SIGNALS; i++)
    if (signals[i].number == request) return signals[i].name;
  return "the file STOP";
}
