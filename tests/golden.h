/* golden — compare the program with files of values computed independently in float64 (tests/golden/make_golden.py):
 * logits, losses and gradients of a network under an objective, and ten steps of a recipe. */
#pragma once

/** golden_main — run every case and every sequence of steps in the file, in f64 and in f32; the exit status of main. */
int golden_main(const char *path);
