/* mdlm mix OUT.h5 … — a checkpoint made of others: a weighted sum, a mean, a power-law average. */
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "cmd/mix_sources.h"
#include "network/posthoc.h"
#include "store/ancestry.h"
#include "store/lock.h"
#include <math.h>
#include <string.h>
#include <sys/stat.h>

static bool is_mixture(const char *path) {
  H5 *f = NULL;
  bool is = checkpoint_open(&f, path) == OK && ancestry_there(f);
  h5_close(&f);
  err_clear();
  return is;
}

/* A checkpoint that was trained is never replaced: the first word of the command line is easily forgotten. */
static int claim(char out[FILES_PATH], const MixSources *s) {
  struct stat st;
  TRY(files_claim(out));
  for (int i = 0; i < s->n; i++)
    CHECK(!files_same(out, s->list[i].path), ERR_USAGE, "%s is both read and written: choose another output", out);
  CHECK(stat(out, &st) != 0 || st.st_size == 0 || is_mixture(out), ERR_USAGE,
        "%s exists and is not a checkpoint made by mdlm mix: choose another output, or remove it", out);
  return OK;
}

/* Traces of the checkpoints, for the average of that width. */
static int average_of(const MixSources *s, MixPart **parts, int *n) {
  const double POOR = 0.05;
  Posthoc o = {.sigma = s->sigma, .step = s->step};
  const char **paths;
  TRY(mem_alloc(&paths, (size_t)s->n * sizeof *paths));
  for (int i = 0; i < s->n; i++) paths[i] = s->list[i].path;
  int err = posthoc_parts(&o, paths, s->n, parts, n);
  mem_free(&paths);
  TRY(err);
  log_info("average of relative width %g at step %lld of %d traces: its profile is met to %.2g %%", s->sigma,
           (long long)o.step, *n, 100 * o.distance);
  if (o.distance > POOR)
    log_warn(
        "the profile is met to %.0f %% only: keep more checkpoints (train.keep_every), or choose a sigma nearer to "
        "those of train.ema_traces",
        100 * o.distance);
  return OK;
}

static int parts_of(const MixSources *s, MixPart **parts, int *n) {
  if (s->sigma > 0) return average_of(s, parts, n);
  TRY(mem_alloc(parts, (size_t)s->n * sizeof **parts));
  *n = s->n;
  for (int i = 0; i < s->n; i++)
    (*parts)[i] = (MixPart){.path = s->list[i].path,
                            .group = strcmp(s->weights, "live") == 0 ? CKPT_PARAMS : CKPT_EMA,
                            .weight = s->list[i].weighted ? s->list[i].weight : 1.0 / s->n};
  return OK;
}

static void warn_sum(const MixPart *parts, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += parts[i].weight;
  if (fabs(sum - 1) > 1e-9) log_warn("the weights add up to %.10g, not to 1", sum);
}

static int write_all(const char *out, const MixSources *s) {
  MixPart *parts;
  int64_t step;
  int n = 0;
  TRY(parts_of(s, &parts, &n));
  warn_sum(parts, n);
  int err = mix_write(out, parts, n, &step);
  if (err == OK) log_info("%s: the weighted sum of %d parents, at step %lld", out, n, (long long)step);
  mem_free(&parts);
  return err;
}

static int mix_words(int argc, char **argv) {
  MixSources s;
  char out[FILES_PATH];
  Lock lock = {0};
  CHECK(argc >= 2, ERR_USAGE, "usage: mdlm mix OUT.h5 FILE[=WEIGHT]…; `mdlm mix --help` tells more");
  TRY(files_path(out, NULL, argv[0]));
  TRY(mix_sources_read(&s, argc - 1, argv + 1));
  int err = claim(out, &s);
  if (err == OK) err = lock_take(&lock, out);
  if (err == OK) err = write_all(out, &s);
  lock_release(&lock, out);
  mix_sources_destroy(&s);
  return err;
}

static int mix(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)cfg, (void)exit_code;
  return comm_agree(comm, comm->rank == 0 ? mix_words(argc, argv) : OK);
}

extern const Command command_mix;
const Command command_mix = {
    .name = "mix",
    .arguments = "OUT.h5 {FILE[=WEIGHT] | DIR}… [key=value…]",
    .purpose = "a checkpoint with a weighted sum or mean of the weights of others",
    .run = mix,
    .about =
        "Writes a checkpoint whose weights are the sum of WEIGHT times the weights of each FILE, in double, rounded "
        "once; without weights, their mean. Every command takes it; its weights and its moving average are the same. "
        "DIR stands for the numbered checkpoints of a run (train.keep_every): last=K for the K last of them, "
        "step=N for those up to step N. weights=ema takes the moving average of each checkpoint, the default, "
        "weights=live the weights of its last step. "
        "sigma=S makes the power-law average of relative width S, at step N or the last one, of those that "
        "train.ema_traces has kept in numbered checkpoints and last.h5: any length of averaging after training "
        "(post-hoc EMA). Networks, vocabularies and lengths must be the same. "
        "Parameters are read and written one by one, so files may be larger than the memory. The result keeps the "
        "path, digest and weight of each parent, which mdlm info shows.",
    .reads = "the checkpoints",
    .writes = "OUT.h5, a checkpoint; never over one that was trained",
    .example = "mdlm mix half.h5 runs/a/best.h5=0.5 runs/b/best.h5=0.5"};
