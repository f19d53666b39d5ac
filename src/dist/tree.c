#include "dist/tree.h"
#include "base/err.h"

enum { STAGES = 31, SCRATCH = -1 };

typedef struct Range { /* of elements */
  size_t start, n;
} Range;

typedef struct Stage { /* f groups of d ranks become one */
  int d, f;
  int digit; /* the place of this rank's group among them */
  Range all; /* the elements that these ranks share */
} Stage;

typedef struct Part { /* the values of a node for the current range of elements */
  TreeNode node;
  int array;    /* the rank's array that holds them, or SCRATCH */
  size_t start; /* there */
} Part;

typedef struct Sum {
  const Tree *tree;
  const TreeCarrier *carrier; /* NULL: only count scratch */
  void *const *arrays;
  void *scratch;
  Part part[TREE_NODES]; /* from left to right */
  int parts, last;       /* last: the array for the result */
  size_t used, most;     /* elements of scratch: that hold parts; ever used */
} Sum;

int tree_check(const Tree *t) {
  CHECK(t->leaves > 0 && t->leaves % t->size == 0, ERR_USAGE, "%d ranks cannot share a tree of %lld leaves equally",
        t->size, (long long)t->leaves);
  return OK;
}

/* ---- the tree */

static int64_t cut(int64_t end, int64_t leaves) { return end < leaves ? end : leaves; }

bool tree_siblings(TreeNode left, TreeNode right, int64_t leaves) {
  int64_t n = left.end - left.first; /* left halves are never cut */
  return left.end == right.first && (n & (n - 1)) == 0 && left.first % (2 * n) == 0 &&
         right.end == cut(left.first + 2 * n, leaves);
}

int tree_nodes(TreeNode nodes[TREE_NODES], int64_t first, int64_t end, int64_t leaves) {
  int count = 0;
  while (first < end) {
    int64_t n = 1;
    while (first + n < leaves && first % (2 * n) == 0 && cut(first + 2 * n, leaves) <= end) n *= 2;
    ASSERT(count < TREE_NODES);
    nodes[count++] = (TreeNode){first, cut(first + n, leaves)};
    first += n;
  }
  return count;
}

/* The nodes of group g of d ranks. */
static int group_nodes(TreeNode *nodes, const Tree *t, int64_t g, int d) {
  int64_t n = t->leaves / t->size * d;
  return tree_nodes(nodes, g * n, (g + 1) * n, t->leaves);
}

int tree_own(TreeNode nodes[TREE_NODES], const Tree *t) { return group_nodes(nodes, t, t->rank, 1); }

/* ---- the stages */

/* Part i of f. */
static Range part_of(Range all, int i, int f) {
  size_t start = all.n * (size_t)i / (size_t)f, end = all.n * (size_t)(i + 1) / (size_t)f;
  return (Range){all.start + start, end - start};
}

static int plan(Stage *stages, const Tree *t, size_t n) {
  Range all = {0, n};
  int count = 0;
  for (int d = 1, f = 2; d < t->size;) {
    while (t->size / d % f != 0) f++;
    Stage s = {d, f, t->rank / d % f, all};
    all = part_of(all, s.digit, f);
    stages[count++] = s;
    d *= f;
  }
  return count;
}

/* The partner of turn i = 0 … f−1, in which all ranks of the stage meet in pairs, or −1: nobody. */
static int partner_of(const Stage *s, const Tree *t, int i, int *digit) {
  *digit = (i - s->digit + s->f) % s->f;
  return *digit == s->digit ? -1 : t->rank + (*digit - s->digit) * s->d;
}

static char *values(const Sum *s, Part p, size_t skip) {
  void *array = p.array == SCRATCH ? s->scratch : s->arrays[p.array];
  return (char *)array + (p.start + skip) * s->carrier->width;
}

/* The most nodes of one of the groups. */
static int most_nodes(const Stage *g, const Tree *t) {
  TreeNode nodes[TREE_NODES];
  int64_t first = t->rank / (g->d * g->f) * g->f;
  int most = 0;
  for (int i = 0; i < g->f; i++) {
    int n = group_nodes(nodes, t, first + i, g->d);
    most = n > most ? n : most;
  }
  return most;
}

/* Node k of the group with this digit, received for n elements, in scratch behind the `used` ones. */
static Part received(const Sum *s, const Stage *g, int digit, int k, int most, size_t n) {
  size_t place = (size_t)((digit - (digit > g->digit)) * most + k);
  return (Part){.array = SCRATCH, .start = s->used + place * n};
}

