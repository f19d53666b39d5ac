/* test_block — the DiT in block diffusion: the pass over a noisy and a clean half, a time for each block, and ten steps. */
#include "golden.h"

int main(void) { return golden_main("tests/golden/block.h5"); }
