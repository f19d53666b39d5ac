/* sampler_remask — the reverse process with remasking (remasking.h).
 *
 * sample.remask says how the σ of a step follows from η = sample.remask_eta: cap, rescale as there, or
 *
 *   confidence  σ = η σmax · softmax(−c) at the visible positions of a sequence, c the p(x0 | z) that the network gave
 *               the token when it was drawn: less than one token a step, most likely an improbable one. Fixed tokens
 *               are not counted in the softmax.
 *
 * Source: arXiv:2503.00307 §4.1; η = 1 with confidence is the variant of its experiments. */
#include "base/err.h"
#include "base/mem.h"
#include "sampling/remasking.h"
#include "sampling/sampler.h"
#include <string.h>

typedef enum RemaskKind { CAP, RESCALE, CONFIDENCE } RemaskKind;
static const char *const kinds[] = {[CAP] = "cap", [RESCALE] = "rescale", [CONFIDENCE] = "confidence"};

typedef struct RemaskOptions { /* sample.remask, sample.remask_eta */
  RemaskKind kind;
  Remask remask;
} RemaskOptions;

static int remask_create(void **own, const SamplerOptions *x) {
  const char *word = x->cfg->sample_remask;
  int kind = 0, count = sizeof kinds / sizeof *kinds;
  while (kind < count && strcmp(kinds[kind], word) != 0) kind++;
  CHECK(kind < count, ERR_USAGE, "sample.remask = %s: must be cap, rescale or confidence", word);
  TRY(mem_alloc(own, sizeof(RemaskOptions)));
  RemaskOptions *o = *own;
  *o = (RemaskOptions){.kind = (RemaskKind)kind, .remask = remasking_options(x->cfg, word)};
  o->remask.rescale |= kind == CONFIDENCE; /* its sigma before it is divided */
  return OK;
}

static void remask_destroy(void **own) { mem_free(own); }

static double sigma_of(const void *own, double now, double next) {
  return remasking_sigma(&((const RemaskOptions *)own)->remask, now, next);
}

static int remask_run(SamplerJob *job, const void *own) {
  const RemaskOptions *o = own;
  return remasking_run(
      job, &(Remasking){.sigma = sigma_of, .own = own, .remask = &o->remask, .by_confidence = o->kind == CONFIDENCE});
}

extern const SamplerTable sampler_remask;
const SamplerTable sampler_remask = {
    .name = "remask", .takes = TAKES(GIVES_X0), .create = remask_create, .destroy = remask_destroy, .run = remask_run};