static int exchange(Sum *s, const Stage *g, int most) {
  TreeNode nodes[TREE_NODES];
  size_t n = part_of(g->all, g->digit, g->f).n;
  for (int i = 0; i < g->f; i++) {
    int digit, partner = partner_of(g, s->tree, i, &digit);
    if (partner < 0) continue;
    int theirs = group_nodes(nodes, s->tree, partner / g->d, g->d), turns = theirs > s->parts ? theirs : s->parts;
    Range other = part_of(g->all, digit, g->f);
    for (int k = 0; k < turns; k++) {
      char *out = k < s->parts ? values(s, s->part[k], other.start - g->all.start) : NULL;
      char *in = k < theirs ? values(s, received(s, g, digit, k, most, n), 0) : NULL;
      TRY(s->carrier->swap(s->carrier->arg, partner, out, out ? other.n : 0, in, in ? n : 0));
    }
  }
  return OK;
}

/* Append a part and add siblings. A sum goes to one of the rank's arrays if an operand is there, the later one if both
 * are: the last array thus keeps its place behind the others and gets the result. */
static int append(Sum *s, Part p, size_t n) {
  while (s->parts > 0 && tree_siblings(s->part[s->parts - 1].node, p.node, s->tree->leaves)) {
    Part left = s->part[--s->parts], to = p.array == SCRATCH ? left : p, from = p.array == SCRATCH ? p : left;
    if (s->carrier) TRY(s->carrier->add(s->carrier->arg, values(s, to, 0), values(s, from, 0), n));
    to.node = (TreeNode){left.node.first, p.node.end};
    p = to;
  }
  ASSERT(s->parts < TREE_NODES);
  s->part[s->parts++] = p;
  return OK;
}

static int combine(Sum *s, const Stage *g, int most) {
  TreeNode nodes[TREE_NODES];
  Part mine[TREE_NODES];
  int count = s->parts;
  Range range = part_of(g->all, g->digit, g->f);
  int64_t first = s->tree->rank / (g->d * g->f) * g->f;
  for (int k = 0; k < count; k++) {
    mine[k] = s->part[k];
    mine[k].start += range.start - g->all.start;
  }
  s->parts = 0;
  for (int i = 0; i < g->f; i++) {
    int n = group_nodes(nodes, s->tree, first + i, g->d);
    for (int k = 0; k < n; k++) {
      Part p = i == g->digit ? mine[k] : received(s, g, i, k, most, range.n);
      p.node = nodes[k];
      TRY(append(s, p, range.n));
    }
  }
  s->used = 0;
  for (int k = 0; k < s->parts; k++)
    if (s->part[k].array == SCRATCH && s->part[k].start + range.n > s->used) s->used = s->part[k].start + range.n;
  return OK;
}

static int reduce_stage(Sum *s, const Stage *g) {
  int most = most_nodes(g, s->tree);
  size_t end = s->used + (size_t)((g->f - 1) * most) * part_of(g->all, g->digit, g->f).n;
  s->most = end > s->most ? end : s->most;
  if (s->carrier) TRY(exchange(s, g, most));
  return combine(s, g, most);
}

static int gather_stage(const Sum *s, const Stage *g) {
  Range mine = part_of(g->all, g->digit, g->f);
  Part x = {.array = s->last};
  for (int i = 0; i < g->f; i++) {
    int digit, partner = partner_of(g, s->tree, i, &digit);
    if (partner < 0) continue;
    Range other = part_of(g->all, digit, g->f);
    TRY(s->carrier->swap(s->carrier->arg, partner, values(s, x, mine.start), mine.n, values(s, x, other.start),
                         other.n));
  }
  return OK;
}

static void begin(Sum *s) {
  TreeNode nodes[TREE_NODES];
  s->parts = tree_own(nodes, s->tree);
  s->last = s->parts - 1;
  for (int k = 0; k < s->parts; k++) s->part[k] = (Part){.node = nodes[k], .array = k};
}

size_t tree_scratch(const Tree *t, size_t n) {
  Stage stages[STAGES];
  Sum s = {.tree = t};
  size_t size = (size_t)t->size, equal = (n + size - 1) / size * size; /* no part is longer than those of so many */
  int count = plan(stages, t, equal);
  begin(&s);
  for (int i = 0; i < count; i++)
    if (reduce_stage(&s, &stages[i])) break; /* adds nothing, so never fails */
  return s.most;
}

int tree_part(const Tree *t) {
  Stage stages[STAGES];
  int count = plan(stages, t, (size_t)t->size);
  const Stage *last = &stages[count - 1];
  return count == 0 ? 0 : (int)part_of(last->all, last->digit, last->f).start;
}

int tree_run(const Tree *t, TreePhases phases, const TreeCarrier *carrier, void *const *arrays, void *scratch,
             size_t n) {
  Stage stages[STAGES];
  Sum s = {.tree = t, .carrier = carrier, .arrays = arrays, .scratch = scratch};
  int count = plan(stages, t, n);
  if (phases & TREE_SCATTER) {
    begin(&s);
    for (int i = 0; i < count; i++) TRY(reduce_stage(&s, &stages[i]));
    ASSERT(s.parts == 1 && s.part[0].array == s.last);
  }
  for (int i = count - 1; i >= 0 && phases & TREE_GATHER; i--) TRY(gather_stage(&s, &stages[i]));
  return OK;
}
