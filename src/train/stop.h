/* stop — ending a run politely: SIGTERM, SIGUSR1, SIGINT, or a file named STOP in the run directory. */
#pragma once
#include <stdbool.h>

/** stop_install — catch the signals from now on; each only sets a flag. A second SIGINT ends the process at once. */
void stop_install(void);
/** stop_requested — whether a signal has come or `dir`/STOP exists (dir NULL: signals only). Not collective. */
bool stop_requested(const char *dir);
/** stop_reason — what asked for it, for the log: "SIGUSR1", "the file runs/x/STOP"; "" if nothing did. */
const char *stop_reason(void);
