/* version — the version of this binary, stored in every file that it writes. */
#pragma once
#define MDLM_VERSION "0.5.0"
/** version_git — the git revision the binary was built from, with "-dirty" where the tree had changes; "unknown"
 * outside git. */
const char *version_git(void);
/** version_build — compiler and flags. */
const char *version_build(void);
