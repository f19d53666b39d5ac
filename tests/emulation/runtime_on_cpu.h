/* runtime_on_cpu — the CUDA runtime calls that cuda/ makes, on the CPU. Every call completes at once, whatever its
 * stream. The exception is NCCL work that hangs (nccl_on_mpi.h): work ordered after it stays pending, and waiting for
 * it aborts.
 *
 * Device memory is a separate address range that is accessible only while kernels and copies run. So the host crashes
 * when it uses a device pointer. Faults are requested by environment variables:
 *   EMULATION_GPUS=N        number of GPUs; 0: none, −1: no driver
 *   EMULATION_CAPABILITY=M  compute capability M.0
 *   EMULATION_MEMORY=MiB    size of device memory
 *   EMULATION_FAULT=N       launch N and all later ones fail
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <map>

typedef enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700
} cudaError_t;
typedef struct CUstream_st {
  bool enqueuing; /* NCCL is still enqueuing work (nccl_on_mpi.h): nothing may be ordered after it yet */
  bool behind;    /* ordered after work that never completes */
} * cudaStream_t;
typedef struct CUevent_st {
  bool behind;
  double ms; /* time of the record */
} * cudaEvent_t;
typedef enum cudaMemcpyKind {
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice
} cudaMemcpyKind;
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
struct cudaDeviceProp {
  char name[256];
  int multiProcessorCount, major, minor;
  size_t totalGlobalMem;
  unsigned char uuid[16];
};

namespace emulation {
namespace runtime {
inline long setting(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text && *text ? strtol(text, nullptr, 10) : otherwise;
}
inline size_t memory_size() { return (size_t)setting("EMULATION_MEMORY", 4096) << 20; }

/* ---- device memory: first fit in one range of addresses */
constexpr size_t ALIGN = 256, RANGE = (size_t)64 << 30;
inline char *range;
inline std::map<size_t, size_t> blocks; /* offset, bytes */
inline size_t held, used;               /* bytes allocated; the highest end of any block so far */
inline int opened;

inline void protect(int rights) {
  if (used > 0 && mprotect(range, used, rights) != 0) abort();
}
struct Open { /* device memory is accessible while one of these exists */
  Open() {
    if (opened++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  ~Open() {
    if (--opened == 0) protect(PROT_NONE);
  }
};
inline bool on_device(const void *p) { return range && (const char *)p >= range && (const char *)p < range + RANGE; }
inline void *allocate(size_t bytes) {
  constexpr size_t PAGE = 2 << 20;
  if (held + bytes > memory_size()) return nullptr;
  if (!range) range = (char *)mmap(nullptr, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) abort();
  madvise(range, RANGE, MADV_HUGEPAGE); /* fewer pages for mprotect */
  size_t at = 0;
  for (auto &b : blocks) {
    if (at + bytes <= b.first) break;
    at = (b.first + b.second + ALIGN - 1) / ALIGN * ALIGN;
  }
  if (at + bytes > RANGE) return nullptr;
  blocks[at] = bytes;
  held += bytes;
  Open open; /* `used` may grow while it is open */
  size_t end = (at + bytes + PAGE - 1) / PAGE * PAGE;
  if (end > used) used = end;
  protect(PROT_READ | PROT_WRITE);
  memset(range + at, 0xff, bytes); /* unwritten memory is NaN */
  return range + at;
}
inline bool release(void *p) {
  if (p == nullptr) return true;
  auto b = on_device(p) ? blocks.find((size_t)((char *)p - range)) : blocks.end();
  if (b == blocks.end()) return false;
  held -= b->second;
  blocks.erase(b);
  return true;
}

/* ---- simulated time in ms: all launches take different times, so that choices by timing differ from run to run */
inline double clock;
/* ---- faults */
inline long launches;
inline cudaError_t sticky = cudaSuccess;
inline bool may_launch() {
  clock += 1 + (double)((uint32_t)launches * 2654435761u >> 16) / 65536;
  if (++launches == setting("EMULATION_FAULT", 0)) sticky = cudaErrorIllegalAddress;
  return sticky == cudaSuccess;
}
} /* namespace runtime */
} /* namespace emulation */

/* ---- device */
inline const char *cudaGetErrorString(cudaError_t e) {
  switch (e) {
  case cudaSuccess:
    return "no error";
  case cudaErrorMemoryAllocation:
    return "out of memory";
  case cudaErrorInsufficientDriver:
    return "CUDA driver version is insufficient for CUDA runtime version";
  case cudaErrorNoDevice:
    return "no CUDA-capable device is detected";
  case cudaErrorIllegalAddress:
    return "an illegal memory access was encountered";
  default:
    return "an error";
  }
}
inline cudaError_t cudaGetLastError() { return emulation::runtime::sticky; }
inline cudaError_t cudaGetDeviceCount(int *n) {
  *n = (int)emulation::runtime::setting("EMULATION_GPUS", 8);
  return *n < 0 ? cudaErrorInsufficientDriver : *n == 0 ? cudaErrorNoDevice : cudaSuccess;
}
inline cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int index) {
  *p = {};
  p->uuid[0] = (unsigned char)(index + 1);
  snprintf(p->name, sizeof p->name, "emulated GPU");
  p->multiProcessorCount = 4;
  p->major = (int)emulation::runtime::setting("EMULATION_CAPABILITY", 9);
  p->minor = 0;
  p->totalGlobalMem = emulation::runtime::memory_size();
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaRuntimeGetVersion(int *v) { return *v = 0, cudaSuccess; }
inline cudaError_t cudaDriverGetVersion(int *v) { return *v = 0, cudaSuccess; }
inline void nvtxRangePushA(const char *) {}
inline void nvtxRangePop() {}

/* ---- streams and events: all work is complete, except what hangs */
namespace emulation {
namespace runtime {
inline bool stuck; /* some work hangs */
template <class T> bool blocked(T *x) { return stuck && x && x->behind; }
template <class T> cudaError_t wait(T *x) {
  if (blocked(x)) {
    fprintf(stderr, "emulation: this waits forever\n");
    abort();
  }
  return sticky;
}
template <class T> cudaError_t query(T *x) { return blocked(x) ? cudaErrorNotReady : sticky; }
} /* namespace runtime */
} /* namespace emulation */
inline cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  return *least = 0, *greatest = -5, cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) {
  return *s = (cudaStream_t)calloc(1, sizeof **s), cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int) {
  return cudaStreamCreateWithFlags(s, flags);
}
inline cudaError_t cudaStreamDestroy(cudaStream_t s) { return free(s), cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t s) { return emulation::runtime::wait(s); }
inline cudaError_t cudaStreamQuery(cudaStream_t s) { return emulation::runtime::query(s); }
inline cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  s->behind = emulation::runtime::blocked(s) || emulation::runtime::blocked(e);
  return emulation::runtime::sticky;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) {
  return *e = (cudaEvent_t)calloc(1, sizeof **e), cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t e) { return free(e), cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  if (s && s->enqueuing) {
    fprintf(stderr, "emulation: an event recorded before the work that it should follow\n");
    abort();
  }
  e->ms = emulation::runtime::clock;
  e->behind = emulation::runtime::blocked(s);
  return emulation::runtime::sticky;
}
inline cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
  *ms = (float)(to->ms - from->ms);
  return emulation::runtime::sticky;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t e) { return emulation::runtime::wait(e); }
