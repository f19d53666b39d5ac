/* device — opening a backend, its memory, and copies between host and device types. */
#include "base/clock.h"
#include "base/err.h"
#include "ops/ops.h"
#include <string.h>

int device_open(Device *dev, const DeviceOptions *options) {
  *dev = (Device){0};
  TRY(backend_find(options->name, &dev->ops));
  dev->real = dev->ops->real;
  dev->threads = options->threads > 0 ? options->threads : 1;
  dev->bf16 = options->bf16 && dev->real == DT_F32;
  dev->act = dev->bf16 && dev->ops->low_activations ? DT_BF16 : dev->real;
  dev->deterministic = options->deterministic;
  dev->row_chunk = options->row_chunk;
  int err = dev->ops->open(dev, options);
  if (err) *dev = (Device){0};
  return err;
}

void device_close(Device *dev) {
  if (dev == NULL || dev->ops == NULL) return;
  dev->ops->close(dev);
  *dev = (Device){0};
}

void device_profile_reset(Device *dev) {
  memset(dev->seconds, 0, sizeof dev->seconds);
  memset(dev->flops, 0, sizeof dev->flops);
  memset(dev->bytes, 0, sizeof dev->bytes);
}

const char *op_group_name(OpGroup g) {
  static const char *const name[] = {"memory", "dense", "attention", "scan", "block", "loss", "update"};
  return name[g];
}

int device_sync(Device *dev) { return dev->ops->sync(dev); }

int device_memory(Device *dev, size_t *free, size_t *total) { return dev->ops->memory(dev, free, total); }

void device_phase(Device *dev, const char *name) {
  if (dev->ops->phase) dev->ops->phase(dev, name);
}

int device_alloc(Device *dev, void **p, size_t bytes) {
  *p = NULL;
  if (bytes == 0) return OK;
  TRY(dev->ops->alloc(dev, p, bytes));
  dev->allocated += bytes;
  return OK;
}

void device_release(Device *dev, void *p, size_t bytes) {
  if (p == NULL) return;
  dev->ops->release(dev, p);
  dev->allocated -= bytes;
}

static int timed(Device *dev, double start, int err) {
  dev->seconds[GROUP_MEMORY] += clock_now() - start;
  return err;
}
#define PACKED(t)                                                                                                      \
  CHECK(tensor_packed(t), ERR_SHAPE, "a copy of %lld elements needs contiguous rows", (long long)tensor_count(t))

int tensor_upload(Device *dev, Tensor t, const void *host) {
  PACKED(t);
  double start = clock_now();
  return timed(dev, start, dev->ops->upload(dev, t.data, host, tensor_bytes(t)));
}

int tensor_download(Device *dev, void *host, Tensor t) {
  PACKED(t);
  double start = clock_now();
  return timed(dev, start, dev->ops->download(dev, host, t.data, tensor_bytes(t)));
}

int tensor_copy(Device *dev, Tensor dst, Tensor src) {
  PACKED(dst);
  PACKED(src);
  CHECK(tensor_bytes(dst) == tensor_bytes(src) && dst.type == src.type, ERR_SHAPE, "copy: %lld %s elements to %lld %s",
        (long long)tensor_count(src), dtype_name(src.type), (long long)tensor_count(dst), dtype_name(dst.type));
  double start = clock_now();
  return timed(dev, start, dev->ops->copy(dev, dst.data, src.data, tensor_bytes(dst)));
}

int tensor_zero(Device *dev, Tensor t) {
  PACKED(t);
  double start = clock_now();
  return timed(dev, start, dev->ops->zero(dev, t.data, tensor_bytes(t)));
}

int tensor_from_f64(Device *dev, Tensor t, const double *host, void *scratch) {
  int64_t n = tensor_count(t);
  CHECK(t.type == DT_F32 || t.type == DT_F64, ERR_SHAPE, "tensor_from_f64: the tensor holds %s", dtype_name(t.type));
  if (t.type == DT_F64) return tensor_upload(dev, t, host);
  for (int64_t i = 0; i < n; i++) ((float *)scratch)[i] = (float)host[i];
  return tensor_upload(dev, t, scratch);
}

int tensor_from_f32(Device *dev, Tensor t, const float *host, void *scratch) {
  int64_t n = tensor_count(t);
  CHECK(t.type == DT_F32 || t.type == DT_F64, ERR_SHAPE, "tensor_from_f32: the tensor holds %s", dtype_name(t.type));
  if (t.type == DT_F32) return tensor_upload(dev, t, host);
  for (int64_t i = 0; i < n; i++) ((double *)scratch)[i] = host[i];
  return tensor_upload(dev, t, scratch);
}

int tensor_to_f32(Device *dev, float *host, Tensor t, void *scratch) {
  int64_t n = tensor_count(t);
  CHECK(t.type == DT_F32 || t.type == DT_F64, ERR_SHAPE, "tensor_to_f32: the tensor holds %s", dtype_name(t.type));
  if (t.type == DT_F32) return tensor_download(dev, host, t);
  TRY(tensor_download(dev, scratch, t));
  for (int64_t i = 0; i < n; i++) host[i] = (float)((double *)scratch)[i];
  return OK;
}
