#include "train/stop.h"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile sig_atomic_t caught;
static char reason[512];

static void on_signal(int number) {
  if (number == SIGINT && caught == SIGINT) _exit(130);
  caught = number;
}

void stop_install(void) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGINT, &action, NULL);
}

bool stop_requested(const char *dir) {
  if (caught) {
    snprintf(reason, sizeof reason, "%s", caught == SIGUSR1 ? "SIGUSR1" : caught == SIGINT ? "SIGINT" : "SIGTERM");
    return true;
  }
  if (dir == NULL) return false;
  char path[480];
  snprintf(path, sizeof path, "%s/STOP", dir);
  if (access(path, F_OK) != 0) return false;
  snprintf(reason, sizeof reason, "the file %s", path);
  return true;
}

const char *stop_reason(void) { return reason; }
