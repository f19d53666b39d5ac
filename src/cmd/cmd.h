/* cmd — the program's commands: one file and one row of the table each. The rows drive main, help and the man page. */
#pragma once
#include "base/config.h"
#include "dist/comm.h"

typedef struct Command {
  const char *name, *arguments;
  const char *purpose; /* one line */
  bool deck;           /* the first argument is a deck, the rest are key=value */
  bool stops;          /* signals that ask for a stop wait until it looks for them (stop.h); others just end */
  bool logs;           /* what it prints is no result: it goes on where that cannot be printed */
  int (*run)(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code);
  const char *about; /* a paragraph */
  const char *reads, *writes;
  const char *sections; /* of the deck that it reads, with blanks between them; NULL: no deck */
  const char *example;
} Command;

extern const Command *const commands[]; /* NULL-ended */

/** command_named — the command of that name, NULL if there is none. */
const Command *command_named(const char *name);
/** command_unknown — raise ERR_USAGE for a name that is no command, with the nearest one. */
int command_unknown(const char *name);
/** command_overview — what `mdlm` alone prints. */
void command_overview(void);
/** command_page — what `mdlm COMMAND --help` prints. */
void command_page(const Command *c);
/** command_version — what `mdlm --version` prints: revision, compiler, flags and the libraries in use. */
void command_version(void);
/** command_man — the man page, in roff, on stdout. */
int command_man(void);
