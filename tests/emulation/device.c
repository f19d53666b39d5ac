/* device — linked with the tests of ops, makes them test the CUDA backend emulated on the CPU. */
#include "check.h"

const char *check_device = "cuda";
bool check_slow = true;
