/* mdlm info [--deck] FILE… — what one of our HDF5 files is, and whether it is whole. */
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "cmd/profile_file.h"
#include "cmd/results.h"
#include "store/ancestry.h"
#include "store/checkpoint.h"
#include "store/h5.h"
#include "store/shards.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static void info_deck(const char *path) { log_info("  deck: `mdlm info --deck %s` prints it", path); }

/* "[3072,768]" in buf, which is returned. */
static const char *shape_text(const H5Info *info, char buf[96]) {
  int n = snprintf(buf, 96, "[");
  for (int i = 0; i < info->rank; i++)
    n += snprintf(buf + n, 96 - (size_t)n, "%s%lld", i ? "," : "", (long long)info->dims[i]);
  snprintf(buf + n, 96 - (size_t)n, "]");
  return buf;
}

static int info_norms(H5 *f, const char *name) {
  char **names = NULL, group[16];
  double total = 0;
  int64_t elements = 0, tensors = 0;
  snprintf(group, sizeof group, "/%s", name);
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

static int info_parents(H5 *f) {
  Parent *list;
  int64_t n;
  TRY(ancestry_load(f, &list, &n));
  if (n > 0) log_info("  made by mdlm mix of %lld parents:", (long long)n);
  for (int64_t i = 0; i < n; i++)
    log_info("    weight %-12.6g %-8s step %-8lld digest %s  %s", list[i].weight, list[i].weights,
             (long long)list[i].step, list[i].digest, list[i].path);
  mem_free(&list);
  return OK;
}

static void info_mixture(const MixtureState *m) {
  int64_t cycle = 0;
  for (int i = 0; i < m->n; i++) cycle += m->sets[i].share;
  for (int i = 0; i < m->n; i++)
    log_info("  set %s: %.4g %% of the draws, %lld sequences so far, %.3g epochs, data %s", m->sets[i].name,
             100 * (double)m->sets[i].share / (double)cycle, (long long)m->sets[i].drawn,
             (double)m->sets[i].drawn / (double)m->sets[i].rows, m->sets[i].digest);
}

static int info_checkpoint(const char *path) {
  CheckpointState s = {0};
  TRY(checkpoint_read(path, &s));
  log_info("%s: checkpoint at step %lld, %lld tokens, %lld masked tokens, seed %lld", path, (long long)s.step,
           (long long)s.tokens, (long long)s.masked_tokens, (long long)s.seed);
  if (!isnan(s.valid_nll)) log_info("  best validation nll %.5f, ppl %.4f", s.valid_nll, exp(s.valid_nll));
  log_info("  git %s, data %s (%s, %s), V = %lld (%s)", s.git, s.data_digest, s.protocol.source,
           s.protocol.wrap ? "wrapped" : "one document a row", (long long)s.vocab.size, s.vocab.tokenizer);
  info_mixture(&s.mixture);
  if (*s.init_digest) log_info("  began with weights of digest %s (run.init in its deck)", s.init_digest);
  for (int i = 0; i < CKPT_TRACES; i++)
    if (s.trace_sigma[i] > 0)
      log_info("  /%s is the power-law average of relative width %g", checkpoint_groups[CKPT_TRACE + i],
               s.trace_sigma[i]);
  H5 *f = NULL;
  int err = h5_open(&f, path, false);
  if (err == OK) err = info_parents(f);
  for (int g = 0; g < CKPT_GROUPS && err == OK; g++) err = info_norms(f, checkpoint_groups[g]);
  if (err == OK) info_deck(path);
  h5_close(&f);
  checkpoint_state_destroy(&s);
  if (err == OK) err = checkpoint_verify(path);
  if (err == OK) log_info("  whole: every checksum agrees");
  return err;
}

/* Read every value, which verifies the checksums. *last: the last value, NaN for text or an empty data set. */
static int read_all(H5 *f, const char *name, const H5Info *info, double *last) {
  double *values = NULL;
  char **text = NULL;
  size_t n = 1;
  *last = NAN;
  if (info->type == H5_TEXT) {
    TRY(h5_read_text(f, name, info->rank == 1 ? info->dims[0] : -1, &text));
    return h5_list_free(&text), OK;
  }
  for (int i = 0; i < info->rank; i++) n *= (size_t)info->dims[i];
  TRY(mem_alloc(&values, n * sizeof *values));
  int err = n ? h5_read(f, name, H5_F64, info->rank, info->dims, values) : OK;
  if (n) *last = values[n - 1];
  mem_free(&values);
  return err;
}

/* The series of a table have the same length: *rows, unless that is −1. Those of metrics are numbers. */
static int info_series(H5 *f, const char *group, const char *name, bool numbers, int64_t *rows) {
  char *unit = NULL, *description = NULL, full[256], end[64] = "";
  double last;
  H5Info info;
  bool top = strcmp(group, "/") == 0;
  snprintf(full, sizeof full, "%s/%s", top ? "" : group, name);
  TRY(h5_info(f, full, &info));
  if (!top) {
    CHECK(info.rank == 1 && (!numbers || info.type != H5_TEXT), ERR_DATA, "%s: %s is not a series%s", h5_path(f), full,
          numbers ? " of numbers" : "");
    CHECK(*rows < 0 || info.dims[0] == *rows, ERR_DATA, "%s: %s has %lld values, the series before it %lld", h5_path(f),
          full, (long long)info.dims[0], (long long)*rows);
    *rows = info.dims[0];
  }
  TRY(read_all(f, full, &info, &last));
  if (h5_has(f, full, "unit")) TRY(h5_get_str(f, full, "unit", &unit));
  if (h5_has(f, full, "description")) TRY(h5_get_str(f, full, "description", &description));
  if (!top && !isnan(last)) snprintf(end, sizeof end, "; last %.6g", last);
  log_info("  %-24s %lld values  %-9s %s%s", full, (long long)info.dims[0], unit ? unit : "",
           description ? description : "", end);
  mem_free(&unit);
  mem_free(&description);
  return OK;
}

static int info_group(H5 *f, const char *group, bool numbers) {
  char **names = NULL;
  int64_t rows = -1;
  TRY(h5_list(f, group, &names));
  int err = OK;
  for (int i = 0; names[i] && err == OK; i++) err = info_series(f, group, names[i], numbers, &rows);
  h5_list_free(&names);
  return err;
}

/* One line for a table with a series for each parameter; read all of it. */
static int info_norm_table(H5 *f, const char *group) {
  char **names, full[256];
  double last, square = 0;
  int64_t n = 0;
  H5Info info = {0};
  if (!h5_exists(f, group)) return OK;
  TRY(h5_list(f, group, &names));
  int err = OK;
  for (char **name = names; *name && err == OK; name++) {
    snprintf(full, sizeof full, "%s/%s", group, *name);
    err = h5_info(f, full, &info);
    if (err == OK) err = read_all(f, full, &info, &last);
    if (err != OK || strcmp(*name, "step") == 0) continue;
    if (isfinite(last)) square += last * last;
    n++;
  }
  h5_list_free(&names);
  TRY(err);
  log_info("  %-24s %lld parameters, %lld values each; last %.6g over all", group, (long long)n,
           (long long)(info.rank == 1 ? info.dims[0] : 0), sqrt(square));
  return OK;
}

/* What a run records besides its losses. */
static int info_details(H5 *f) {
  static const char *const norms[] = {"/weight_norm", "/gradient_norm", "/update_norm"};
  TRY(info_group(f, "/valid", true));
  for (int i = 0; i < 3; i++) TRY(info_norm_table(f, norms[i]));
  return h5_exists(f, "/samples") ? info_group(f, "/samples", true) : OK;
}

/* ---- metrics, evaluations, samples …: results, attributes, series, how to see the deck */

typedef struct Field {
  const char *name;
  enum { WORD, WHOLE, REAL } type;
} Field;

/* In the order of the output; a file has some of them. */
static const Field fields[] = {{"entropy", REAL},
                               {"estimator", WORD},
                               {"estimator_options", WORD},
                               {"rest", WORD},
                               {"questions", WHOLE},
                               {"acc", REAL},
                               {"acc_norm", REAL},
                               {"draws", WHOLE},
                               {"tokens", WHOLE},
                               {"share", REAL},
                               {"data", WORD},
                               {"data_digest", WORD},
                               {"source", WORD},
                               {"split", WORD},
                               {"wrap", WHOLE},
                               {"detokenizer", WORD},
                               {"labels", WORD},
                               {"input", WORD},
                               {"window", WHOLE},
                               {"sampler", WORD},
                               {"steps", WHOLE},
                               {"noise_removal", WHOLE},
                               {"num_strides", WHOLE},
                               {"stride_length", WHOLE},
                               {"label", WHOLE},
                               {"label_name", WORD},
                               {"guidance", REAL},
                               {"prompt", WORD},
                               {"evaluations", WHOLE},
                               {"evaluated", WHOLE},
                               {"cache_passes", WHOLE},
                               {"drawn", WHOLE},
                               {"tokens_per_evaluation", REAL},
                               {"seed", WHOLE},
                               {"checkpoint", WORD},
                               {"checkpoint_digest", WORD},
                               {"step", WHOLE},
                               {"weights", WORD},
                               {"tokenizer", WORD},
                               {"version", WORD},
                               {"git", WORD},
                               {"created", WORD},
                               {"started", WORD},
                               {NULL, WORD}};

static int info_field(H5 *f, const Field *field) {
  char *word = NULL;
  int64_t whole = 0;
  double real = 0;
  if (!h5_has(f, "/", field->name)) return OK;
  switch (field->type) {
  case WORD:
    TRY(h5_get_str(f, "/", field->name, &word));
    if (*word) log_info("  %-18s %s", field->name, word);
    mem_free(&word);
    break;
  case WHOLE:
    TRY(h5_get_int(f, "/", field->name, &whole));
    log_info("  %-18s %lld", field->name, (long long)whole);
    break;
  case REAL:
    TRY(h5_get_real(f, "/", field->name, &real));
    log_info("  %-18s %.6g", field->name, real);
    break;
  }
  return OK;
}

/* ---- tokenized data: what was done to the text, and what became of it */

static const Field preparation[] = {
    {"protocol", WORD},        {"variant", WORD},          {"dataset", WORD},           {"revision", WORD},
    {"field", WORD},           {"label_field", WORD},      {"document_unit", WORD},     {"framing", WORD},
    {"map_batch", WHOLE},      {"shards", WHOLE},          {"add_eos", WHOLE},          {"add_special", WHOLE},
    {"scored", WORD},          {"documents", WHOLE},       {"scored_tokens", WHOLE},    {"bytes", WHOLE},
    {"words", WHOLE},          {"empty_documents", WHOLE}, {"truncated_tokens", WHOLE}, {"dropped_tokens", WHOLE},
    {"replaced_bytes", WHOLE}, {"unknown_tokens", WHOLE},  {"lost_characters", WHOLE},  {NULL, WORD}};

static int info_preparation(const char *path) {
  H5 *f = NULL;
  TRY(h5_open(&f, path, false));
  int err = OK;
  for (const Field *field = preparation; field->name && err == OK; field++) err = info_field(f, field);
  h5_close(&f);
  return err;
}

/* How many rows each class has. */
static int info_classes(Shards *s) {
  enum { PIECE = 4096, MOST = 20 };
  int64_t classes = shards_classes(s), rows[PIECE], *count = NULL;
  int32_t labels[PIECE];
  const char *name = shards_class_names(s);
  if (classes == 0) return OK;
  TRY(mem_alloc(&count, (size_t)(classes + 1) * sizeof *count));
  int err = OK;
  for (int64_t i = 0, n; i < shards_rows(s) && err == OK; i += n) {
    n = shards_rows(s) - i < PIECE ? shards_rows(s) - i : PIECE;
    for (int64_t k = 0; k < n; k++) rows[k] = i + k;
    err = shards_labels(s, rows, n, labels);
    for (int64_t k = 0; k < n && err == OK; k++) count[labels[k] + 1]++;
  }
  if (err == OK) log_info("  %lld classes, %lld rows without one", (long long)classes, (long long)count[0]);
  for (int64_t i = 0; i < classes && i < MOST && err == OK; i++) {
    int length = (int)strcspn(name, "\n");
    log_info("    class %-6lld %lld rows  %.*s", (long long)i, (long long)count[i + 1], length, name);
    name += name[length] ? length + 1 : length;
  }
  if (classes > MOST && err == OK) log_info("    and %lld more", (long long)classes - MOST);
  mem_free(&count);
  return err;
}

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
  int err = info_preparation(path);
  if (err == OK) err = info_classes(s);
  if (err == OK) err = shards_verify(s, NULL, NULL);
  shards_close(&s);
  if (err == OK) log_info("  whole: ids, lengths and digest agree");
  return err;
}

