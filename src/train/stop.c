#include "train/stop.h"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static volatile sig_atomic_t caught;

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

int stop_requested(const char *dir) {
  char path[480];
  if (caught || dir == NULL) return caught;
  snprintf(path, sizeof path, "%s/STOP", dir);
  return access(path, F_OK) == 0 ? STOP_FILE : 0;
}

const char *stop_name(int request) {
  if (request == STOP_FILE) return "the file STOP";
  return request == SIGUSR1 ? "SIGUSR1" : request == SIGINT ? "SIGINT" : "SIGTERM";
}
