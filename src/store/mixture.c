#include "store/mixture.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/files.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
static const int64_t LONGEST_CYCLE = 1 << 20;

typedef struct Set {
  char name[MIXTURE_NAME];
  double weight;
  int64_t share, first;
  Shards *shards;
} Set;

struct Mixture {
  char *spec;
  int n;
  Set sets[MIXTURE_SETS];
  int64_t cycle, start;
  uint8_t *which;   /* [cycle] the set of each draw of a cycle */
  uint32_t *before; /* [cycle] draws of that set earlier in the cycle */
  Protocol protocol;
};

/* ---- the list */

static bool is_list(const char *spec) {
  if (access(spec, F_OK) == 0) return false;
  spec += strspn(spec, " \t\n");
  size_t name = strspn(spec, LETTERS);
  size_t weight = name > 0 && spec[name] == '=' ? 1 + strspn(spec + name + 1, "0123456789.") : 0;
  return strchr(spec, ';') || (weight > 1 && spec[name + weight] == ':');
}

/* One set of the list: "NAME=WEIGHT:FILES". */
static int set_add(Mixture *m, const char *part) {
  size_t name = strspn(part, LETTERS);
  const char *weight = part + name + 1, *files = strchr(part, ':');
  char *end = NULL;
  CHECK(name > 0 && part[name] == '=' && files && files[1], ERR_USAGE,
        "\"%s\" is not NAME=WEIGHT:FILES, as in wiki=0.3:data/wiki_*.h5", part);
  CHECK(name < MIXTURE_NAME, ERR_USAGE, "the name %.*s has more than %d letters", (int)name, part, MIXTURE_NAME - 1);
  CHECK(m->n < MIXTURE_SETS, ERR_USAGE, "more than %d sets", MIXTURE_SETS);
  Set *s = &m->sets[m->n++];
  snprintf(s->name, sizeof s->name, "%.*s", (int)name, part);
  s->weight = strtod(weight, &end);
  CHECK(end == files && end > weight && s->weight >= 1e-12 && s->weight <= 1e12, ERR_USAGE,
        "the weight of %s is \"%.*s\": a number between 1e-12 and 1e12 was expected", s->name, (int)(files - weight),
        weight);
  return shards_open(&s->shards, files + 1 + strspn(files + 1, " \t\n"));
}

static int by_name(const void *a, const void *b) { return strcmp(((const Set *)a)->name, ((const Set *)b)->name); }

static int list_open(Mixture *m) {
  char *copy;
  int err = OK;
  TRY(mem_strdup(&copy, m->spec));
  char *list = copy;
  for (char *part; err == OK && (part = files_next(&list, ";"));) err = set_add(m, part);
  mem_free(&copy);
  if (err) return err;
  CHECK(m->n > 0, ERR_USAGE, "\"%s\" names no set", m->spec);
  qsort(m->sets, (size_t)m->n, sizeof *m->sets, by_name);
  return OK;
}

static const char *digest_of(const Mixture *m, int set) { return shards_protocol(m->sets[set].shards)->digest; }

/* What all sets must have in common, and what no two may have. */
static int sets_check(const Mixture *m) {
  for (int i = 0; i < m->n; i++)
    for (int k = 0; k < i; k++) {
      const char *a = m->sets[k].name, *b = m->sets[i].name;
      CHECK(strcmp(a, b) != 0, ERR_USAGE, "two sets are called %s", a);
      CHECK(strcmp(digest_of(m, k), digest_of(m, i)) != 0, ERR_USAGE,
            "%s and %s hold the same rows (digest %s): give one of them both weights", a, b, digest_of(m, i));
    }
  for (int i = 1; i < m->n; i++)
    for (int k = 0; k < i; k++) TRY(shards_mix(m->sets[k].shards, m->sets[i].shards));
  return OK;
}

/* ---- shares */

static int64_t gcd(int64_t a, int64_t b) { return b == 0 ? a : gcd(b, a % b); }

/* share := weight · scale, in lowest terms. False if they are not whole, or a cycle would be too long. */
static bool shares_exact(Mixture *m, double scale) {
  int64_t common = 0;
  double cycle = 0;
  for (int i = 0; i < m->n; i++) {
    double scaled = m->sets[i].weight * scale;
    if (scaled > 1e15 || scaled < 1 || fabs(scaled - round(scaled)) > 1e-9 * fmin(scaled, 1e6)) return false;
    m->sets[i].share = llround(scaled);
    common = gcd(m->sets[i].share, common);
  }
  for (int i = 0; i < m->n; i++) {
    m->sets[i].share /= common;
    cycle += (double)m->sets[i].share;
  }
  return cycle <= (double)LONGEST_CYCLE;
}

