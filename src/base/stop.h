/* stop — ending a run politely: SIGTERM, SIGUSR1, or a file named STOP in the run directory.
 *
 * The signals are blocked and asked for between steps. A handler would run on the stack of whatever code it interrupts,
 * and code that libraries generate at run time need not keep the room below its stack pointer that a handler assumes.
 */
#pragma once

enum { STOP_FILE = 1000 };

/** stop_block — from now on the signals wait to be asked for. Before any thread is started: threads inherit it. */
void stop_block(void);
/** stop_requested — what asks for an end: a signal's number, STOP_FILE if `dir`/STOP exists (dir NULL: signals only),
 * or 0. A signal once asked for stays requested. Not collective. */
int stop_requested(const char *dir);
/** stop_name — that in words: "SIGUSR1", "the file STOP". */
const char *stop_name(int request);
