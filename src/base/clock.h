/* clock — time. */
#pragma once
#ifdef __cplusplus
extern "C" {
#endif

/** clock_now — seconds on a monotonic clock. */
double clock_now(void);
/** clock_stamp — local date and time as "2024-12-31T23:59:59+0100" in a static buffer of this thread. */
const char *clock_stamp(void);

#ifdef __cplusplus
}
#endif
