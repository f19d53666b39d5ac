/* law_clip — uniform between two times: the nearly clean and the nearly empty ends, where a batch learns little, are
 * left out. Source: arXiv:2503.09573 §5. */
#include "base/err.h"
#include "diffusion/law.h"

static int clip_begin(Law *law) {
  CHECK(law->low < law->high, ERR_USAGE,
        "diffusion.time = clip: diffusion.clip_low = %g (at least diffusion.sampling_eps = %g) is not below "
        "diffusion.clip_high = %g",
        law->options.clip_low, law->tau, law->options.clip_high);
  return OK;
}

static double clip_time(const Law *law, double t) {
  return law->low + (law->high - law->low) * (t - law->tau) / (1 - law->tau);
}

static double clip_density(const Law *law, double time) {
  (void)time;
  return (1 - law->tau) / (law->high - law->low);
}

extern const LawTable law_clip;
const LawTable law_clip = {
    .name = "clip", .partial = true, .clips = true, .begin = clip_begin, .time = clip_time, .density = clip_density};
