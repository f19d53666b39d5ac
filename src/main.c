/* main — MPI up, the command line, one command, the error if there is one, MPI down. Only this file and the watchdog
 * (dist/watch.c) exit or abort. */
#include "base/err.h"
#include "base/log.h"
#include "base/stop.h"
#include "cmd/cmd.h"
#include "dist/watch.h"
#include <fcntl.h>
#include <mpi.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_help(const char *word) { return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0; }

static bool has_help(int argc, char **argv) {
  for (int i = 0; i < argc; i++)
    if (is_help(argv[i])) return true;
  return false;
}

static int run_deck(Comm *comm, const Command *command, int argc, char **argv, int *exit_code) {
  Config cfg;
  int err = argc < 1 ? RAISE(ERR_USAGE, "usage: mdlm %s %s; `mdlm %s --help` tells more", command->name,
                             command->arguments, command->name)
                     : config_load(&cfg, argv[0], argc - 1, argv + 1);
  TRY(comm_agree(comm, err));
  err = watch_start(comm, cfg.dist_timeout, cfg.dist_heartbeat);
  if (err == OK) err = command->run(comm, &cfg, argc - 1, argv + 1, exit_code);
  config_free(&cfg);
  return err;
}

static int run(Comm *comm, const Command *command, int argc, char **argv, int *exit_code) {
  if (argc < 2 || is_help(argv[1])) {
    command_overview();
    *exit_code = argc < 2 ? ERR_USAGE : 0;
    return OK;
  }
  if (strcmp(argv[1], "--version") == 0) return command_version(), OK;
  if (!command) return comm_agree(comm, command_unknown(argv[1]));
  if (has_help(argc - 2, argv + 2)) return command_page(command), OK;
  if (command->deck) return run_deck(comm, command, argc - 2, argv + 2, exit_code);
  return command->run(comm, NULL, argc - 2, argv + 2, exit_code);
}

/* Report the error once: of the ranks that return together with an error of their own, the lowest one prints it, and all
 * exit with its code. Returns the exit code. */
static int report(int err, Comm *comm) {
  enum { CODES = 256 };
  const int64_t none = (int64_t)comm->size * CODES + ERR_COMM;
  int64_t mine = err == ERR_ELSEWHERE ? none : (int64_t)comm->rank * CODES + err, first = mine;
  if (err_agreed() && comm_all_reduce(comm, &first, 1, COMM_I64, COMM_MIN) != OK) return ERR_COMM;
  if (first == mine && mine != none) {
    log_error("%s", err_message());
    if (getenv("MDLM_TRACE")) log_error("trace:\n%s", err_backtrace());
  }
  return (int)(first % CODES);
}

/* What a command prints is its result, and an error if it could not be printed. A run goes on without its log. */
static int check_output(const Command *command) {
  if (log_lost() == 0) return OK;
  if (!command || !command->logs) return RAISE(ERR_IO, "cannot write to standard output: %s", strerror(log_lost()));
  log_warn("a part of the log is lost: cannot write to standard output: %s", strerror(log_lost()));
  return OK;
}

/* A file above the size limit and a pipe that no one reads are errors of write, not deaths: the one is reported with the
 * file's name, the other does not end a run whose log it was. A standard stream that is closed is opened on nothing, lest
 * a checkpoint get its number and the log be written into it. */
static void prepare_output(void) {
  signal(SIGXFSZ, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) return;
}

int main(int argc, char **argv) {
  int level, exit_code = 0;
  prepare_output();
  const Command *command = argc > 1 ? command_named(argv[1]) : NULL;
  if (command && command->stops) stop_block(); /* before MPI starts its threads */
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
  Comm comm = {0};
  int err = comm_mpi_create(&comm);
  log_init(comm.rank, comm.size);
  if (err == OK) err = run(&comm, command, argc, argv, &exit_code);
  if (err == OK) err = comm_agree(&comm, check_output(command));
  if (err) {
    exit_code = report(err, &comm);
    if (comm.size > 1 && !err_agreed()) MPI_Abort(MPI_COMM_WORLD, exit_code);
  }
  comm_destroy(&comm);
  MPI_Finalize();
  watch_stop();
  return exit_code;
}
