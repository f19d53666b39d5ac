/* cuda — the table of the CUDA backend; its device, memory, copies and scratch.
 *
 * All work of a device is issued to one stream, in order. Copies from the host go through a ring of pinned buffers: the
 * caller may change its memory as soon as an upload returns, and the copy overlaps with what the host does next. */
#include "backend.h"
#include "cuda.cuh"
#include <stdio.h>
#include <string.h>
#ifdef __CUDACC__
#include <cublasLt.h>
#include <nccl.h>
#include <nvtx3/nvToolsExt.h>
#ifdef HAVE_CUDNN
#include <cudnn.h>
#endif
#endif

enum { OLDEST_MAJOR = 8 }; /* Ampere, the first with bf16 products and cuDNN's attention */
static const size_t STAGE_BYTES = (size_t)4 << 20;
static const int64_t STAGE_ROUND = 256;
static const double MIB = 1024.0 * 1024.0;

int cuda_check(cudaError_t e, const char *what) {
  if (e == cudaSuccess) return OK;
  cudaGetLastError(); /* clear it, so that the next launch does not report it again */
  return RAISE(e == cudaErrorMemoryAllocation ? ERR_MEMORY : ERR_DEVICE, "%s: CUDA: %s", what, cudaGetErrorString(e));
}

/* ---- open and close */
static int count_devices(int *n) {
  cudaError_t e = cudaGetDeviceCount(n);
  CHECK(e != cudaErrorInsufficientDriver && e != cudaErrorNoDevice, ERR_DEVICE,
        "device.name = cuda: there is no GPU, or no driver for it, on this machine (CUDA: %s); use device.name = "
        "cpu",
        cudaGetErrorString(e));
  return cuda_check(e, "looking for GPUs");
}

/* Ranks take the GPUs of their node round-robin. If the launcher makes only one GPU visible to each rank, that one is
 * taken. comm_nccl.cu checks that no two ranks share a GPU. */
static int choose(Cuda *cuda, const Place *place) {
  int n = 0;
  TRY(count_devices(&n));
  cuda->index = place->local_rank % n;
  struct cudaDeviceProp p;
  TRY(cuda_check(cudaGetDeviceProperties(&p, cuda->index), "querying the GPU's properties"));
  snprintf(cuda->name, sizeof cuda->name, "%s", p.name);
  memcpy(cuda->uuid, &p.uuid, sizeof cuda->uuid);
  cuda->processors = p.multiProcessorCount;
  cuda->major = p.major;
  cuda->minor = p.minor;
  CHECK(p.major >= OLDEST_MAJOR, ERR_DEVICE,
        "device.name = cuda: %s has compute capability %d.%d; %d.0 is the oldest that is supported; use device.name "
        "= cpu",
        p.name, p.major, p.minor, OLDEST_MAJOR);
  return cuda_check(cudaSetDevice(cuda->index), "selecting the GPU");
}

static void cuda_close(Device *dev) {
  Cuda *cuda = cuda_of(dev);
  if (cuda == NULL) return;
  dense_close(dev);
  attention_close(dev);
  for (int i = 0; i < SCRATCH_SLOTS; i++) cudaFree(cuda->scratch[i]);
  for (int i = 0; i < STAGES; i++) {
    if (cuda->stage[i].memory) cudaFreeHost(cuda->stage[i].memory);
    if (cuda->stage[i].free) cudaEventDestroy(cuda->stage[i].free);
  }
  if (cuda->stream) cudaStreamDestroy(cuda->stream);
  delete cuda;
  dev->impl = NULL;
}

static int open_parts(Device *dev) {
  Cuda *cuda = cuda_of(dev);
  TRY(cuda_check(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking), "creating a stream"));
  for (int i = 0; i < STAGES; i++) {
    TRY(cuda_check(cudaEventCreateWithFlags(&cuda->stage[i].free, cudaEventDisableTiming), "creating an event"));
    TRY(cuda_check(cudaMallocHost((void **)&cuda->stage[i].memory, STAGE_BYTES), "pinned memory for copies"));
  }
  TRY(dense_open(dev));
  return attention_open(dev);
}

