/* test_gpt2 — GPT-2 against that of the transformers library, and the likelihood of text under it. Largest error seen:
 * 8e-16 in f64 and 3e-7 in f32. */
#include "golden.h"

int main(void) { return golden_main("tests/golden/gpt2.h5"); }
