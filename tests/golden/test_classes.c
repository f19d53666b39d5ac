/* test_classes — the DiT with classes: sequences with one and one without, with and without time, an objective of two passes,
 * and ten steps. */
#include "golden.h"

int main(void) { return golden_main("tests/golden/classes.h5"); }
