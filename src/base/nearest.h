/* nearest — suggestions for misspelt words. */
#pragma once

/** nearest_word — the word of the NULL-ended list nearest to `word` by edit distance, NULL if none is near. */
const char *nearest_word(const char *word, const char *const *list);
/** nearest_distance — insertions, deletions, substitutions and swaps of neighbours from a to b (optimal string
 *  alignment); only the first 64 characters count. */
int nearest_distance(const char *a, const char *b);
