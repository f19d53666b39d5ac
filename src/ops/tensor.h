/* tensor — a view of device memory: pointer, type, dims. It owns nothing; the last dimension is contiguous. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef enum DType { DT_F32, DT_F64, DT_BF16, DT_I32 } DType;

typedef struct Tensor {
  void *data;
  DType type;
  int rank;
  int64_t dims[4];
  int64_t ld; /* row stride in elements; a row is the last dimension */
} Tensor;

static const Tensor TENSOR_NONE = {0, DT_F32, 0, {0, 0, 0, 0}, 0}; /* an omitted argument */

/** dtype_size — bytes of one element. */
size_t dtype_size(DType t);
const char *dtype_name(DType t);
/** tensor_1d, tensor_2d — a view of the memory at data. */
Tensor tensor_1d(void *data, DType type, int64_t n);
Tensor tensor_2d(void *data, DType type, int64_t rows, int64_t cols);
/** tensor_make — a view with rank dims. */
Tensor tensor_make(void *data, DType type, int rank, const int64_t *dims);
/** tensor_rows — rows first … first+n−1 of t viewed as [rows, last dimension]. */
Tensor tensor_rows(Tensor t, int64_t first, int64_t n);
/** tensor_cols — columns first … first+n−1 of a 2-d t, with the same row stride. */
Tensor tensor_cols(Tensor t, int64_t first, int64_t n);
/** tensor_none — whether t is TENSOR_NONE, an omitted argument. */
bool tensor_none(Tensor t);
/** tensor_packed — whether the elements are contiguous. */
bool tensor_packed(Tensor t);
/** tensor_count — number of elements. */
int64_t tensor_count(Tensor t);
/** tensor_bytes — bytes of the elements, without gaps. */
size_t tensor_bytes(Tensor t);
/** rows_of, cols_of — the shape of t viewed as [rows, last dimension]; 0 for TENSOR_NONE, so that no size matches. */
static inline int64_t rows_of(Tensor t) {
  int64_t n = t.rank > 0;
  for (int i = 0; i + 1 < t.rank; i++) n *= t.dims[i];
  return n;
}
static inline int64_t cols_of(Tensor t) { return t.rank > 0 ? t.dims[t.rank - 1] : 0; }

#ifdef __cplusplus
}
#endif
