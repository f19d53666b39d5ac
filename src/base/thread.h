/* thread — threads beside the main one. */
#pragma once
#include <pthread.h>

/** thread_start — run(arg) in a new thread with all signals blocked: handlers run in the main thread only. `what` names
 *  it in the error.
 *  Errors  ERR_MEMORY: the system gives no thread */
int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg, const char *what);
