#include "base/err.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/version.h"
#include "cmd/cmd.h"
#include "ops/ops.h"
#include "store/h5.h"
#include <string.h>

extern const Command command_train, command_eval, command_sample, command_score, command_logits, command_info,
    command_check, command_help;

const Command *const commands[] = {&command_train, &command_eval,   &command_sample,
                                   &command_score, &command_logits, &command_info,
                                   &command_check, &command_help,   NULL};

int command_find(const Command **c, const char *name) {
  const char *names[16] = {0};
  for (int i = 0; commands[i]; i++) {
    names[i] = commands[i]->name;
    if (strcmp(commands[i]->name, name) == 0) return *c = commands[i], OK;
  }
  const char *near = nearest_word(name, names);
  return RAISE(ERR_USAGE, "unknown command %s%s%s; `mdlm` alone lists them", name, near ? "; did you mean " : "",
               near ? near : "");
}

void command_usage(void) {
  log_info("mdlm — masked diffusion language models on MPI ranks");
  log_info("usage: [mpirun -n RANKS] mdlm COMMAND …");
  for (int i = 0; commands[i]; i++)
    log_info("  mdlm %-6s %-22s %s", commands[i]->name, commands[i]->arguments, commands[i]->purpose);
  log_info("  mdlm --version");
  log_info("DECK is a libconfig file; section.key=value overrides it. `mdlm help` lists every key.");
}

void command_version(void) {
  log_info("mdlm %s (%s)", MDLM_VERSION, version_git());
  log_info("%s", version_build());
  log_info("%s, HDF5 %s, libconfig %s", comm_version(), h5_version(), config_version());
  for (int i = 0; backends[i]; i++) log_info("device %s: %s", backends[i]->name, backends[i]->library());
  const Ops *cuda;
  bool there = backend_find("cuda", &cuda) == OK;
  log_info("device cuda: %s", there ? cuda->library() : "not built, or its libraries are not here");
  err_clear();
}
