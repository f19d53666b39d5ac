/* stop — ending a run politely: SIGTERM, SIGUSR1, SIGINT, or a file named STOP in the run directory. */
#pragma once
/** stop_install — catch the signals from now on; each only sets a flag. A second SIGINT ends the process at once. */
void stop_install(void);
/** stop_requested — what asks for an end: a signal's number, STOP_FILE if `dir`/STOP exists (dir NULL: signals only), or 0.
 *  Not collective. */
int stop_requested(const char *dir);
/** stop_name — that in words: "SIGUSR1", "the file STOP". */
const char *stop_name(int request);

enum { STOP_FILE = 1000 };