/* What samples say: rows of tokens, each with its entropy. */
static int info_samples(H5 *f) {
  H5Info samples, tokens;
  double sum = 0, *entropy = NULL;
  TRY(h5_info(f, "/entropy", &samples));
  CHECK(samples.rank == 1, ERR_DATA, "%s: /entropy is not a list of numbers", h5_path(f));
  int64_t n = samples.dims[0];
  TRY(h5_info(f, "/tokens", &tokens));
  CHECK(tokens.rank == 2 && tokens.dims[0] == n, ERR_DATA, "%s: /tokens are not %lld rows", h5_path(f), (long long)n);
  TRY(mem_alloc(&entropy, (size_t)n * sizeof *entropy));
  int err = n ? h5_read(f, "/entropy", H5_F64, 1, &n, entropy) : OK;
  for (int64_t i = 0; i < n && err == OK; i++) sum += entropy[i];
  mem_free(&entropy);
  TRY(err);
  log_info("  %-18s %lld, of token entropy %.4f nat (mean)", "samples", (long long)n, sum / (double)n);
  return OK;
}

/* What an evaluation, a score or samples say. */
static int info_result(H5 *f) {
  Results r;
  if (h5_has(f, "/", "nll")) {
    TRY(results_read(&r, f));
    results_show(&r.losses, r.block, &r.text);
    results_destroy(&r);
    return OK;
  }
  return h5_exists(f, "/entropy") ? info_samples(f) : OK;
}

