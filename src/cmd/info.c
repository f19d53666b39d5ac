/* mdlm info FILE… — what one of our HDF5 files is, and whether it is whole. */
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "store/checkpoint.h"
#include "store/h5.h"
#include "store/shards.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static int info_data(const char *path) {
  Shards *s = NULL;
  TRY(shards_open(&s, path));
  const Vocab *v = shards_vocab(s);
  const Protocol *p = shards_protocol(s);
  log_info("%s: tokenized data, %lld rows of %lld tokens", path, (long long)shards_rows(s),
           (long long)shards_length(s));
  log_info("  tokenizer %s (%s), V = %lld, mask %d, bos %d, eos %d, pad %d", v->tokenizer, v->hash, (long long)v->size,
           v->mask, v->bos, v->eos, v->pad);
  log_info("  source %s, split %s, %s, detokenizer %s", p->source, p->split, p->wrap ? "wrapped" : "one document a row",
           p->detokenizer);
  log_info("  digest %s", p->digest);
  int err = shards_verify(s, NULL, NULL);
  shards_close(&s);
  if (err == OK) log_info("  whole: ids, lengths and digest agree");
  return err;
}

/* "[3072,768]" in buf, which is returned. */
static const char *shape_text(const H5Info *info, char buf[96]) {
  int n = snprintf(buf, 96, "[");
  for (int i = 0; i < info->rank; i++)
    n += snprintf(buf + n, 96 - (size_t)n, "%s%lld", i ? "," : "", (long long)info->dims[i]);
  snprintf(buf + n, 96 - (size_t)n, "]");
  return buf;
}

static int info_norms(H5 *f, const char *group) {
  char **names = NULL;
  double total = 0;
  int64_t elements = 0, tensors = 0;
  if (!h5_exists(f, group)) return OK;
  TRY(h5_list(f, group, &names));
  int err = OK;
  for (int i = 0; names[i] && err == OK; i++) {
    char path[256], shape[96];
    H5Info info;
    float *x = NULL;
    snprintf(path, sizeof path, "%s/%s", group, names[i]);
    err = h5_info(f, path, &info);
    if (err) break;
    int64_t n = 1;
    for (int d = 0; d < info.rank; d++) n *= info.dims[d];
    err = mem_alloc(&x, (size_t)n * sizeof *x);
    if (err == OK) err = h5_read(f, path, H5_F32, info.rank, info.dims, x);
    double square = 0;
    for (int64_t k = 0; k < n && err == OK; k++) square += (double)x[k] * (double)x[k];
    mem_free(&x);
    if (err == OK && strcmp(group, "/params") == 0)
      log_info("  %-52s %-14s norm %.6g", names[i], shape_text(&info, shape), sqrt(square));
    total += square;
    elements += n;
    tensors++;
  }
  if (err == OK)
    log_info("  %-10s %lld tensors, %lld values, norm %.8g", group, (long long)tensors, (long long)elements,
             sqrt(total));
  h5_list_free(&names);
  return err;
}

static int info_checkpoint(const char *path) {
  CheckpointState s = {0};
  static const char *const groups[] = {"/params", "/ema", "/adam_m", "/adam_v"};
  TRY(checkpoint_state(path, &s));
  log_info("%s: checkpoint at step %lld, %lld tokens, %lld masked tokens, seed %lld", path, (long long)s.step,
           (long long)s.tokens, (long long)s.masked_tokens, (long long)s.seed);
  if (!isnan(s.valid_nll)) log_info("  best validation nll %.5f, ppl %.4f", s.valid_nll, exp(s.valid_nll));
  log_info("  git %s, data %s (%s, %s), V = %lld (%s)", s.git, s.data_digest, s.protocol.source,
           s.protocol.wrap ? "wrapped" : "one document a row", (long long)s.vocab.size, s.vocab.tokenizer);
  H5 *f = NULL;
  int err = h5_open(&f, path, false);
  for (int i = 0; i < 4 && err == OK; i++) err = info_norms(f, groups[i]);
  if (err == OK) {
    log_info("  deck:");
    log_text(s.deck);
  }
  h5_close(&f);
  checkpoint_state_destroy(&s);
  if (err == OK) err = checkpoint_verify(path);
  if (err == OK) log_info("  whole: every checksum agrees");
  return err;
}

