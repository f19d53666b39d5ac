#include "base/version.h"

#include "version.gen.h" /* written by the Makefile */

const char *version_git(void) { return VERSION_GIT; }
const char *version_build(void) { return VERSION_BUILD; }
