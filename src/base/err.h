/* err — error handling: functions return a code; message and trace are kept until err_clear.
 *
 * Every fallible function returns int; OK is 0. CHECK is for the user's mistake and says what to change,
 * ASSERT is for ours. Message and trace are per thread. */
#pragma once
#ifdef __cplusplus
extern "C" {
#endif

enum {
  OK = 0,
  ERR_USAGE = 2,      /* command line, deck: what the user asked for does not make sense          */
  ERR_DATA = 3,       /* a file is missing, unreadable, damaged or does not fit the model          */
  ERR_IO = 4,         /* a file could not be written                                               */
  ERR_SHAPE = 5,      /* tensor shapes disagree                                                    */
  ERR_MEMORY = 6,     /* out of host or device memory                                              */
  ERR_DEVICE = 7,     /* a device library failed                                                   */
  ERR_COMM = 8,       /* MPI or NCCL failed                                                        */
  ERR_NUMERIC = 9,    /* NaN or infinity in a result                                               */
  ERR_BUSY = 10,      /* another job holds the run directory or writes the output                 */
  ERR_ELSEWHERE = 11, /* another rank failed and reports it; this one prints nothing              */
  ERR_STOPPED = 12    /* a stop was asked for: no failure; it does not leave measure/items.c      */
};
enum { EXIT_REQUEUE = 75 }; /* stopped by a signal or a STOP file, state saved: submit again (EX_TEMPFAIL) */

/** err_raise — record a formatted message with its place and return code. Control characters in it become spaces. */
int err_raise(int code, const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/** err_trace — add one frame to the trace of the current error and return code. */
int err_trace(int code, const char *file, int line, const char *call);
/** err_message — the message of the current error, "" if none. */
const char *err_message(void);
/** err_backtrace — the frames of the current error, one per line, innermost first, "" if none. */
const char *err_backtrace(void);
/** err_clear — forget the current error. */
void err_clear(void);
/** err_agreed / err_set_agreed — whether all ranks know of the error and return together, without MPI_Abort. */
int err_agreed(void);
void err_set_agreed(int agreed);
/** err_assert — report a violated invariant with its place and abort the process. */
void err_assert(const char *file, int line, const char *what) __attribute__((noreturn));

#define TRY(call)                                                                                                      \
  do {                                                                                                                 \
    int e_ = (call);                                                                                                   \
    if (e_ != OK) return err_trace(e_, __FILE__, __LINE__, #call);                                                     \
  } while (0)
/* The same inside a function that holds something: sets `err` and jumps to the clean-up label. */
#define TRY_TO(label, call)                                                                                            \
  do {                                                                                                                 \
    err = (call);                                                                                                      \
    if (err != OK) {                                                                                                   \
      err_trace(err, __FILE__, __LINE__, #call);                                                                       \
      goto label;                                                                                                      \
    }                                                                                                                  \
  } while (0)
#define RAISE(code, ...) err_raise((code), __FILE__, __LINE__, __VA_ARGS__)
#define CHECK(cond, code, ...)                                                                                         \
  do {                                                                                                                 \
    if (!(cond)) return err_raise((code), __FILE__, __LINE__, __VA_ARGS__);                                            \
  } while (0)
#define ASSERT(cond) ((cond) ? (void)0 : err_assert(__FILE__, __LINE__, #cond))

#ifdef __cplusplus
}
#endif
