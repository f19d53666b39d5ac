#include "sampling/walk.h"
#include "base/err.h"
#include "sampling/draws.h"

int walk_run(SamplerJob *job, Walk how) {
  Draws d;
  int err = OK;
  bool all = how.keep != KEEP_NEVER || job->draw.f32, changed = true;
  TRY_TO(done, draws_create(&d, job->n * job->length));
  for (int64_t i = 0; i < job->steps; i++) {
    double chance = job_chance(job, i);
    if (all)
      draws_masked(&d, job, i, chance, how.keep);
    else
      draws_chosen(&d, job, i, chance);
    if (how.every_step || (changed && d.n > 0))
      TRY_TO(done, draws_evaluate(job, &d, job->z, job->n, job_time(i, job->steps)));
    TRY_TO(done, draws_fill(job, &d, job->z, false, d.n > 0 ? &changed : NULL));
    if (job->progress) TRY_TO(done, job->progress(job->progress_arg, i + 1));
  }
  TRY_TO(done, draws_finish(job, &d, !how.draw_last));
done:
  draws_destroy(&d);
  return err;
}
