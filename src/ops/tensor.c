#include "ops/tensor.h"

size_t dtype_size(DType t) {
  static const size_t size[] = {[DT_F32] = 4, [DT_F64] = 8, [DT_BF16] = 2, [DT_I32] = 4};
  return size[t];
}

const char *dtype_name(DType t) {
  static const char *const name[] = {[DT_F32] = "f32", [DT_F64] = "f64", [DT_BF16] = "bf16", [DT_I32] = "i32"};
  return name[t];
}

Tensor tensor_make(void *data, DType type, int rank, const int64_t *dims) {
  Tensor t = {data, type, rank, {0, 0, 0, 0}, 1};
  for (int i = 0; i < rank; i++) t.dims[i] = dims[i];
  if (rank > 0) t.ld = dims[rank - 1];
  return t;
}

Tensor tensor_1d(void *data, DType type, int64_t n) { return tensor_make(data, type, 1, &n); }

Tensor tensor_2d(void *data, DType type, int64_t rows, int64_t cols) {
  int64_t dims[2] = {rows, cols};
  return tensor_make(data, type, 2, dims);
}

Tensor tensor_rows(Tensor t, int64_t first, int64_t n) {
  if (t.rank == 1) { /* elements */
    t.data = (char *)t.data + (size_t)first * dtype_size(t.type);
    t.dims[0] = t.ld = n;
    return t;
  }
  int64_t cols = t.dims[t.rank - 1], ld = t.ld;
  Tensor r = tensor_2d((char *)t.data + (size_t)(first * ld) * dtype_size(t.type), t.type, n, cols);
  r.ld = ld;
  return r;
}

Tensor tensor_cols(Tensor t, int64_t first, int64_t n) {
  t.data = (char *)t.data + (size_t)first * dtype_size(t.type);
  t.dims[1] = n;
  return t;
}

bool tensor_none(Tensor t) { return t.rank == 0; }

bool tensor_packed(Tensor t) {
  return t.rank <= 1 || t.ld == t.dims[t.rank - 1] || tensor_count(t) == t.dims[t.rank - 1];
}

int64_t tensor_count(Tensor t) {
  int64_t n = t.rank ? 1 : 0;
  for (int i = 0; i < t.rank; i++) n *= t.dims[i];
  return n;
}

size_t tensor_bytes(Tensor t) { return (size_t)tensor_count(t) * dtype_size(t.type); }
