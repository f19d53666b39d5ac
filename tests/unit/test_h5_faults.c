/* h5 errors — files that cannot be opened, damage, full disks, other programs' locks, several threads. */
#include "check.h"
#include "store/draft.h"
#include "store_bench.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

static void small_file(const char *path) {
  H5 *f;
  float data[1000];
  for (int i = 0; i < 1000; i++) data[i] = (float)i;
  must(h5_create(&f, path));
  must(h5_write(f, "/data", H5_F32, 1, (int64_t[]){1000}, data));
  must(h5_set_str(f, "/", "format", "test"));
  must(h5_close(&f));
}

static void not_there(void **state) {
  (void)state;
  H5 *f = NULL;
  small_file(bench_path("train.h5"));
  refused(h5_open(&f, bench_path("trian.h5"), false), ERR_DATA, "trian.h5: no such file", "did you mean", "/train.h5?");
  refused(h5_open(&f, bench_path("none/train.h5"), false), ERR_DATA, "none/train.h5", "no directory", "/none");
  refused(h5_open(&f, bench_folder, false), ERR_DATA, bench_folder, "is a directory");
  refused(h5_open(&f, "/dev/null", false), ERR_DATA, "/dev/null", "not a regular file");
  bench_spit(bench_path("empty.h5"), "", 0);
  refused(h5_open(&f, bench_path("empty.h5"), false), ERR_DATA, "empty.h5", "0 bytes");
  for (long n = 1; n < 5000; n += 1234) {
    char text[5000];
    memset(text, '#', sizeof text);
    bench_spit(bench_path("text.h5"), text, n);
    refused(h5_open(&f, bench_path("text.h5"), true), ERR_DATA, "text.h5 is not an HDF5 file");
  }
  refused(h5_create(&f, bench_path("none/new.h5")), ERR_IO, "none/new.h5", "No such file or directory");
  assert_null(f);
  must(h5_close(&f)); /* NULL-safe */
}

static void no_permission(void **state) {
  (void)state;
  int status;
  small_file(bench_path("secret.h5"));
  assert_int_equal(chmod(bench_path("secret.h5"), 0), 0);
  chmod(bench_folder, 0755);
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) { /* root may read everything, so drop to another user */
    H5 *f;
    if (geteuid() == 0 && setuid(65534) != 0) _exit(3);
    _exit(h5_open(&f, bench_path("secret.h5"), false) == ERR_DATA && strstr(err_message(), "Permission denied") ? 0
                                                                                                                : 1);
  }
  waitpid(child, &status, 0);
  assert_int_equal(status, 0);
}

static void truncated(void **state) {
  (void)state;
  long size;
  char header[80];
  H5 *f;
  small_file(bench_path("whole.h5"));
  char *bytes = bench_slurp(bench_path("whole.h5"), &size);
  snprintf(header, sizeof header, "its header says %ld", size);
  const long lengths[] = {1, 7, 8, 9, 20, 47, 48, 49, 96, 200, 1000, size / 2, size - 1};
  for (int i = 0; i < LENGTH(lengths); i++) {
    char length[40];
    snprintf(length, sizeof length, "%ld bytes", lengths[i]);
    bench_spit(bench_path("cut.h5"), bytes, lengths[i]);
    if (lengths[i] >= 48)
      refused(h5_open(&f, bench_path("cut.h5"), false), ERR_DATA, "cut.h5 is truncated", length, header);
    else
      refused(h5_open(&f, bench_path("cut.h5"), false), ERR_DATA, "cut.h5 is ");
  }
  free(bytes);
}

