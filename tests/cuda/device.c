/* device — the tests of ops linked with this test the CUDA backend on a GPU. */
#include "check.h"

const char *check_device = "cuda";
