/* pages — the overview, the page of a command, the versions, the man page. */
#include "base/err.h"
#include "base/log.h"
#include "base/version.h"
#include "cmd/cmd.h"
#include "ops/ops.h"
#include "store/h5.h"
#include <stdio.h>

static const char PURPOSE[] = "masked diffusion language models on MPI ranks";
enum { COLUMN = 12, WIDE = 24 };

static const struct {
  int code;
  const char *meaning;
} exits[] = {
    {OK, "done"},
    {ERR_USAGE, "the command line or the deck is wrong"},
    {ERR_DATA, "a file is missing, unreadable, damaged or does not fit the model"},
    {ERR_IO, "a file could not be written"},
    {ERR_SHAPE, "tensor shapes disagree"},
    {ERR_MEMORY, "out of host or device memory"},
    {ERR_DEVICE, "a device library failed"},
    {ERR_COMM, "MPI or NCCL failed, or the watchdog found a rank lost or hanging"},
    {ERR_NUMERIC, "NaN or infinity in a loss, gradient or output"},
    {ERR_BUSY, "another job holds run.dir, or writes the same output"},
    {EXIT_REQUEUE,
     "stopped by a signal, or training by a file STOP; finished work is kept: the same command goes on from it"},
};

static void exit_rows(const PageStyle *page, bool stops) {
  char code[16];
  for (size_t i = 0; i < sizeof exits / sizeof exits[0]; i++) {
    if (exits[i].code == EXIT_REQUEUE && !stops) continue;
    snprintf(code, sizeof code, "%d", exits[i].code);
    page->row(COLUMN, code, exits[i].meaning);
  }
}

static void usage(const PageStyle *page, const Command *c) {
  char line[256];
  snprintf(line, sizeof line, "%smdlm %s %s", c->deck ? "[mpirun -n RANKS] " : "", c->name, c->arguments);
  page->code(line);
}

static void files(const PageStyle *page, const Command *c) {
  char sections[256] = "";
  size_t used = 0;
  for (const char *s = c->sections; s && *s && used + 3 < sizeof sections; s++) {
    if (*s == ' ') sections[used++] = ',';
    sections[used++] = *s;
  }
  page->row(COLUMN, "Reads", c->reads);
  page->row(COLUMN, "Writes", c->writes);
  if (c->sections) page->row(COLUMN, "Deck", sections);
}

void command_page(const Command *c) {
  const PageStyle *page = &page_plain;
  log_info("mdlm %s — %s", c->name, c->purpose);
  page->section("Usage");
  usage(page, c);
  page->section("Description");
  page->text(c->about);
  page->section(c->deck ? "Files and sections of the deck" : "Files");
  files(page, c);
  page->section("Example");
  page->code(c->example);
  page->section("Exit codes");
  exit_rows(page, c->stops);
  if (!c->deck) return;
  page->section("Help");
  page->text("`mdlm help SECTION` explains the keys of a section, `mdlm help WORD` searches all of them.");
}

static void running(const PageStyle *page) {
  page->text("One MPI rank per GPU, or per group of CPU cores; without mpirun, one rank.");
  page->code("mpirun -n 4 --bind-to none mdlm train deck.cfg run.dir=runs/a");
  page->text("Open MPI binds each rank to one core unless --bind-to none is given, and refuses to run as root without "
             "--allow-run-as-root. slurm/train.sbatch is a job script that saves before the time limit and requeues "
             "itself.");
}

static void decks(const PageStyle *page) {
  page->text("A deck is a libconfig file of sections and keys, such as input/demo.cfg; each section.key=value on the "
             "command line overrides it.");
}

static void help_rows(const PageStyle *page) {
  page->row(WIDE, "mdlm COMMAND --help", "what a command does, reads and writes");
  page->row(WIDE, "mdlm help WORD", "a command, section or key, or what mentions WORD");
  page->row(WIDE, "mdlm help", "every key of a deck");
  page->row(WIDE, "mdlm --version", "revision, compiler, libraries and devices");
}

static void synopsis(const PageStyle *page) {
  page->code("mdlm COMMAND DECK [section.key=value…]");
  page->code("mpirun -n RANKS --bind-to none mdlm COMMAND DECK [section.key=value…]");
}

void command_overview(void) {
  const PageStyle *page = &page_plain;
  page->title("mdlm", MDLM_VERSION, PURPOSE);
  page->section("Usage");
  synopsis(page);
  page->section("Commands");
  for (int i = 0; commands[i]; i++) page->row(COLUMN, commands[i]->name, commands[i]->purpose);
  page->section("Decks");
  decks(page);
  page->section("Running");
  running(page);
  page->section("Help");
  help_rows(page);
  page->row(WIDE, "man mdlm", "all of this, after `make install`");
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

int command_man(void) {
  const PageStyle *page = &page_roff;
  char heading[256];
  page->title("mdlm", MDLM_VERSION, PURPOSE);
  page->section("Synopsis");
  synopsis(page);
  page->section("Description");
  page->text("mdlm trains, evaluates and samples masked diffusion language models (MDLM, arXiv:2406.07524) and their "
             "baselines D3PM, SEDD and autoregressive models, on CPUs and GPUs.");
  decks(page);
  running(page);
  page->section("Commands");
  for (int i = 0; commands[i]; i++) {
    snprintf(heading, sizeof heading, "mdlm %s %s", commands[i]->name, commands[i]->arguments);
    page->part(heading);
    page->text(commands[i]->about);
    files(page, commands[i]);
    page->text("Example:");
    page->code(commands[i]->example);
  }
  page->section("Keys of a deck");
  for (int i = 0; config_section(i); i++) {
    int found;
    page->part(config_section(i));
    TRY(config_help(page, CONFIG_SECTION, config_section(i), &found));
  }
  page->section("Exit status");
  exit_rows(page, true);
  page->section("Environment");
  page->row(COLUMN, "MDLM_TRACE", "if set, an error is printed with its call trace");
  page->row(COLUMN, "OMP_PROC_BIND", "if set, threads are pinned by OpenMP instead of device.pin");
  page->section("Help");
  help_rows(page);
  page->section("See also");
  page->text("mpirun(1), srun(1)");
  return OK;
}
