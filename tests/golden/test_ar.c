/* test_ar — the autoregressive transformer, its objective and its recipe. Largest error seen: 1.5e-15 in f64 and 9e-7
 * in f32.
 */
#include "golden.h"

int main(void) { return golden_main("tests/golden/ar.h5"); }
