/* law_importance — the time at which log(1 − e^−σ) = low + slope·t: its density is proportional to the weight of −log p
 * in the bound, which is then the constant `slope`. The ends are those of the schedule, whatever τ is.
 * Source: arXiv:2406.07524 App. C.1. */
#include "base/err.h"
#include "base/menu.h"
#include "diffusion/law.h"
#include <math.h>

static int importance_begin(Law *law) {
  char fit[MENU_TEXT] = "";
  for (int i = 0; schedules[i]; i++)
    if (schedules[i]->invertible_weight) menu_add(fit, schedules[i]->name);
  CHECK(law->schedule->table->invertible_weight, ERR_USAGE,
        "diffusion.time = importance is for diffusion.schedule = %s, not %s", fit, law->schedule->table->name);
  return OK;
}

static double importance_time(const Law *law, double t) {
  double low, slope;
  schedule_span(law->schedule, &low, &slope);
  return schedule_time(law->schedule, -log1p(-exp(low + t * slope)));
}

static double importance_density(const Law *law, double time) {
  double low, slope;
  schedule_span(law->schedule, &low, &slope);
  return schedule_weight(law->schedule, time) / slope;
}

extern const LawTable law_importance;
const LawTable law_importance = {
    .name = "importance", .begin = importance_begin, .time = importance_time, .density = importance_density};
