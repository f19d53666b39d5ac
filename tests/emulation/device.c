/* device — the tests of ops linked with this test the CUDA backend on the CPU emulation. */
#include "check.h"

const char *check_device = "cuda";
bool check_slow = true;
