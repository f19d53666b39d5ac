#include "base/stop.h"
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static int seen;

static sigset_t stop_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGUSR1);
  return set;
}

void stop_block(void) {
  sigset_t set = stop_signals();
  sigprocmask(SIG_BLOCK, &set, NULL);
}

int stop_requested(const char *dir) {
  const sigset_t set = stop_signals();
  const struct timespec now = {0, 0};
  char path[480];
  int number = sigtimedwait(&set, NULL, &now);
  if (number > 0) seen = number;
  if (seen || dir == NULL) return seen;
  snprintf(path, sizeof path, "%s/STOP", dir);
  return access(path, F_OK) == 0 ? STOP_FILE : 0;
}

const char *stop_name(int request) {
  if (request == STOP_FILE) return "the file STOP";
  return request == SIGUSR1 ? "SIGUSR1" : "SIGTERM";
}
