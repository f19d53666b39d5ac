/* device — linked with the tests of ops, makes them test the CUDA backend on a GPU. */
#include "check.h"

const char *check_device = "cuda";
