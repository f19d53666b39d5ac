/* schedules — the menu: a table for each word of keys.def. */
#include "base/keys.def"
#include "diffusion/schedule.h"

#define ROW(word) extern const ScheduleTable schedule_##word;
SCHEDULES(ROW)
#undef ROW
#define ROW(word) &schedule_##word,
const ScheduleTable *const schedules[] = {SCHEDULES(ROW) NULL};
