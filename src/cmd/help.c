/* mdlm help [KEY] — the keys of a deck. */
#include "base/err.h"
#include "base/log.h"
#include "cmd/cmd.h"

static int help(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)cfg, (void)exit_code;
  int err = OK;
  if (comm->rank == 0) err = config_help(argc > 0 ? argv[0] : NULL);
  return comm_agree(comm, err);
}

extern const Command command_help;
const Command command_help = {"help", "[KEY]", "what the keys of a deck mean: type, default, range, unit", false, help};
