/* device — linked with a test program, makes it test the CUDA backend on a GPU. */
#include "check.h"

const char *check_device = "cuda";
