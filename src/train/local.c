#include "train/local.h"
#include "base/err.h"
#include "base/log.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <xxhash.h>

static const char ID_FILE[] = "local_id";
enum { ID = 17, FOLDER = 26 };

/* ---- the folder */
static bool read_id(const RunDir *run, char id[ID]) {
  char path[512];
  FILE *f = fopen(rundir_file(run, ID_FILE, path), "r");
  bool whole = f && fscanf(f, "%16[0-9a-f]", id) == 1 && strlen(id) == ID - 1;
  if (f) fclose(f);
  return whole;
}

static int make_id(const RunDir *run, char id[ID]) {
  uint64_t number = 0;
  CHECK(getrandom(&number, sizeof number, 0) == (ssize_t)sizeof number, ERR_IO, "no random number from the system");
  snprintf(id, ID, "%016llx", (unsigned long long)number);
  return rundir_write(run, ID_FILE, id);
}

/* The folder's name: the number, and a checksum of where run.dir is. */
static void name_folder(const RunDir *run, const char *id, char folder[FOLDER]) {
  char *path = realpath(run->path, NULL);
  const char *where = path ? path : run->path;
  snprintf(folder, FOLDER, "%s-%08x", id, (unsigned)XXH32(where, strlen(where), 0));
  free(path);
}

static int find_folder(Local *l, const char *dir, const char *id) {
  char host[64] = "";
  gethostname(host, sizeof host - 1);
  int n = snprintf(l->dir.path, sizeof l->dir.path, "%s/%s", dir, id);
  CHECK(n > 0 && n < (int)sizeof l->dir.path, ERR_USAGE, "train.local_dir: a path of %zu characters is too long",
        strlen(dir));
  CHECK(rundir_make(l->dir.path) && access(l->dir.path, W_OK) == 0, ERR_IO,
        "train.local_dir = %s: cannot make or write the folder %s on %s", dir, id, host);
  return OK;
}

int local_open(Local *l, const char *dir, const RunDir *run, bool fresh, Comm *comm) {
  char id[ID] = "", folder[FOLDER] = "";
  *l = (Local){.comm = comm};
  if (*dir == 0) return OK;
  TRY_ALL(comm, comm_node(comm, &l->node));
  l->used = true;
  TRY_ALL(comm, comm->rank > 0 || (!fresh && read_id(run, id)) ? OK : make_id(run, id));
  if (comm->rank == 0) name_folder(run, id, folder);
  TRY(comm_broadcast(comm, folder, sizeof folder, 0));
  return comm_agree(comm, l->node.rank > 0 ? OK : find_folder(l, dir, folder));
}

int local_begin(Local *l, Params *p, const History *history, CheckpointGroup groups) {
  if (!l->used) return OK;
  return comm_agree(l->comm, l->node.rank > 0 ? OK : saver_create(&l->saver, &l->dir, p, history, groups));
}

/* ---- what every node has */
/* Step and digest of the weights of this node's file; step −1: there is none, or it is damaged. */
static int64_t look(const char *path, int64_t *digest) {
  CheckpointState s = {0};
  int64_t step = -1;
  *digest = 0;
  if (access(path, F_OK)) return -1;
  if (checkpoint_verify(path) == OK && checkpoint_read(path, &s) == OK) {
    step = s.step;
    *digest = (int64_t)(XXH3_64bits(s.weights_digest, strlen(s.weights_digest)) >> 1);
  } else {
    log_warn("%s is left out: %s", path, err_message());
    err_clear();
  }
  checkpoint_state_destroy(&s);
  return step;
}

int local_newest(Local *l, int64_t *step, char path[512]) {
  int64_t mine[2] = {-1, 0};
  *step = -1;
  if (!l->used) return OK;
  rundir_file(&l->dir, LOCAL_NAME, path);
  if (l->node.rank == 0) mine[0] = look(path, &mine[1]);
  TRY(comm_broadcast(&l->node, mine, sizeof mine, 0));
  TRY(comm_broadcast(&l->node, path, 512, 0));
  int64_t most[4] = {mine[0], -mine[0], mine[1], -mine[1]};
  TRY(comm_all_reduce(l->comm, most, 4, COMM_I64, COMM_MAX));
  if (most[0] == -most[1] && most[2] == -most[3]) *step = most[0];
  if (*step < 0 && most[0] >= 0) log_warn("the nodes' own checkpoints differ, or some have none: they are not taken");
  return OK;
}

int local_warn(Local *l) {
  int64_t failed = 0;
  if (!l->used) return OK;
  if (l->saver && saver_result(l->saver)) failed = 1;
  if (failed && l->comm->rank == 0) log_warn("%s", err_message());
  err_clear();
  TRY(comm_all_reduce(l->comm, &failed, 1, COMM_I64, COMM_SUM));
  if (failed > 0) log_warn("no checkpoint could be written in train.local_dir on %lld of the nodes", (long long)failed);
  return OK;
}

void local_remove(Local *l) {
  if (l->saver == NULL) return;
  saver_wait(l->saver);
  rundir_remove(&l->dir, LOCAL_NAME);
  rundir_remove(&l->dir, LOCAL_NAME ".tmp"); /* of a job that was killed */
  rmdir(l->dir.path);
}

void local_close(Local *l) {
  saver_destroy(&l->saver);
  if (l->used) comm_destroy(&l->node);
  *l = (Local){0};
}
