#include "base/nearest.h"

#include <stddef.h>
#include <string.h>

enum { LONGEST = 64 };

static int min(int a, int b) { return a < b ? a : b; }

int nearest_distance(const char *a, const char *b) {
  int rows[3][LONGEST + 1], *two = rows[0], *one = rows[1], *now = rows[2];
  int n = min((int)strlen(a), LONGEST), m = min((int)strlen(b), LONGEST);
  for (int j = 0; j <= m; j++) one[j] = j;
  for (int i = 1; i <= n; i++) {
    now[0] = i;
    for (int j = 1; j <= m; j++) {
      now[j] = min(min(one[j], now[j - 1]) + 1, one[j - 1] + (a[i - 1] != b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) now[j] = min(now[j], two[j - 2] + 1);
    }
    int *old = two;
    two = one;
    one = now;
    now = old;
  }
  return one[m];
}

const char *nearest_word(const char *word, const char *const *list) {
  const char *best = NULL;
  int reach = ((int)strlen(word) + 2) / 3 + 1; /* with more than a third of its letters wrong it is another word */
  for (; *list; list++) {
    int d = nearest_distance(word, *list);
    if (d < reach) {
      reach = d;
      best = *list;
    }
  }
  return best;
}
