/* err — one message and one trace per thread, in fixed buffers: reporting an error must not allocate. */
#include "base/err.h"

#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char message[2048], trace[4096];
static _Thread_local int agreed;

static void add_frame(const char *file, int line, const char *what) {
  size_t used = strlen(trace), room = sizeof trace - used;
  int n = snprintf(trace + used, room, "  %s:%d: %s\n", file, line, what);
  if (n < 0 || (size_t)n >= room) trace[used] = '\0'; /* no partial frames */
}

int err_raise(int code, const char *file, int line, const char *fmt, ...) {
  char text[sizeof message]; /* an argument may be err_message() itself */
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  for (char *p = text; *p; p++)
    if ((unsigned char)*p < ' ' || *p == '\x7f') *p = ' '; /* one line, whatever a file or an argument holds */
  memcpy(message, text, sizeof text);
  trace[0] = '\0';
  agreed = 0; /* a new error is this rank's alone until comm_agree says otherwise */
  add_frame(file, line, "raised here");
  return code;
}

int err_trace(int code, const char *file, int line, const char *call) {
  add_frame(file, line, call);
  return code;
}

const char *err_message(void) { return message; }
const char *err_backtrace(void) { return trace; }

void err_clear(void) {
  message[0] = trace[0] = '\0';
  agreed = 0;
}

int err_agreed(void) { return agreed; }
void err_set_agreed(int value) { agreed = value; }

_Noreturn void err_assert(const char *file, int line, const char *what) {
  log_error("%s:%d: a bug in mdlm: (%s) does not hold", file, line, what);
  abort();
}
