#include "store/seal.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/files.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { BLOCK = 65536 };
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a seal is written in the byte order of memory");

static const char magic[8] = "MDLMSEAL";
typedef struct Foot { /* the last bytes of a sealed file */
  uint64_t n, block, sum;
  char magic[8];
} Foot;

struct Seal {
  int64_t n, blocks;
  uint64_t *sums; /* [blocks] */
  bool *checked;  /* [blocks] */
  char *block;    /* [BLOCK] */
};

static bool read_all(int fd, void *to, size_t n, int64_t at) { return files_read(fd, to, n, at) == (int64_t)n; }

static int create(Seal **out, int64_t n) {
  Seal *s;
  int err;
  *out = NULL;
  TRY(mem_alloc(&s, sizeof *s));
  s->n = n;
  s->blocks = (n + BLOCK - 1) / BLOCK;
  TRY_TO(failed, mem_alloc(&s->sums, (size_t)s->blocks * sizeof *s->sums));
  TRY_TO(failed, mem_alloc(&s->checked, (size_t)s->blocks * sizeof *s->checked));
  TRY_TO(failed, mem_alloc(&s->block, BLOCK));
  *out = s;
  return OK;
failed:
  seal_close(&s);
  return err;
}

void seal_close(Seal **s) {
  if (!*s) return;
  mem_free(&(*s)->sums);
  mem_free(&(*s)->checked);
  mem_free(&(*s)->block);
  mem_free(s);
}

int64_t seal_bytes(const Seal *s) { return s->n; }

static bool block_sum(Seal *s, int fd, int64_t b, uint64_t *sum) {
  size_t n = b + 1 < s->blocks ? BLOCK : (size_t)(s->n - b * BLOCK);
  if (!read_all(fd, s->block, n, b * BLOCK)) return false;
  *sum = XXH3_64bits(s->block, n);
  return true;
}

/* The checksum over the sums and the foot's n and block; false if out of memory. */
static bool foot_sum(const Seal *s, const Foot *foot, uint64_t *sum) {
  XXH3_state_t *state = XXH3_createState();
  if (!state) return false;
  XXH3_64bits_reset(state);
  XXH3_64bits_update(state, s->sums, (size_t)s->blocks * sizeof *s->sums);
  XXH3_64bits_update(state, foot, 2 * sizeof foot->n);
  *sum = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return true;
}

static bool append(Seal *s, int fd) {
  Foot foot = {.n = (uint64_t)s->n, .block = BLOCK};
  const size_t size = (size_t)s->blocks * sizeof *s->sums;
  memcpy(foot.magic, magic, sizeof magic);
  for (int64_t b = 0; b < s->blocks; b++)
    if (!block_sum(s, fd, b, &s->sums[b])) return false;
  return foot_sum(s, &foot, &foot.sum) && files_write(fd, s->sums, size, s->n) == 0 &&
         files_write(fd, &foot, sizeof foot, s->n + (int64_t)size) == 0;
}

int seal_append(const char *path) {
  struct stat st;
  Seal *s;
  int fd = open(path, O_RDWR | O_CLOEXEC), err;
  CHECK(fd >= 0, ERR_IO, "cannot open %s: %s", path, strerror(errno));
  err = fstat(fd, &st) == 0 ? create(&s, st.st_size) : RAISE(ERR_IO, "cannot read %s: %s", path, strerror(errno));
  if (err == OK) {
    if (!append(s, fd)) err = RAISE(ERR_IO, "cannot write %s: %s", path, strerror(errno));
    seal_close(&s);
  }
  if (close(fd) != 0 && err == OK) err = RAISE(ERR_IO, "cannot write %s: %s", path, strerror(errno));
  return err;
}

bool seal_there(const char *path) {
  Foot foot;
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  bool there = fd >= 0 && fstat(fd, &st) == 0 && st.st_size >= (int64_t)sizeof foot &&
               read_all(fd, &foot, sizeof foot, st.st_size - (int64_t)sizeof foot) &&
               memcmp(foot.magic, magic, sizeof magic) == 0;
  if (fd >= 0) close(fd);
  return there;
}

int seal_open(Seal **out, int fd, int64_t size) {
  Foot foot;
  Seal *s;
  uint64_t sum;
  *out = NULL;
  if (size < (int64_t)sizeof foot || !read_all(fd, &foot, sizeof foot, size - (int64_t)sizeof foot)) return OK;
  if (memcmp(foot.magic, magic, sizeof magic) != 0) return OK;
  bool fits = foot.block == BLOCK && foot.n < (uint64_t)size &&
              (foot.n + BLOCK - 1) / BLOCK * sizeof *s->sums + sizeof foot == (uint64_t)size - foot.n;
  CHECK(fits, ERR_DATA, "its seal does not match its length");
  TRY(create(&s, (int64_t)foot.n));
  if (read_all(fd, s->sums, (size_t)s->blocks * sizeof *s->sums, s->n) && foot_sum(s, &foot, &sum) && sum == foot.sum) {
    *out = s;
    return OK;
  }
  seal_close(&s);
  return RAISE(ERR_DATA, "its seal has a checksum error");
}

bool seal_holds(Seal *s, int fd, int64_t first, int64_t n) {
  for (int64_t b = first / BLOCK; b < s->blocks && b * BLOCK < first + n; b++) {
    uint64_t sum;
    if (s->checked[b]) continue;
    if (!block_sum(s, fd, b, &sum) || sum != s->sums[b]) return false;
    s->checked[b] = true;
  }
  return true;
}
