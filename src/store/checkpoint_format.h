/* checkpoint_format — groups, names and checksums inside a checkpoint, shared by what saves and what reads one. */
#pragma once
#include "store/h5.h"
#include "store/vocab.h"

#define CHECKPOINT_FORMAT "mdlm-checkpoint"
enum { CHECKPOINT_VERSION = 1, CHECKPOINT_NAME = 256, CHECKPOINT_SUM = 17 };

typedef enum CheckpointGroup {
  CKPT_PARAMS,
  CKPT_EMA,
  CKPT_ADAM_M,
  CKPT_ADAM_V,
  CKPT_TRACE, /* the first of CKPT_TRACES */
  CKPT_TRACE_2,
  CKPT_GROUPS
} CheckpointGroup;
enum { CKPT_TRACES = CKPT_GROUPS - CKPT_TRACE };

extern const char *const checkpoint_groups[CKPT_GROUPS]; /* their names in the file */

extern const char *const checkpoint_sigma_names[CKPT_TRACES]; /* attributes: the widths of the traces */

/** checkpoint_array_name — name := /group/array. ERR_USAGE: it cannot be stored */
int checkpoint_array_name(char name[CHECKPOINT_NAME], const char *group, const char *array);
/** checkpoint_array_bytes — of float32 values with these dims. */
size_t checkpoint_array_bytes(int rank, const int64_t *dims);
/** checkpoint_sum_set — store the checksum of a data set. */
int checkpoint_sum_set(H5 *f, const char *name, uint64_t sum);
/** checkpoint_sum_check — ERR_DATA unless the stored checksum of the data set is that. */
int checkpoint_sum_check(H5 *f, const char *name, uint64_t sum);
/** checkpoint_sum — XXH3-64. */
uint64_t checkpoint_sum(const void *data, size_t bytes);
/** checkpoint_sum_offsets — that of /vocab/offsets. */
uint64_t checkpoint_sum_offsets(const Vocab *v);
