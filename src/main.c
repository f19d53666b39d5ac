/* main — MPI up, the command line, one command, the error if there is one, MPI down. Only this file exits or aborts. */
#include "base/err.h"
#include "base/log.h"
#include "base/stop.h"
#include "cmd/cmd.h"
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

static int run(Comm *comm, int argc, char **argv, int *exit_code) {
  if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
    command_usage();
    *exit_code = argc < 2 ? ERR_USAGE : 0;
    return OK;
  }
  if (strcmp(argv[1], "--version") == 0) {
    command_version();
    return OK;
  }
  const Command *command;
  TRY_ALL(comm, command_find(&command, argv[1]));
  if (!command->deck) return command->run(comm, NULL, argc - 2, argv + 2, exit_code);
  Config cfg;
  int err = argc < 3 ? RAISE(ERR_USAGE, "usage: mdlm %s %s", command->name, command->arguments)
                     : config_load(&cfg, argv[2], argc - 3, argv + 3);
  TRY(comm_agree(comm, err));
  err = command->run(comm, &cfg, argc - 3, argv + 3, exit_code);
  config_free(&cfg);
  return err;
}

/* Say what went wrong, once: of the ranks that return together with an error of their own, the first one speaks. */
static void report(int err, Comm *comm) {
  int64_t first = err == ERR_ELSEWHERE ? comm->size : comm->rank;
  if (err_agreed() && comm_all_reduce(comm, &first, 1, COMM_I64, COMM_MIN) != OK) return;
  if (first != comm->rank) return;
  log_error("%s", err_message());
  if (getenv("MDLM_TRACE")) log_error("trace:\n%s", err_backtrace());
}

int main(int argc, char **argv) {
  int level, exit_code = 0;
  if (argc > 1 && strcmp(argv[1], "train") == 0) stop_block(); /* it can stop between steps; the rest just ends */
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
  Comm comm = {0};
  int err = comm_mpi_create(&comm);
  log_init(comm.rank, comm.size);
  if (err == OK) err = run(&comm, argc, argv, &exit_code);
  if (err) {
    report(err, &comm);
    exit_code = err == ERR_ELSEWHERE ? 1 : err;
    if (comm.size > 1 && !err_agreed()) MPI_Abort(MPI_COMM_WORLD, exit_code);
  }
  comm_destroy(&comm);
  MPI_Finalize();
  return exit_code;
}
