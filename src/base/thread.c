#include "base/thread.h"
#include "base/err.h"
#include <signal.h>
#include <string.h>

int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg, const char *what) {
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int failure = pthread_create(thread, NULL, run, arg);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  CHECK(failure == 0, ERR_MEMORY, "cannot start the %s thread: %s", what, strerror(failure));
  return OK;
}
