/* cmd — the program's commands: one file and one row of the table each. */
#pragma once
#include "base/config.h"
#include "dist/comm.h"

typedef struct Command {
  const char *name, *arguments, *purpose;
  bool deck; /* the first argument is a deck, the rest are key=value */
  int (*run)(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code);
} Command;

extern const Command *const commands[]; /* NULL-ended */

/** command_find — the command of that name; ERR_USAGE with the nearest one. */
int command_find(const Command **c, const char *name);
/** command_version — what `mdlm --version` prints: revision, compiler, flags and the libraries in use. */
void command_version(void);
/** command_usage — what `mdlm` alone prints. */
void command_usage(void);
