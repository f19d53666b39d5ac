/* attention_graph — cuDNN's fused attention as graphs of its operations, through the plain C interface: bf16, the
 * packed rows of Attention by strides, f32 inside. Building a plan needs no GPU, only a description of one. */
#pragma once
#include <cudnn.h>
#include <stddef.h>
#include <stdint.h>

typedef cudnnBackendDescriptor_t Descriptor;

/* GraphKey — what a plan is made for. */
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
  GRAPH_DO, /* from here on of backward */
  GRAPH_DQ,
  GRAPH_DK,
  GRAPH_DV,
  GRAPH_DELTA, /* [B,H,L] f32 of scratch */
  GRAPH_SUM,   /* [R,D] f32 of scratch: dq while it is summed; not where it must repeat */
  GRAPH_TENSORS
} GraphTensor;

enum { GRAPH_DESCRIPTORS = 112, GRAPH_OPERATIONS = 32 };

/* Graph — a plan and the descriptors that it is made of. */
typedef struct Graph {
  Descriptor made[GRAPH_DESCRIPTORS], operations[GRAPH_OPERATIONS], plan;
  int made_count, operation_count;
  int64_t inner;        /* number of the next tensor that is never in memory */
  int64_t workspace;    /* bytes that the plan asks for */
  cudnnStatus_t status; /* the first refusal, and what was refused */
  const char *refused;
} Graph;

/** graph_build — the plan of `key`, for the GPU of `handle` or for the one that `gpu` describes; the other is NULL.
 *  Errors  ERR_DEVICE with cuDNN's words where it has no plan; the graph is to be destroyed all the same. */
int graph_build(Graph *g, GraphKey key, cudnnHandle_t handle, Descriptor gpu);
/** graph_run — ask for it on the handle's stream; `data` holds a device pointer for each tensor the graph has. */
int graph_run(const Graph *g, GraphKey key, cudnnHandle_t handle, void *const data[GRAPH_TENSORS], void *workspace);
void graph_destroy(Graph *g);
