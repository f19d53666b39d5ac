#include "base/err.h"
#include "base/nearest.h"
#include "cmd/cmd.h"
#include <string.h>

extern const Command command_train, command_eval, command_sample, command_score, command_logits, command_info,
    command_check, command_compare, command_help, command_sweep, command_profile, command_mix, command_likelihood;

const Command *const commands[] = {&command_train,   &command_eval,
                                   &command_profile, &command_sweep,
                                   &command_compare, &command_sample,
                                   &command_score,   &command_likelihood,
                                   &command_logits,  &command_mix,
                                   &command_check,   &command_info,
                                   &command_help,    NULL};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

const Command *command_named(const char *name) {
  for (int i = 0; commands[i]; i++)
    if (strcmp(commands[i]->name, name) == 0) return commands[i];
  return NULL;
}

int command_unknown(const char *name) {
  const char *names[COMMANDS] = {0};
  for (int i = 0; commands[i]; i++) names[i] = commands[i]->name;
  const char *near = nearest_word(name, names);
  return RAISE(ERR_USAGE, "unknown command %s%s%s; `mdlm` alone lists them", name, near ? "; did you mean " : "",
               near ? near : "");
}
