/* attention_graph — cuDNN's fused attention as operation graphs, through the C backend API: bf16 in and out, the packed
 * rows of Attention described by strides, computed in f32. Building a plan needs no GPU, only a description of one. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#ifdef __CUDACC__
#include <cudnn.h>
#else
#include "emulation/cudnn_on_cpu.h"
#endif

typedef cudnnBackendDescriptor_t Descriptor;

/* GraphKey — what a plan depends on. */
typedef struct GraphKey {
  int64_t B, H, L, K;
  bool causal, backward;
  bool deterministic; /* backward: repeats bit for bit */
} GraphKey;

/* The tensors of a graph, in the order of the pointers that graph_run is given. */
typedef enum GraphTensor {
  GRAPH_Q,
  GRAPH_K,
  GRAPH_V,
  GRAPH_O,
  GRAPH_LSE,
  GRAPH_DO, /* from here on: backward only */
  GRAPH_DQ,
  GRAPH_DK,
  GRAPH_DV,
  GRAPH_DELTA, /* [B,H,L] f32, scratch */
  GRAPH_SUM,   /* [R,D] f32, scratch: the sum of dq; absent if deterministic */
  GRAPH_TENSORS
} GraphTensor;

/* The most bytes of dS that a deterministic backward keeps at a time: 8 sequences of 1,024 tokens with 12 heads, where 64
 * would need 1.5 GiB. Their 768 blocks of 128 queries are several for each multiprocessor, so slices should cost little
 * time (not measured). */
enum { GRAPH_SLICE_BYTES = 192 << 20 };

enum { GRAPH_DESCRIPTORS = 112, GRAPH_OPERATIONS = 32 };

/* Graph — a plan and the descriptors that it was built from. */
typedef struct Graph {
  Descriptor made[GRAPH_DESCRIPTORS], operations[GRAPH_OPERATIONS], plan;
  int made_count, operation_count;
  int64_t inner;        /* number of the next virtual tensor */
  int64_t workspace;    /* bytes that the plan needs */
  cudnnStatus_t status; /* the first refusal, and what was refused */
  const char *refused;
} Graph;

/** graph_slice — the number of sequences that one run should cover: all, or of a deterministic backward an even part for
 *  which dS takes at most GRAPH_SLICE_BYTES bytes. */
int64_t graph_slice(GraphKey key);
/** graph_build — build the plan of `key`, for the GPU of `handle` or for the one that `gpu` describes; the other is
 *  NULL.
 *  Errors  ERR_DEVICE with cuDNN's message if it has no plan; the graph must be destroyed in any case. */
int graph_build(Graph *g, GraphKey key, cudnnHandle_t handle, Descriptor gpu);
/** graph_run — run the plan on the handle's stream; `data` holds a device pointer for each tensor of the graph. */
int graph_run(const Graph *g, GraphKey key, cudnnHandle_t handle, void *const data[GRAPH_TENSORS], void *workspace);
void graph_destroy(Graph *g);
