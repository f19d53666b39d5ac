/* golden — the program against files of numbers computed independently in float64 (tests/golden/make_golden.py):
 * logits, losses and gradients of a network under an objective, and ten steps of a recipe. */
#pragma once

/** golden_main — what main returns: every case and every sequence of steps in the file, in f64 and in f32. */
int golden_main(const char *path);
