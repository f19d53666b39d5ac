/* mdlm help [WORD…] — what a word means: a command, a section, a key, or whatever mentions it. */
#include "base/err.h"
#include "base/log.h"
#include "base/nearest.h"
#include "cmd/cmd.h"
#include <stdio.h>
#include <string.h>

enum { MOST_NAMES = 64 };

static int all_keys(void) {
  int found;
  log_info("The keys of a deck, with default and range; `mdlm help WORD` searches them.");
  for (int i = 0; config_section(i); i++) {
    page_plain.part(config_section(i));
    TRY(config_help(&page_plain, CONFIG_SECTION, config_section(i), &found));
  }
  return OK;
}

/* The command, the section and the key of that very name. */
static int print_named(const char *word, int *found) {
  const Command *c = command_named(word);
  int keys = 0;
  *found = c != NULL;
  if (c) command_page(c);
  for (int i = 0; config_section(i); i++) {
    if (strcmp(config_section(i), word) != 0) continue;
    log_info("%sKeys of section %s", c ? "\n" : "", word);
    TRY(config_help(&page_plain, CONFIG_SECTION, word, &keys));
  }
  *found += keys;
  if (*found == 0) TRY(config_help(&page_plain, CONFIG_NAME, word, found));
  return OK;
}

static int commands_about(const char *word, bool after) {
  int found = 0;
  for (int i = 0; commands[i]; i++) {
    const Command *c = commands[i];
    if (!config_mentions(c->name, word) && !config_mentions(c->purpose, word) && !config_mentions(c->about, word))
      continue;
    if (found++ == 0) log_info("%sCommands", after ? "\n" : "");
    page_plain.row(12, c->name, c->purpose);
  }
  return found;
}

/* Keys whose name has the word, then the keys and commands whose help mentions it. */
static int search(const char *word, int *found) {
  int mention = 0;
  TRY(config_help(&page_plain, CONFIG_PART, word, found));
  TRY(config_help(&page_plain, CONFIG_TEXT, word, &mention));
  *found += mention;
  *found += commands_about(word, *found > 0);
  return OK;
}

/* The nearest command or section, else the nearest key. */
static int nothing_about(const char *word) {
  const char *names[MOST_NAMES + 1] = {0};
  int n = 0;
  for (int i = 0; commands[i] && n < MOST_NAMES; i++) names[n++] = commands[i]->name;
  for (int i = 0; config_section(i) && n < MOST_NAMES; i++) names[n++] = config_section(i);
  const char *near = nearest_word(word, names);
  CHECK(!near, ERR_USAGE, "help: nothing about %s; did you mean %s?", word, near);
  return config_help_unknown(word);
}

static int help_about(const char *word) {
  int found = 0;
  TRY(print_named(word, &found));
  if (found == 0) TRY(search(word, &found));
  return found ? OK : nothing_about(word);
}

static int help(Comm *comm, const Config *cfg, int argc, char **argv, int *exit_code) {
  (void)cfg, (void)exit_code;
  char word[256] = "";
  int err = OK;
  for (int i = 0; i < argc; i++) {
    if (i > 0) strncat(word, " ", sizeof word - strlen(word) - 1);
    strncat(word, argv[i], sizeof word - strlen(word) - 1);
  }
  if (comm->rank == 0) err = strcmp(word, "--man") == 0 ? command_man() : *word ? help_about(word) : all_keys();
  return comm_agree(comm, err);
}

extern const Command command_help;
const Command command_help = {.name = "help",
                              .arguments = "[WORD…]",
                              .purpose = "explain a command, a section or a key; search help texts",
                              .run = help,
                              .about = "Without a word it lists every key with its default, range and unit. With one "
                                       "it explains the command, the section and the key of that name, or else lists "
                                       "what mentions it.",
                              .reads = "nothing",
                              .writes = "nothing",
                              .example = "mdlm help learning rate"};
