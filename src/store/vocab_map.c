#include "store/vocab_map.h"
#include "base/err.h"
#include "base/mem.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef struct Token {
  const char *bytes;
  int64_t n;
  int32_t id;
} Token;

static Token token_of(const Vocab *v, int64_t id) {
  return (Token){v->bytes + v->offsets[id], v->offsets[id + 1] - v->offsets[id], (int32_t)id};
}

static int compare_bytes(const Token *a, const Token *b) {
  int order = memcmp(a->bytes, b->bytes, (size_t)(a->n < b->n ? a->n : b->n));
  return order ? order : (a->n > b->n) - (a->n < b->n);
}

static int compare(const void *a, const void *b) {
  const Token *x = a, *y = b;
  int order = compare_bytes(x, y);
  return order ? order : (x->id > y->id) - (x->id < y->id);
}

static bool special(const Vocab *v, int64_t id) {
  return id == v->mask || id == v->bos || id == v->eos || id == v->pad;
}

/* The first of the sorted tokens with these bytes, or −1. */
static int32_t find(const Token *sorted, int64_t n, const Token *token) {
  int64_t low = 0, high = n;
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (compare_bytes(&sorted[middle], token) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low < n && compare_bytes(&sorted[low], token) == 0 ? sorted[low].id : -1;
}

int vocab_map(const Vocab *from, const Vocab *to, int32_t *map, int64_t *known) {
  Token *sorted;
  int64_t n = 0;
  TRY(mem_alloc(&sorted, (size_t)from->size * sizeof *sorted));
  for (int64_t id = 0; id < from->size; id++)
    if (!special(from, id)) sorted[n++] = token_of(from, id);
  qsort(sorted, (size_t)n, sizeof *sorted, compare);
  for (int64_t id = 0; id < to->size; id++) {
    Token token = token_of(to, id);
    map[id] = special(to, id) || token.n == 0 ? -1 : find(sorted, n, &token);
  }
  mem_free(&sorted);
  const int32_t ours[] = {to->pad, to->bos, to->eos, to->mask},
                theirs[] = {from->pad, from->bos, from->eos, from->mask};
  for (int i = 0; i < 4; i++) /* the mask last: where a token has two uses, that one counts */
    if (ours[i] >= 0 && theirs[i] >= 0) map[ours[i]] = theirs[i];
  *known = 0;
  for (int64_t id = 0; id < to->size; id++) *known += map[id] >= 0;
  return OK;
}