static void shares_round(Mixture *m) {
  double sum = 0;
  for (int i = 0; i < m->n; i++) sum += m->sets[i].weight;
  for (int i = 0; i < m->n; i++) {
    m->sets[i].share = llround(m->sets[i].weight / sum * (double)LONGEST_CYCLE);
    if (m->sets[i].share == 0) m->sets[i].share = 1;
  }
}

static void shares_make(Mixture *m) {
  bool exact = false;
  for (double scale = 1; scale <= 1e12 && !exact; scale *= 10) exact = shares_exact(m, scale);
  if (!exact) shares_round(m);
  m->cycle = 0;
  for (int i = 0; i < m->n; i++) m->cycle += m->sets[i].share;
}

/* Unit k of set s may be drawn from draw ⌊k·C/share⌋ of a cycle on, and must be by ⌈(k+1)·C/share⌉−1. Taking the due unit
 * with the earliest end meets all ends (Baruah, Cohen, Plaxton, Varvel, Proportionate Progress, Algorithmica 1996, where
 * such a schedule is shown to exist; for units of one draw the earliest end first finds it). Both bounds together are the
 * promise on shares. */
static int cycle_make(Mixture *m) {
  const int64_t C = m->cycle;
  int64_t given[MIXTURE_SETS] = {0};
  TRY(mem_alloc(&m->which, (size_t)C * sizeof *m->which));
  TRY(mem_alloc(&m->before, (size_t)C * sizeof *m->before));
  for (int64_t i = 0; i < C; i++) {
    int best = -1;
    int64_t best_end = INT64_MAX;
    for (int s = 0; s < m->n; s++) {
      int64_t share = m->sets[s].share, end = ((given[s] + 1) * C + share - 1) / share;
      if (given[s] * C >= share * (i + 1) || end >= best_end) continue;
      best = s;
      best_end = end;
    }
    ASSERT(best >= 0 && best_end > i);
    m->which[i] = (uint8_t)best;
    m->before[i] = (uint32_t)given[best]++;
  }
  return OK;
}

/* ---- opening */

static void common_text(char *text, const char *other, size_t size) {
  if (strcmp(text, other) != 0) snprintf(text, size, "mixed");
}

static void protocol_make(Mixture *m) {
  Protocol *p = &m->protocol;
  char digests[MIXTURE_SETS * sizeof p->digest] = "";
  size_t used = 0, length = 0;
  *p = *shards_protocol(m->sets[0].shards);
  for (int i = 0; i < m->n && m->n > 1; i++) {
    const Protocol *q = shards_protocol(m->sets[i].shards);
    length += (size_t)snprintf(digests + length, sizeof digests - length, "%s", q->digest);
    common_text(p->detokenizer, q->detokenizer, sizeof p->detokenizer);
    common_text(p->split, q->split, sizeof p->split);
    if (used < sizeof p->source)
      used += (size_t)snprintf(p->source + used, sizeof p->source - used, "%s%s %.4g %%", i ? ", " : "",
                               m->sets[i].name, 100 * mixture_share(m, i));
  }
  if (m->n > 1) digest_bytes(p->digest, digests, length);
}

static int open_all(Mixture *m) {
  if (is_list(m->spec)) {
    TRY(list_open(m));
  } else {
    m->n = 1;
    m->sets[0] = (Set){.name = "data", .weight = 1};
    TRY(shards_open(&m->sets[0].shards, m->spec));
  }
  TRY(sets_check(m));
  shares_make(m);
  protocol_make(m);
  return cycle_make(m);
}

int mixture_open(Mixture **out, const char *spec) {
  Mixture *m;
  *out = NULL;
  TRY(mem_alloc(&m, sizeof *m));
  int err = mem_strdup(&m->spec, spec);
  if (err == OK) err = open_all(m);
  if (err)
    mixture_close(&m);
  else
    *out = m;
  return err;
}

void mixture_close(Mixture **out) {
  Mixture *m = *out;
  if (!m) return;
  for (int i = 0; i < m->n; i++) shards_close(&m->sets[i].shards);
  mem_free(&m->which);
  mem_free(&m->before);
  mem_free(&m->spec);
  mem_free(out);
}

