#include "diffusion/law.h"
#include "base/err.h"
#include "base/menu.h"
#include <math.h>

int law_create(Law *law, const LawOptions *options, const Schedule *schedule, double tau) {
  const LawTable *table = laws[0];
  if (options->name) MENU_FIND(table, laws, options->name);
  CHECK(table, ERR_USAGE, "diffusion.time = %s: no such distribution of times", options->name);
  *law = (Law){.table = table, .options = *options, .schedule = schedule, .tau = tau, .low = tau, .high = 1};
  law->options.name = table->name;
  char fit[MENU_TEXT];
  CHECK(!options->search || table->clips, ERR_USAGE,
        "diffusion.clip_search looks for the ends of the times, which diffusion.time = %s does not have; it is for "
        "diffusion.time = %s",
        table->name, law_clips(fit));
  if (table->clips) law_narrow(law, options->clip_low, options->clip_high);
  return table->begin ? table->begin(law) : OK;
}

void law_narrow(Law *law, double low, double high) {
  ASSERT(law->table->clips);
  law->low = fmax(low, law->tau), law->high = high;
}

const char *law_clips(char text[MENU_TEXT]) {
  *text = '\0';
  for (int i = 0; laws[i]; i++)
    if (laws[i]->clips) menu_add(text, laws[i]->name);
  return text;
}

double law_time(const Law *law, double t) { return law->table->time(law, t); }
double law_density(const Law *law, double time) { return law->table->density(law, time); }

/* Newton's steps, with the middle of the bracket where a step leaves it or gains less than half of it. */
double law_invert(const Law *law, LawFunction F, LawFunction dF, double t) {
  enum { STEPS = 100 };
  double low = law->tau, high = 1, least = F(law, low), u = (t - law->tau) / (1 - law->tau);
  double goal = least + (F(law, 1) - least) * u, x = t;
  for (int i = 0; i < STEPS && high - low > 1e-15 * high; i++) {
    double off = F(law, x) - goal, next = x - off / dF(law, x), width = high - low;
    if (off > 0)
      high = x;
    else
      low = x;
    if (off == 0) break;
    bool inside = next > low && next < high && 2 * fabs(next - x) < width;
    if (inside && fabs(next - x) <= 1e-16 * x) break;
    x = inside ? next : low + (high - low) / 2;
  }
  return x;
}

int law_check(const Law *law, LawFunction F, const char *keys) {
  const double least = 1e-6;
  double mass = F(law, 1) - F(law, law->tau);
  CHECK(mass > least, ERR_USAGE,
        "diffusion.time = %s: with %s only %.2g of the distribution lies between diffusion.sampling_eps = %g and 1",
        law->table->name, keys, mass, law->tau);
  return OK;
}

double law_cut(const Law *law, LawFunction F, LawFunction dF, double time) {
  return dF(law, time) * (1 - law->tau) / (F(law, 1) - F(law, law->tau));
}