inline cudaError_t cudaEventQuery(cudaEvent_t e) { return emulation::runtime::query(e); }

/* ---- memory */
inline cudaError_t cudaMalloc(void **p, size_t bytes) {
  *p = emulation::runtime::allocate(bytes);
  return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFree(void *p) {
  static struct CUstream_st all = {false, true}; /* cudaFree waits for every stream */
  emulation::runtime::wait(&all);
  return emulation::runtime::release(p) ? cudaSuccess : cudaErrorInvalidValue;
}
inline cudaError_t cudaMallocHost(void **p, size_t bytes) {
  *p = malloc(bytes);
  return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFreeHost(void *p) { return free(p), cudaSuccess; }
inline cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  *total = emulation::runtime::memory_size();
  *free = *total - emulation::runtime::held;
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  using emulation::runtime::on_device;
  if (emulation::runtime::sticky) return emulation::runtime::sticky;
  if (on_device(dst) != (kind != cudaMemcpyDeviceToHost) || on_device(src) != (kind != cudaMemcpyHostToDevice)) {
    fprintf(stderr, "emulation: a copy in another direction than declared\n");
    abort();
  }
  emulation::runtime::Open open;
  memmove(dst, src, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t) {
  if (emulation::runtime::sticky) return emulation::runtime::sticky;
  emulation::runtime::Open open;
  memset(p, value, bytes);
  return cudaSuccess;
}

/* ---- bf16 */
struct __nv_bfloat16 {
  uint16_t bits;
};
inline float __bfloat162float(__nv_bfloat16 x) {
  uint32_t u = (uint32_t)x.bits << 16;
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}
inline __nv_bfloat16 __float2bfloat16(float x) { /* to nearest even; NaN becomes 0x7fff, as on a GPU */
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {(uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16)};
}