/* Read every value, so that every checksum on the way is checked. */
static int read_all(H5 *f, const char *name, const H5Info *info) {
  double *values = NULL;
  char **text = NULL;
  size_t n = 1;
  if (info->type == H5_TEXT) {
    TRY(h5_read_text(f, name, info->rank == 1 ? info->dims[0] : -1, &text));
    return h5_list_free(&text), OK;
  }
  for (int i = 0; i < info->rank; i++) n *= (size_t)info->dims[i];
  TRY(mem_alloc(&values, n * sizeof *values));
  int err = n ? h5_read(f, name, H5_F64, info->rank, info->dims, values) : OK;
  mem_free(&values);
  return err;
}

static int info_series(H5 *f, const char *group, const char *name) {
  char *unit = NULL, *description = NULL, full[256];
  H5Info info;
  snprintf(full, sizeof full, "%s/%s", strcmp(group, "/") == 0 ? "" : group, name);
  TRY(h5_info(f, full, &info));
  TRY(read_all(f, full, &info));
  if (h5_has(f, full, "unit")) TRY(h5_get_str(f, full, "unit", &unit));
  if (h5_has(f, full, "description")) TRY(h5_get_str(f, full, "description", &description));
  log_info("  %-24s %lld values  %-9s %s", full, (long long)info.dims[0], unit ? unit : "",
           description ? description : "");
  mem_free(&unit);
  mem_free(&description);
  return OK;
}

static int info_group(H5 *f, const char *group) {
  char **names = NULL;
  TRY(h5_list(f, group, &names));
  int err = OK;
  for (int i = 0; names[i] && err == OK; i++) err = info_series(f, group, names[i]);
  h5_list_free(&names);
  return err;
}

/* Metrics, evaluations and samples: attributes and series. */
static int info_other(const char *path, const char *format) {
  static const char *const words[] = {"checkpoint", "checkpoint_digest", "weights", "estimator", "sampler",
                                      "prompt",     "tokenizer",         "source",  "data",      "data_digest",
                                      "git",        "created",           "started", NULL};
  static const char *const numbers[] = {"step",          "draws",         "steps", "num_strides",
                                        "stride_length", "noise_removal", "seed",  "evaluations",
                                        "evaluated",     "tokens",        NULL};
  H5 *f = NULL;
  int err = OK;
  TRY(h5_open(&f, path, false));
  log_info("%s: %s", path, format);
  for (int i = 0; words[i] && err == OK; i++) {
    char *value = NULL;
    if (!h5_has(f, "/", words[i])) continue;
    err = h5_get_str(f, "/", words[i], &value);
    if (err == OK) log_info("  %s %s", words[i], value);
    mem_free(&value);
  }
  for (int i = 0; numbers[i] && err == OK; i++) {
    int64_t value = 0;
    if (!h5_has(f, "/", numbers[i])) continue;
    err = h5_get_int(f, "/", numbers[i], &value);
    if (err == OK) log_info("  %s %lld", numbers[i], (long long)value);
  }
  if (err == OK && strcmp(format, "mdlm-metrics") == 0) {
    err = info_group(f, "/train");
    if (err == OK) err = info_group(f, "/valid");
  } else if (err == OK) {
    err = info_group(f, "/");
  }
  char *deck = NULL;
  if (err == OK && h5_has(f, "/", "deck")) err = h5_get_str(f, "/", "deck", &deck);
  if (err == OK && deck) {
    log_info("  deck:");
    log_text(deck);
  }
  mem_free(&deck);
  if (err == OK) log_info("  whole: every value could be read");
  h5_close(&f);
  return err;
}

static int info_file(const char *path) {
  H5 *f = NULL;
  char *format = NULL;
  TRY(h5_open(&f, path, false));
  int err = h5_has(f, "/", "format")
                ? h5_get_str(f, "/", "format", &format)
                : RAISE(ERR_DATA, "%s: an HDF5 file, but not one of mdlm's (no attribute `format`)", path);
  h5_close(&f);
  if (err == OK && strcmp(format, "mdlm-data") == 0) {
    err = info_data(path);
  } else if (err == OK && strcmp(format, "mdlm-checkpoint") == 0) {
    err = info_checkpoint(path);
  } else if (err == OK) {
    err = info_other(path, format);
  }
  mem_free(&format);
  return err;
}

static int info(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)cfg, (void)exit_code;
  int err = argc < 1 ? RAISE(ERR_USAGE, "usage: mdlm info FILE…") : OK;
  for (int i = 0; i < argc && err == OK && comm->rank == 0; i++) err = info_file(argv[i]);
  return comm_agree(comm, err);
}

extern const Command command_info;
const Command command_info = {
    "info", "FILE…", "describe data, checkpoint, metrics, evaluation or samples; verify checksums", false, info};
