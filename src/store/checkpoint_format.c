#include "store/checkpoint_format.h"
#include "base/err.h"
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "checksums are defined over little-endian bytes");

const char *const checkpoint_groups[CKPT_GROUPS] = {"params", "ema", "adam_m", "adam_v", "trace_1", "trace_2"};

const char *const checkpoint_sigma_names[CKPT_TRACES] = {"trace_1_sigma", "trace_2_sigma"};

int checkpoint_array_name(char name[CHECKPOINT_NAME], const char *group, const char *array) {
  int n = snprintf(name, CHECKPOINT_NAME, "/%s/%s", group, array);
  CHECK(n < CHECKPOINT_NAME && !strchr(array, '/'), ERR_USAGE, "the parameter name %s cannot be stored in a checkpoint",
        array);
  return OK;
}

size_t checkpoint_array_bytes(int rank, const int64_t *dims) {
  size_t n = sizeof(float);
  for (int i = 0; i < rank; i++) n *= (size_t)dims[i];
  return n;
}

static const char *sum_text(char text[CHECKPOINT_SUM], uint64_t sum) {
  snprintf(text, CHECKPOINT_SUM, "%016llx", (unsigned long long)sum);
  return text;
}

int checkpoint_sum_set(H5 *f, const char *name, uint64_t sum) {
  char text[CHECKPOINT_SUM];
  return h5_set_str(f, name, "xxh3", sum_text(text, sum));
}

int checkpoint_sum_check(H5 *f, const char *name, uint64_t sum) {
  char have[CHECKPOINT_SUM + 1], want[CHECKPOINT_SUM];
  TRY(h5_get_text(f, name, "xxh3", have, sizeof have));
  CHECK(strcmp(have, sum_text(want, sum)) == 0, ERR_DATA,
        "%s is damaged: checksum error in %s; restore it or make it again", h5_path(f), name);
  return OK;
}

uint64_t checkpoint_sum(const void *data, size_t bytes) { return XXH3_64bits(data, bytes); }

uint64_t checkpoint_sum_offsets(const Vocab *v) {
  return checkpoint_sum(v->offsets, (size_t)(v->size + 1) * sizeof *v->offsets);
}