int mixture_sets(const Mixture *m) { return m->n; }
const char *mixture_name(const Mixture *m, int set) { return m->sets[set].name; }
double mixture_share(const Mixture *m, int set) { return (double)m->sets[set].share / (double)m->cycle; }
Shards *mixture_shards(const Mixture *m, int set) { return m->sets[set].shards; }
int64_t mixture_length(const Mixture *m) { return shards_length(m->sets[0].shards); }
const Vocab *mixture_vocab(const Mixture *m) { return shards_vocab(m->sets[0].shards); }
const Protocol *mixture_protocol(const Mixture *m) { return &m->protocol; }
const char *mixture_spec(const Mixture *m) { return m->spec; }

int64_t mixture_rows(const Mixture *m) {
  int64_t rows = 0;
  for (int i = 0; i < m->n; i++) rows += shards_rows(m->sets[i].shards);
  return rows;
}

int64_t mixture_classes(const Mixture *m) {
  int64_t most = 0;
  for (int i = 0; i < m->n; i++) {
    int64_t classes = shards_classes(m->sets[i].shards);
    if (classes > most) most = classes;
  }
  return most;
}

const char *mixture_class_names(const Mixture *m) {
  for (int i = 0; i < m->n; i++)
    if (shards_classes(m->sets[i].shards) > 0) return shards_class_names(m->sets[i].shards);
  return "";
}

/* ---- draws */

void mixture_draw(const Mixture *m, int64_t j, int *set, int64_t *n) {
  int64_t cycles = (j - m->start) / m->cycle, i = (j - m->start) % m->cycle;
  *set = m->which[i];
  *n = m->sets[*set].first + cycles * m->sets[*set].share + m->before[i];
}

int64_t mixture_drawn(const Mixture *m, int set, int64_t j) {
  int64_t cycles = (j - m->start) / m->cycle, i = (j - m->start) % m->cycle;
  while (i > 0 && m->which[i - 1] != set) i--;
  return m->sets[set].first + cycles * m->sets[set].share + (i > 0 ? m->before[i - 1] + 1 : 0);
}

int mixture_read(const Mixture *m, const int32_t *sets, const int64_t *rows, int64_t n, int32_t *tokens,
                 int32_t *lengths) {
  const int64_t L = mixture_length(m);
  for (int64_t i = 0, run; i < n; i += run) {
    for (run = 1; i + run < n && sets[i + run] == sets[i];) run++;
    TRY(shards_read(m->sets[sets[i]].shards, rows + i, run, tokens + i * L, lengths + i));
  }
  return OK;
}

int mixture_labels(const Mixture *m, const int32_t *sets, const int64_t *rows, int64_t n, int32_t *labels) {
  for (int64_t i = 0, run; i < n; i += run) {
    for (run = 1; i + run < n && sets[i + run] == sets[i];) run++;
    TRY(shards_labels(m->sets[sets[i]].shards, rows + i, run, labels + i));
  }
  return OK;
}

/* ---- checkpoints */

MixtureState mixture_state(const Mixture *m, int64_t j) {
  MixtureState state = {.n = m->n, .start = m->start};
  for (int i = 0; i < m->n; i++) {
    MixtureSet *s = &state.sets[i];
    *s = (MixtureSet){.share = m->sets[i].share,
                      .first = m->sets[i].first,
                      .rows = shards_rows(m->sets[i].shards),
                      .drawn = mixture_drawn(m, i, j)};
    strcpy(s->name, m->sets[i].name);
    strcpy(s->digest, digest_of(m, i));
  }
  return state;
}

MixtureState mixture_single(const char *digest, int64_t j) {
  MixtureState state = {.n = 1, .sets[0] = {.name = "data", .share = 1, .drawn = j}};
  snprintf(state.sets[0].digest, sizeof state.sets[0].digest, "%s", digest);
  return state;
}

const MixtureSet *mixture_find(const MixtureState *state, const char *digest) {
  for (int i = 0; i < state->n; i++)
    if (strcmp(state->sets[i].digest, digest) == 0) return &state->sets[i];
  return NULL;
}

/* Names count where there are several sets: they give the order, and that decides between draws with the same end. */
bool mixture_same(const Mixture *m, const MixtureState *was) {
  bool same = m->n == was->n;
  for (int i = 0; i < m->n && same; i++)
    same = m->sets[i].share == was->sets[i].share && strcmp(digest_of(m, i), was->sets[i].digest) == 0 &&
           (m->n == 1 || strcmp(m->sets[i].name, was->sets[i].name) == 0);
  return same;
}

void mixture_resume(Mixture *m, const MixtureState *was, int64_t j) {
  bool same = mixture_same(m, was);
  m->start = same ? was->start : j;
  for (int i = 0; i < m->n; i++) {
    const MixtureSet *s = mixture_find(was, digest_of(m, i));
    m->sets[i].first = !s ? 0 : same ? s->first : s->drawn;
  }
}