static int cuda_open(Device *dev, const DeviceOptions *options) {
  Cuda *cuda = new Cuda();
  dev->impl = cuda;
  int err = choose(cuda, &options->place);
  if (err == OK) err = open_parts(dev);
  if (err) cuda_close(dev);
  return err;
}

/* Appends a version that is written as 10000·major + 100·minor + patch. */
[[maybe_unused]] static void append_version(char *text, size_t size, const char *name, size_t version) {
  size_t n = strlen(text);
  snprintf(text + n, size - n, ", %s %zu.%zu.%zu", name, version / 10000, version / 100 % 100, version % 100);
}

/* As loaded, not as compiled for. */
static const char *cuda_library(void) {
  static char text[160];
  int runtime = 0, driver = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);
  int n = snprintf(text, sizeof text, "CUDA %d.%d, ", runtime / 1000, runtime % 1000 / 10);
  if (driver == 0)
    snprintf(text + n, sizeof text - (size_t)n, "no driver on this machine");
  else
    snprintf(text + n, sizeof text - (size_t)n, "driver for %d.%d", driver / 1000, driver % 1000 / 10);
#ifdef __CUDACC__
  int nccl = 0;
  ncclGetVersion(&nccl);
  append_version(text, sizeof text, "cuBLASLt", cublasLtGetVersion());
#ifdef HAVE_CUDNN
  append_version(text, sizeof text, "cuDNN", cudnnGetVersion());
#endif
  append_version(text, sizeof text, "NCCL", (size_t)nccl);
#endif
  return text;
}

/* NVTX ranges for profilers; a range ends where the next begins. */
static void cuda_phase(Device *dev, const char *name) {
  (void)dev;
  static bool open;
  if (open) nvtxRangePop();
  open = name != NULL;
  if (open) nvtxRangePushA(name);
}

/* ---- memory */
static int cuda_sync(Device *dev) { return cuda_check(cudaStreamSynchronize(cuda_of(dev)->stream), "the GPU's work"); }

static int cuda_memory(Device *dev, size_t *free, size_t *total) {
  (void)dev;
  return cuda_check(cudaMemGetInfo(free, total), "querying the GPU's memory");
}

static int cuda_alloc(Device *dev, void **p, size_t bytes) {
  size_t free = 0, total = 0;
  cudaError_t e = cudaMalloc(p, bytes);
  if (e == cudaErrorMemoryAllocation) {
    cudaGetLastError(); /* clear it */
    cudaMemGetInfo(&free, &total);
    return RAISE(ERR_MEMORY, "%s is out of memory: %.0f MiB requested, %.0f of %.0f MiB free", cuda_of(dev)->name,
                 (double)bytes / MIB, (double)free / MIB, (double)total / MIB);
  }
  TRY(cuda_check(e, "cudaMalloc"));
  return cuda_check(cudaMemsetAsync(*p, 0, bytes, cuda_of(dev)->stream), "cudaMemset");
}

/* Work already issued may still use the memory. */
static void cuda_release(Device *dev, void *p) {
  cudaStreamSynchronize(cuda_of(dev)->stream);
  cudaFree(p);
}

int cuda_scratch(Device *dev, Scratch slot, size_t bytes, void *p) {
  Cuda *cuda = cuda_of(dev);
  if (bytes > cuda->scratch_bytes[slot]) {
    if (cuda->scratch[slot]) cuda_release(dev, cuda->scratch[slot]);
    dev->allocated -= cuda->scratch_bytes[slot];
    cuda->scratch[slot] = NULL;
    cuda->scratch_bytes[slot] = 0;
    TRY(cuda_alloc(dev, &cuda->scratch[slot], bytes));
    dev->allocated += cuda->scratch_bytes[slot] = bytes;
  }
  *(void **)p = cuda->scratch[slot];
  return OK;
}

