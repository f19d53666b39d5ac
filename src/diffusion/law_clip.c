/* law_clip — uniform between two times: the nearly clean and the nearly empty ends, where a batch learns little, are
 * left out. Source: arXiv:2503.09573 §5. */
#include "base/err.h"
#include "diffusion/law.h"
#include <math.h>

static double least(const Law *law) { return fmax(law->options.clip_low, law->tau); }

static int clip_check(const Law *law) {
  CHECK(least(law) < law->options.clip_high, ERR_USAGE,
        "diffusion.time = clip: diffusion.clip_low = %g (at least diffusion.sampling_eps = %g) is not below "
        "diffusion.clip_high = %g",
        law->options.clip_low, law->tau, law->options.clip_high);
  return OK;
}

static double clip_time(const Law *law, double t) {
  double low = least(law);
  return low + (law->options.clip_high - low) * (t - law->tau) / (1 - law->tau);
}

static double clip_density(const Law *law, double time) {
  (void)time;
  return (1 - law->tau) / (law->options.clip_high - least(law));
}

extern const LawTable law_clip;
const LawTable law_clip = {
    .name = "clip", .partial = true, .check = clip_check, .time = clip_time, .density = clip_density};
