/* cudnn_on_cpu — the part of cuDNN that attention_cudnn.cu uses, on the CPU. The graphs and their plans are in
 * attention_graph_on_cpu.cu. */
#pragma once
#include "emulation/runtime_on_cpu.h"

typedef enum cudnnStatus_t { CUDNN_STATUS_SUCCESS = 0 } cudnnStatus_t;
typedef struct cudnnContext {
  cudaStream_t stream;
} * cudnnHandle_t;
typedef void *cudnnBackendDescriptor_t;

inline size_t cudnnGetVersion() { return 92000; }
inline const char *cudnnGetErrorString(cudnnStatus_t) { return "success"; }
inline cudnnStatus_t cudnnCreate(cudnnHandle_t *h) { return *h = new cudnnContext(), CUDNN_STATUS_SUCCESS; }
inline cudnnStatus_t cudnnDestroy(cudnnHandle_t h) { return delete h, CUDNN_STATUS_SUCCESS; }
inline cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t s) { return h->stream = s, CUDNN_STATUS_SUCCESS; }