/* The values of the sequences are a table beside the groups of bins. */
static int info_profile(H5 *f) {
  static const char *const series[] = {"loss", "square", "tokens"};
  int64_t rows = -1;
  for (int i = 0; i < 3; i++) TRY(info_series(f, "/", series[i], true, &rows));
  return profile_show(f);
}

/* /tokens of requests is longer than the other series. */
static int info_requests(H5 *f) {
  char **names = NULL;
  TRY(h5_list(f, "/requests", &names));
  int err = OK;
  for (int i = 0; names[i] && err == OK; i++) {
    int64_t rows = -1;
    err = info_series(f, "/requests", names[i], true, &rows);
  }
  h5_list_free(&names);
  return err;
}

static int info_tables(H5 *f, const char *format) {
  if (strcmp(format, "mdlm-profile") == 0) return info_profile(f);
  if (strcmp(format, "mdlm-requests") == 0) return info_requests(f);
  bool metrics = strcmp(format, "mdlm-metrics") == 0, cells = strcmp(format, "mdlm-sweep") == 0;
  bool results = strcmp(format, "mdlm-likelihood") == 0;
  TRY(info_group(f, metrics ? "/train" : cells ? "/cells" : results ? "/results" : "/", metrics || results));
  if (metrics) TRY(info_details(f));
  return cells && h5_exists(f, "/pairs") ? info_group(f, "/pairs", false) : OK;
}