/* Every flipped bit of a chunk is found by its checksum. */
static void flipped(void **state) {
  (void)state;
  H5 *f;
  uint32_t rows[64], got[64];
  for (int i = 0; i < 64; i++) rows[i] = 0xabcd0000u + (uint32_t)i;
  must(h5_create(&f, bench_path("flip.h5")));
  must(h5_make(f, "/rows", H5_U32, 2, (int64_t[]){0, 2}, 8));
  must(h5_append(f, "/rows", H5_U32, 32, rows));
  must(h5_close(&f));
  for (int row = 0; row < 32; row += 5) {
    char where[40];
    long at = bench_find(bench_path("flip.h5"), &rows[2 * row], 8);
    assert_true(at > 0);
    snprintf(where, sizeof where, "rows %d to %d", row, row);
    for (int byte = 0; byte < 8; byte++) {
      bench_flip(bench_path("flip.h5"), at + byte, 1 << byte);
      must(h5_open(&f, bench_path("flip.h5"), false));
      refused(h5_read_rows(f, "/rows", H5_U32, row, 1, got), ERR_DATA, "flip.h5 is damaged", "checksum", "/rows",
              where);
      must(h5_read_rows(f, "/rows", H5_U32, (row + 8) % 32, 1, got)); /* the other chunks are readable */
      must(h5_close(&f));
      bench_flip(bench_path("flip.h5"), at + byte, 1 << byte);
    }
  }
}

/* A seal covers many blocks. Only blocks that are read are checked, and writing to a file removes its seal. */
static void sealed(void **state) {
  (void)state;
  const char *path = bench_path("sealed.h5");
  const int64_t n = 300000;
  static float data[300000];
  float got[10];
  H5 *f;
  for (int i = 0; i < 300000; i++) data[i] = (float)i;
  must(draft_create(&f, path));
  must(h5_write(f, "/data", H5_F32, 1, &n, data));
  assert_false(bench_there(path));
  must(draft_publish(&f, OK, path));
  assert_false(bench_there(bench_path("sealed.h5.tmp")));
  long at = bench_find(path, data + 150000, 400);
  bench_flip(path, at + 8, 1);
  must(h5_open(&f, path, false));
  must(h5_read_rows(f, "/data", H5_F32, 0, 10, got));
  must(h5_read_rows(f, "/data", H5_F32, n - 10, 10, got));
  refused(h5_read_rows(f, "/data", H5_F32, 150000, 10, got), ERR_DATA, "sealed.h5 is damaged",
          "/data, rows 150000 to 150009");
  must(h5_close(&f));
  refused(h5_open(&f, path, true), ERR_DATA, "sealed.h5 is damaged");
  bench_flip(path, at + 8, 1);
  must(h5_open(&f, path, true));
  must(h5_set_int(f, "/", "x", 1));
  must(h5_close(&f));
  long size;
  free(bench_slurp(path, &size));
  assert_int_equal(bench_sealed(path), size);
  must(h5_open(&f, path, false));
  must(h5_close(&f));
  must(draft_create(&f, path)); /* an abandoned draft leaves no file and does not change the old one */
  assert_int_equal(draft_publish(&f, ERR_NUMERIC, path), ERR_NUMERIC);
  assert_true(bench_there(path) && !bench_there(bench_path("sealed.h5.tmp")));
}

/* Write a file with all kinds of objects; returns the code of the first failure, or OK. */
static int write_all(const char *path) {
  H5 *f;
  static float data[5000];
  int err, closed;
  TRY(h5_create(&f, path));
  err = h5_write(f, "/group/data", H5_F32, 1, (int64_t[]){5000}, data);
  if (err == OK) err = h5_make(f, "/rows", H5_F32, 1, (int64_t[]){0}, 100);
  for (int i = 0; err == OK && i < 20; i++) err = h5_append(f, "/rows", H5_F32, 250, data);
  if (err == OK) err = h5_set_str(f, "/", "text", "a string");
  closed = h5_close(&f);
  return err != OK ? err : closed;
}

static int in_child(int (*what)(const char *path), const char *path, long limit) {
  int status;
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    struct rlimit r = {(rlim_t)limit, (rlim_t)limit};
    signal(SIGXFSZ, SIG_IGN);
    if (limit >= 0 && setrlimit(RLIMIT_FSIZE, &r) != 0) _exit(99);
    exit(what(path)); /* not _exit: HDF5's exit handlers must work, too */
  }
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int write_refused(const char *path) {
  int err = write_all(path);
  if (err == OK) return 0;
  if (err != ERR_IO || !strstr(err_message(), path) || !strstr(err_message(), strerror(EFBIG))) return 50;
  if (H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) != 0) return 51; /* no object is left open */
  if (write_all("/dev/null/x") != ERR_IO) return 52;                     /* and the HDF5 library still works */
  return err;
}

