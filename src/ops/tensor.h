/* tensor — a view of device memory: pointer, type, dims. It never owns; the last dimension is contiguous. */
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
  int64_t ld; /* elements from one row to the next; a row is the last dimension */
} Tensor;

static const Tensor TENSOR_NONE = {0, DT_F32, 0, {0, 0, 0, 0}, 0}; /* "leave this argument out" */

/** dtype_size — bytes of one element. */
size_t dtype_size(DType t);
const char *dtype_name(DType t);
/** tensor_1d, tensor_2d — a view of memory at data. */
Tensor tensor_1d(void *data, DType type, int64_t n);
Tensor tensor_2d(void *data, DType type, int64_t rows, int64_t cols);
/** tensor_make — a view with rank dims. */
Tensor tensor_make(void *data, DType type, int rank, const int64_t *dims);
/** tensor_rows — rows first … first+n−1 of t seen as [rows, last dimension]. */
Tensor tensor_rows(Tensor t, int64_t first, int64_t n);
/** tensor_cols — columns first … first+n−1 of a 2-d t; the row stride stays. */
Tensor tensor_cols(Tensor t, int64_t first, int64_t n);
/** tensor_none — whether t stands for a left-out argument. */
bool tensor_none(Tensor t);
/** tensor_packed — whether the elements stand without gaps. */
bool tensor_packed(Tensor t);
/** tensor_count — number of elements. */
int64_t tensor_count(Tensor t);
/** tensor_bytes — bytes of a contiguous t. */
size_t tensor_bytes(Tensor t);

#ifdef __cplusplus
}
#endif
