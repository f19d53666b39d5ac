/* stop — graceful stop: SIGTERM, SIGUSR1, SIGINT (Ctrl-C), SIGHUP, or, while training, a file named STOP in the run
 * directory. Once a Ctrl-C has been seen, the next one ends the process at once.
 *
 * The signals are blocked and polled between passes of the network. A handler would run on the stack of the interrupted
 * code, and code that libraries generate at run time may keep data below the stack pointer, where the handler's frame
 * would go. */
#pragma once

enum { STOP_FILE = 1000 };

/** stop_block — block the signals until stop_requested polls them. Call before any thread is started: threads inherit
 * the mask. */
void stop_block(void);
/** stop_requested — why the program should stop: a signal number, STOP_FILE if `dir`/STOP exists (dir NULL: signals only),
 * or 0. A signal stays requested once it has been seen. Not collective. */
int stop_requested(const char *dir);
/** stop_name — its name: "SIGUSR1", "the file STOP". */
const char *stop_name(int request);