static void no_room(void **state) {
  (void)state;
  long size;
  must(write_all(bench_path("full.h5")));
  free(bench_slurp(bench_path("full.h5"), &size));
  for (long limit = 0; limit < size; limit += limit < 3000 ? 101 : 1999)
    assert_int_equal(in_child(write_refused, bench_path("room.h5"), limit), ERR_IO);
  assert_int_equal(in_child(write_refused, bench_path("room.h5"), size - 1), ERR_IO);
  assert_int_equal(in_child(write_refused, bench_path("room.h5"), size), OK);
}

static int write_on_full_disk(const char *path) {
  int err = write_all(path);
  return err == ERR_IO && strstr(err_message(), strerror(ENOSPC)) ? OK : 50;
}

static void full_disk(void **state) {
  (void)state;
  const char *disk = bench_path("disk");
  assert_int_equal(mkdir(disk, 0755), 0);
  if (mount("tmpfs", disk, "tmpfs", 0, "size=16k") != 0) {
    print_message("needs the right to mount a small file system\n");
    skip();
  }
  int status = in_child(write_on_full_disk, bench_path("disk/full.h5"), -1);
  umount(disk);
  assert_int_equal(status, OK);
}

static void locks_are_ignored(void **state) {
  (void)state;
  H5 *f, *g;
  small_file(bench_path("locked.h5"));
  int fd = open(bench_path("locked.h5"), O_RDONLY);
  assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
  must(h5_open(&f, bench_path("locked.h5"), false));
  must(h5_open(&g, bench_path("locked.h5"), true)); /* a reader does not block a writer */
  must(h5_set_int(g, "/", "more", 1));
  must(h5_close(&g));
  must(h5_close(&f));
  close(fd);
}

static void *read_often(void *arg) {
  H5 *f;
  float got[1000];
  for (int i = 0; i < (check_watched() ? 8 : 50); i++) {
    if (h5_open(&f, arg, false) != OK) return "open";
    for (int k = 0; k < 20; k++)
      if (h5_read_rows(f, "/data", H5_F32, k, 500, got) != OK || got[7] != (float)(k + 7)) return "read";
    if (h5_read_rows(f, "/none", H5_F32, 0, 1, got) != ERR_DATA || !strstr(err_message(), "/none")) return "message";
    h5_close(&f);
  }
  return NULL;
}

static void threads(void **state) {
  (void)state;
  pthread_t t[4];
  char path[4][400];
  void *failed;
  for (int i = 0; i < 4; i++) {
    snprintf(path[i], sizeof path[i], "%s/thread%d.h5", bench_folder, i);
    small_file(path[i]);
    assert_int_equal(pthread_create(&t[i], NULL, read_often, path[i]), 0);
  }
  for (int i = 0; i < 4; i++) {
    pthread_join(t[i], &failed);
    if (failed) fail_msg("%s", (char *)failed);
  }
}

/* ---- a child that hangs in a lock that another thread held during fork */
static int hanging; /* so many of the next children hang */
static void before_fork(void) { hanging--; }
static void hang_in_child(void) {
  while (hanging >= 0) pause();
}
static void hung_probe(void **state) {
  (void)state;
  H5 *f;
  if (!check_long()) {
    print_message("# skip: make check-long waits 20 s for a child that hangs\n");
    skip();
  }
  H5Fclose(H5Fcreate(bench_path("plain.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT)); /* no seal: it is probed */
  assert_int_equal(pthread_atfork(before_fork, NULL, hang_in_child), 0);
  hanging = 1;
  must(h5_open(&f, bench_path("plain.h5"), false));
  must(h5_close(&f));
  assert_int_equal(hanging, -1); /* a second child was started */
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(not_there), cmocka_unit_test(no_permission),
                                     cmocka_unit_test(truncated), cmocka_unit_test(flipped),
                                     cmocka_unit_test(sealed),    cmocka_unit_test(no_room),
                                     cmocka_unit_test(full_disk), cmocka_unit_test(locks_are_ignored),
                                     cmocka_unit_test(threads),   cmocka_unit_test(hung_probe)};
  return cmocka_run_group_tests(tests, bench_setup, bench_teardown);
}