static int describe(H5 *f, const char *path, const char *format) {
  log_info("%s: %s", path, format);
  TRY(info_result(f));
  for (const Field *field = fields; field->name; field++) TRY(info_field(f, field));
  TRY(info_tables(f, format));
  if (h5_has(f, "/", "deck")) info_deck(path);
  log_info("  whole: every value could be read");
  return OK;
}

static int info_other(const char *path, const char *format) {
  H5 *f = NULL;
  TRY(h5_open(&f, path, false));
  int err = describe(f, path, format);
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

/* The deck that made the file, and nothing else. */
static int print_deck(const char *path) {
  H5 *f = NULL;
  char *deck = NULL;
  TRY(h5_open(&f, path, false));
  int err = h5_has(f, "/", "deck") ? h5_get_str(f, "/", "deck", &deck)
                                   : RAISE(ERR_DATA, "%s: no deck is stored in this file", path);
  h5_close(&f);
  size_t n = deck ? strlen(deck) : 0;
  if (n > 0 && deck[n - 1] == '\n') deck[n - 1] = '\0'; /* log_text adds one */
  if (err == OK && log_text(deck) != 0) err = RAISE(ERR_IO, "cannot write the deck to standard output");
  mem_free(&deck);
  return err;
}

static int info(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)cfg, (void)exit_code;
  bool deck = argc > 0 && strcmp(argv[0], "--deck") == 0;
  int err = argc - deck < 1 ? RAISE(ERR_USAGE, "usage: mdlm info [--deck] FILE…") : OK;
  for (int i = deck; i < argc && err == OK && comm->rank == 0; i++)
    err = deck ? print_deck(argv[i]) : info_file(argv[i]);
  return comm_agree(comm, err);
}

extern const Command command_info;
const Command command_info = {
    .name = "info",
    .arguments = "[--deck] FILE…",
    .purpose = "describe our HDF5 files and verify their checksums",
    .run = info,
    .about =
        "Tells what a file is (data, checkpoint, metrics, evaluation, profile, samples, "
        "scores, likelihoods, requests, prompts), its results first, and reads all of it to see whether it is whole. "
        "With --deck it prints the deck that made the file and nothing else.",
    .reads = "the files",
    .writes = "nothing",
    .example = "mdlm info --deck runs/a/last.h5 > deck.cfg"};