/* ---- copies */
/* Small copies share a buffer: a micro-batch issues a dozen, and they must not wait for those of the previous one. */
static int upload_piece(Cuda *cuda, char *to, const char *from, size_t bytes) {
  auto *stage = &cuda->stage[cuda->filling];
  if (bytes > STAGE_BYTES - stage->used) {
    cuda->filling = (cuda->filling + 1) % STAGES;
    stage = &cuda->stage[cuda->filling];
    TRY(cuda_check(cudaEventSynchronize(stage->free), "an earlier copy to the GPU"));
    stage->used = 0;
  }
  char *memory = stage->memory + stage->used;
  stage->used += (size_t)round_up((int64_t)bytes, STAGE_ROUND);
  memcpy(memory, from, bytes);
  TRY(cuda_check(cudaMemcpyAsync(to, memory, bytes, cudaMemcpyHostToDevice, cuda->stream), "a copy to the GPU"));
  return cuda_check(cudaEventRecord(stage->free, cuda->stream), "a copy to the GPU");
}

static int cuda_upload(Device *dev, void *dst, const void *host, size_t bytes) {
  for (size_t at = 0; at < bytes; at += STAGE_BYTES)
    TRY(upload_piece(cuda_of(dev), (char *)dst + at, (const char *)host + at,
                     bytes - at < STAGE_BYTES ? bytes - at : STAGE_BYTES));
  return OK;
}

static int cuda_download(Device *dev, void *host, const void *src, size_t bytes) {
  cudaStream_t stream = cuda_of(dev)->stream;
  TRY(cuda_check(cudaMemcpyAsync(host, src, bytes, cudaMemcpyDeviceToHost, stream), "a copy from the GPU"));
  return cuda_sync(dev);
}

static int cuda_copy(Device *dev, void *dst, const void *src, size_t bytes) {
  cudaStream_t stream = cuda_of(dev)->stream;
  return cuda_check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, stream), "a copy on the GPU");
}

static int cuda_zero(Device *dev, void *dst, size_t bytes) {
  return cuda_check(cudaMemsetAsync(dst, 0, bytes, cuda_of(dev)->stream), "zeroing");
}

/* ---- the table, in the order of its fields */
extern "C" const size_t ops_cuda_sizes[] = {sizeof(Ops), sizeof(Device)}; /* detect a program of another version */
extern "C" const Ops ops_cuda;
const Ops ops_cuda = {
    .name = "cuda",
    .real = DT_F32,
    .host = false,
    .low_activations = true,
    .chunk = UPDATE_CHUNK,
    .library = cuda_library,
    .open = cuda_open,
    .close = cuda_close,
    .sync = cuda_sync,
    .memory = cuda_memory,
    .phase = cuda_phase,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .upload = cuda_upload,
    .download = cuda_download,
    .copy = cuda_copy,
    .zero = cuda_zero,
    .dense = cuda_dense,
    .dense_backward = cuda_dense_backward,
    .gelu_backward = cuda_gelu_backward,
    .dense_gelu_backward = cuda_dense_gelu_backward,
    .embed = cuda_embed,
    .embed_backward = cuda_embed_backward,
    .embed_mix = cuda_embed_mix,
    .embed_mix_backward = cuda_embed_mix_backward,
    .residual_norm = cuda_residual_norm,
    .residual_norm_backward = cuda_residual_norm_backward,
    .rotary = cuda_rotary,
    .attention = cuda_attention,
    .attention_backward = cuda_attention_backward,
    .attention_step = cuda_attention_step,
    .conv = cuda_conv,
    .conv_backward = cuda_conv_backward,
    .scan = cuda_scan,
    .scan_backward = cuda_scan_backward,
    .gate = cuda_gate,
    .gate_backward = cuda_gate_backward,
    .silu = cuda_silu,
    .silu_backward = cuda_silu_backward,
    .sinusoid = cuda_sinusoid,
    .gather_rows = cuda_gather_rows,
    .scatter_rows = cuda_scatter_rows,
    .cross_entropy = cuda_cross_entropy,
    .absorbing_bound = cuda_absorbing_bound,
    .score_entropy = cuda_score_entropy,
    .uniform_bound = cuda_uniform_bound,
    .prediction = cuda_prediction,
    .draw = cuda_draw,
    .argmax = cuda_argmax,
    .confidence = cuda_confidence,
    .exclude = cuda_exclude,
    .add = cuda_add,
    .blend = cuda_blend,
    .sum = cuda_sum,
    .squares = cuda_squares,
    .sum_terms = cuda_sum_terms,
    .adamw = cuda_adamw,
    .to_bf16 = cuda_to_bf16,
};
