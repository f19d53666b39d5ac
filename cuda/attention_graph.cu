/* attention_graph — the graphs, operation by operation. cuDNN recognises the pattern as attention and runs one fused
 * kernel; the tensors between the operations are never stored.
 *   forward   S = Q Kᵀ/√K;  m = max S, e = exp(S − m), l = Σ e;  lse = m + log l, P = e/l;  O = P V
 *   backward  δ = Σ_k dO O;  P = exp(S − lse), dV = Pᵀ dO;  dS = P (dO Vᵀ − δ)/√K;  dK = dSᵀ Q, dQ = dS K
 * Causal: before the exponential, S is set to −FLT_MAX where the key comes after the query. */
#ifdef HAVE_CUDNN
#include "attention_graph.h"
#include "base/err.h"
#include <float.h>
#include <math.h>
#include <string.h>

/* The unique ids of tensors: 1 + GraphTensor, then the constants, which are in host memory, then the virtual ones. */
enum { CONSTANT_SCALE = 1 + GRAPH_TENSORS, CONSTANT_ONE, CONSTANT_LEAST, INNER = 100 };
enum {
  ALIGNMENT = 16,
  MOST_ENGINES = 16 /* configurations requested from cuDNN */,
  TILE = 128 /* dS is padded to it */
};
static const cudnnDataType_t BF16 = CUDNN_DATA_BFLOAT16, F32 = CUDNN_DATA_FLOAT, I32 = CUDNN_DATA_INT32,
                             BOOLEAN = CUDNN_DATA_BOOLEAN;

/* ---- descriptors; after the first refusal all further calls are skipped */
static bool agreed(Graph *g, cudnnStatus_t status, const char *what) {
  if (g->status == CUDNN_STATUS_SUCCESS && status != CUDNN_STATUS_SUCCESS) {
    g->status = status;
    g->refused = what;
  }
  return g->status == CUDNN_STATUS_SUCCESS;
}

static Descriptor make(Graph *g, cudnnBackendDescriptorType_t type, const char *what) {
  Descriptor d = NULL;
  ASSERT(g->made_count < GRAPH_DESCRIPTORS);
  if (g->status == CUDNN_STATUS_SUCCESS && agreed(g, cudnnBackendCreateDescriptor(type, &d), what))
    g->made[g->made_count++] = d;
  return d;
}

static cudnnBackendAttributeType_t type_of(const int64_t *) { return CUDNN_TYPE_INT64; }
static cudnnBackendAttributeType_t type_of(const bool *) { return CUDNN_TYPE_BOOLEAN; }
static cudnnBackendAttributeType_t type_of(const Descriptor *) { return CUDNN_TYPE_BACKEND_DESCRIPTOR; }
static cudnnBackendAttributeType_t type_of(const cudnnHandle_t *) { return CUDNN_TYPE_HANDLE; }
static cudnnBackendAttributeType_t type_of(const cudnnDataType_t *) { return CUDNN_TYPE_DATA_TYPE; }
static cudnnBackendAttributeType_t type_of(const cudnnPointwiseMode_t *) { return CUDNN_TYPE_POINTWISE_MODE; }
static cudnnBackendAttributeType_t type_of(const cudnnReduceTensorOp_t *) { return CUDNN_TYPE_REDUCTION_OPERATOR_TYPE; }
static cudnnBackendAttributeType_t type_of(const cudnnBackendHeurMode_t *) { return CUDNN_TYPE_HEUR_MODE; }

template <class T>
static void set(Graph *g, Descriptor d, cudnnBackendAttributeName_t name, const T *values, int64_t n = 1) {
  if (g->status == CUDNN_STATUS_SUCCESS)
    agreed(g, cudnnBackendSetAttribute(d, name, type_of(values), n, values), "an attribute");
}

static Descriptor finish(Graph *g, Descriptor d, const char *what) {
  if (g->status == CUDNN_STATUS_SUCCESS) agreed(g, cudnnBackendFinalize(d), what);
  return d;
}

/* ---- tensors: four extents, batch and head first, and their strides in elements */
typedef struct View {
  int64_t dims[4], strides[4];
} View;

/* [B,H,L,K] of rows of `parts` × H × K */
static View rows_view(const GraphKey *k, int64_t parts) {
  int64_t ld = parts * k->H * k->K;
  return (View){{k->B, k->H, k->L, k->K}, {k->L * ld, k->K, ld, 1}};
}
static View transposed(View v) {
  return (View){{v.dims[0], v.dims[1], v.dims[3], v.dims[2]}, {v.strides[0], v.strides[1], v.strides[3], v.strides[2]}};
}
/* [B,H,L,L], query by key */
static View scores_view(const GraphKey *k) {
  return (View){{k->B, k->H, k->L, k->L}, {k->H * k->L * k->L, k->L * k->L, k->L, 1}};
}
/* [B,H,L,1]: a number per query, contiguous: kernels for sm_80 support no other order, and building a plan does not
 * reveal that */
static View column_view(const GraphKey *k) { return (View){{k->B, k->H, k->L, 1}, {k->H * k->L, k->L, 1, 1}}; }

static Descriptor tensor(Graph *g, cudnnDataType_t type, View v, int64_t number, bool constant) {
  Descriptor t = make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "a tensor");
  bool inner = number >= INNER;
  int64_t alignment = ALIGNMENT;
  set(g, t, CUDNN_ATTR_TENSOR_DATA_TYPE, &type);
  set(g, t, CUDNN_ATTR_TENSOR_DIMENSIONS, v.dims, 4);
  set(g, t, CUDNN_ATTR_TENSOR_STRIDES, v.strides, 4);
  set(g, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, &number);
  set(g, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &alignment);
  set(g, t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, &inner);
  if (constant) set(g, t, CUDNN_ATTR_TENSOR_IS_BY_VALUE, &constant);
  return finish(g, t, "a tensor");
}
static Descriptor outer(Graph *g, cudnnDataType_t type, View v, GraphTensor which) {
  return tensor(g, type, v, 1 + which, false);
}
static Descriptor inner(Graph *g, cudnnDataType_t type, View v) {
  return tensor(g, type, v, INNER + g->inner++, false);
}
static Descriptor constant(Graph *g, int64_t number) {
  return tensor(g, F32, (View){{1, 1, 1, 1}, {1, 1, 1, 1}}, number, true);
}

/* ---- operations; each returns its output */
static Descriptor add_operation(Graph *g, Descriptor operation, Descriptor output, const char *what) {
  ASSERT(g->operation_count < GRAPH_OPERATIONS);
  g->operations[g->operation_count++] = finish(g, operation, what);
  return output;
}

static Descriptor product(Graph *g, Descriptor a, Descriptor b, Descriptor c) {
  Descriptor d = make(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR, "a product");
  set(g, d, CUDNN_ATTR_MATMUL_COMP_TYPE, &F32);
  finish(g, d, "a product");
  Descriptor o = make(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, "a product");
  set(g, o, CUDNN_ATTR_OPERATION_MATMUL_ADESC, &a);
  set(g, o, CUDNN_ATTR_OPERATION_MATMUL_BDESC, &b);
  set(g, o, CUDNN_ATTR_OPERATION_MATMUL_CDESC, &c);
  set(g, o, CUDNN_ATTR_OPERATION_MATMUL_DESC, &d);
  return add_operation(g, o, c, "a product");
}

static Descriptor sum_up(Graph *g, cudnnReduceTensorOp_t how, Descriptor x, Descriptor y) {
  Descriptor d = make(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR, "a sum");
  set(g, d, CUDNN_ATTR_REDUCTION_COMP_TYPE, &F32);
  set(g, d, CUDNN_ATTR_REDUCTION_OPERATOR, &how);
  finish(g, d, "a sum");
  Descriptor o = make(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, "a sum");
  set(g, o, CUDNN_ATTR_OPERATION_REDUCTION_DESC, &d);
  set(g, o, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, &x);
  set(g, o, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, &y);
  return add_operation(g, o, y, "a sum");
}

/* An operation element by element: y = f(x), f(x, b) or, with t, t ? x : b. */
typedef struct Pointwise {
  cudnnPointwiseMode_t mode;
  Descriptor x, b, t, y;
  cudnnDataType_t type; /* computed in */
  int64_t axis;         /* of GEN_INDEX */
} Pointwise;

static Descriptor pointwise(Graph *g, Pointwise p) {
  Descriptor d = make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, "a pointwise operation");
  set(g, d, CUDNN_ATTR_POINTWISE_MODE, &p.mode);
  set(g, d, CUDNN_ATTR_POINTWISE_MATH_PREC, &p.type);
  if (p.mode == CUDNN_POINTWISE_GEN_INDEX) set(g, d, CUDNN_ATTR_POINTWISE_AXIS, &p.axis);
  finish(g, d, "a pointwise operation");
  Descriptor o = make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "a pointwise operation");
  set(g, o, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &d);
  set(g, o, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, &p.x);
  if (p.b) set(g, o, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, &p.b);
  if (p.t) set(g, o, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, &p.t);
  set(g, o, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, &p.y);
  return add_operation(g, o, p.y, "a pointwise operation");
}
static Descriptor apply(Graph *g, cudnnPointwiseMode_t mode, Descriptor x, Descriptor b, Descriptor y) {
  return pointwise(g, (Pointwise){mode, x, b, NULL, y, F32, 0});
}

/* y is a view of x; nothing is copied. */
static Descriptor reshape(Graph *g, Descriptor x, Descriptor y) {
  Descriptor o = make(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, "a reshape");
  set(g, o, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, &x);
  set(g, o, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, &y);
  return add_operation(g, o, y, "a reshape");
}

/* ---- attention */
static Descriptor scores(Graph *g, const GraphKey *k, Descriptor q, Descriptor k_t, Descriptor scale) {
  View square = scores_view(k);
  Descriptor s = product(g, q, k_t, inner(g, F32, square));
  return apply(g, CUDNN_POINTWISE_MUL, s, scale, inner(g, F32, square));
}

static Descriptor masked(Graph *g, const GraphKey *k, Descriptor s) {
  if (!k->causal) return s;
  View square = scores_view(k);
  Descriptor query = pointwise(g, {CUDNN_POINTWISE_GEN_INDEX, s, NULL, NULL, inner(g, I32, square), I32, 2});
  Descriptor key = pointwise(g, {CUDNN_POINTWISE_GEN_INDEX, s, NULL, NULL, inner(g, I32, square), I32, 3});
  Descriptor seen = pointwise(g, {CUDNN_POINTWISE_CMP_GE, query, key, NULL, inner(g, BOOLEAN, square), BOOLEAN, 0});
  Descriptor least = constant(g, CONSTANT_LEAST);
  return pointwise(g, {CUDNN_POINTWISE_BINARY_SELECT, s, least, seen, inner(g, F32, square), F32, 0});
}

static void forward(Graph *g, const GraphKey *k) {
  View square = scores_view(k), column = column_view(k), packed = rows_view(k, 3);
  Descriptor q = outer(g, BF16, packed, GRAPH_Q), k_t = outer(g, BF16, transposed(packed), GRAPH_K);
  Descriptor s = masked(g, k, scores(g, k, q, k_t, constant(g, CONSTANT_SCALE)));
  Descriptor top = sum_up(g, CUDNN_REDUCE_TENSOR_MAX, s, inner(g, F32, column));
  s = apply(g, CUDNN_POINTWISE_SUB, s, top, inner(g, F32, square));
  Descriptor e = apply(g, CUDNN_POINTWISE_EXP, s, NULL, inner(g, F32, square));
  Descriptor sum = sum_up(g, CUDNN_REDUCE_TENSOR_ADD, e, inner(g, F32, column));
  Descriptor log = apply(g, CUDNN_POINTWISE_LOG, sum, NULL, inner(g, F32, column));
  apply(g, CUDNN_POINTWISE_ADD, top, log, outer(g, F32, column, GRAPH_LSE));
  Descriptor p = apply(g, CUDNN_POINTWISE_DIV, e, sum, inner(g, BF16, square));
  product(g, p, outer(g, BF16, packed, GRAPH_V), outer(g, BF16, rows_view(k, 1), GRAPH_O));
}

/* dQ is summed in f32 by atomics, in the order in which blocks finish; or, when it must be deterministic, by one
 * product at the end, for which dS is kept in the workspace: 2 B H L² bytes (hence graph_slice). cuDNN's notes on its engines do not
 * distinguish the two; their kernels do (9.19): only the first has atomic additions in f32. */
static void query_gradient(Graph *g, const GraphKey *k, Descriptor ds, Descriptor k_t) {
  View packed = rows_view(k, 3);
  Descriptor keys = reshape(g, k_t, inner(g, BF16, packed)), dq = outer(g, BF16, packed, GRAPH_DQ);
  if (k->deterministic) {
    product(g, ds, keys, dq);
    return;
  }
  View contiguous = {{k->B, k->H, k->L, k->K}, {k->H * k->L * k->K, k->L * k->K, k->K, 1}};
  Descriptor sum = product(g, ds, keys, outer(g, F32, contiguous, GRAPH_SUM));
  apply(g, CUDNN_POINTWISE_IDENTITY, sum, NULL, dq);
}

static void backward(Graph *g, const GraphKey *k) {
  View square = scores_view(k), column = column_view(k), packed = rows_view(k, 3), plain = rows_view(k, 1);
  Descriptor q = outer(g, BF16, packed, GRAPH_Q), k_t = outer(g, BF16, transposed(packed), GRAPH_K);
  Descriptor v_t = outer(g, BF16, transposed(packed), GRAPH_V), d_o = outer(g, BF16, plain, GRAPH_DO);
  Descriptor scale = constant(g, CONSTANT_SCALE), lse = outer(g, F32, column, GRAPH_LSE);

  Descriptor delta = apply(g, CUDNN_POINTWISE_MUL, d_o, outer(g, BF16, plain, GRAPH_O), inner(g, F32, plain));
  delta = sum_up(g, CUDNN_REDUCE_TENSOR_ADD, delta, inner(g, F32, column));
  /* the pattern has 1/(1 − dropout) here */
  delta = apply(g, CUDNN_POINTWISE_MUL, delta, constant(g, CONSTANT_ONE), outer(g, F32, column, GRAPH_DELTA));

  Descriptor s = scores(g, k, q, k_t, scale);
  s = apply(g, CUDNN_POINTWISE_SUB, s, lse, inner(g, F32, square));
  Descriptor p = apply(g, CUDNN_POINTWISE_EXP, masked(g, k, s), NULL, inner(g, F32, square));
  Descriptor p_t = reshape(g, p, inner(g, BF16, transposed(square)));
  product(g, p_t, d_o, outer(g, BF16, packed, GRAPH_DV));

  Descriptor ds = product(g, d_o, v_t, inner(g, F32, square));
  ds = apply(g, CUDNN_POINTWISE_SUB, ds, delta, inner(g, F32, square));
  ds = apply(g, CUDNN_POINTWISE_MUL, ds, p, inner(g, F32, square));
  ds = apply(g, CUDNN_POINTWISE_MUL, ds, scale, inner(g, F32, square));
  Descriptor ds_t = reshape(g, ds, inner(g, BF16, transposed(square)));
  product(g, ds_t, q, outer(g, BF16, packed, GRAPH_DK));
  query_gradient(g, k, ds, k_t);
}

int64_t graph_slice(GraphKey k) {
  if (!k.backward || !k.deterministic) return k.B;
  int64_t L = (k.L + TILE - 1) / TILE * TILE, most = GRAPH_SLICE_BYTES / (2 * k.H * L * L);
  int64_t slices = most > 1 ? (k.B + most - 1) / most : k.B;
  return (k.B + slices - 1) / slices;
}

/* ---- from a graph to a plan */
/* The configurations that cuDNN proposes, the likely fastest first; returns their number. */
static int64_t configurations(Graph *g, cudnnHandle_t handle, Descriptor gpu, Descriptor list[MOST_ENGINES]) {
  Descriptor graph = make(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "the graph");
  if (handle) set(g, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, &handle);
  set(g, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, g->operations, g->operation_count);
  finish(g, graph, "the graph");
  Descriptor heuristic = make(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "the choice of an engine");
  cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
  set(g, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &graph);
  set(g, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, &mode);
#if CUDNN_VERSION >= 90800 /* older versions support only the present GPU */
  if (gpu) set(g, heuristic, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, &gpu);
#else
  (void)gpu;
#endif
  finish(g, heuristic, "the choice of an engine");
  for (int i = 0; i < MOST_ENGINES; i++) list[i] = make(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "a configuration");
  int64_t n = 0;
  if (g->status == CUDNN_STATUS_SUCCESS)
    agreed(g,
           cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                    MOST_ENGINES, &n, list),
           "the choice of an engine");
  if (n > MOST_ENGINES) n = MOST_ENGINES; /* cuDNN may report all that it has */
  return g->status == CUDNN_STATUS_SUCCESS ? n : 0;
}

/* The plan of the first configuration for which cuDNN can build one. */
static void choose(Graph *g, cudnnHandle_t handle, Descriptor gpu) {
  Descriptor list[MOST_ENGINES];
  int64_t count = configurations(g, handle, gpu, list), n;
  cudnnStatus_t status = CUDNN_STATUS_NOT_SUPPORTED;
  for (int64_t i = 0; i < count && !g->plan; i++) {
    Descriptor plan = make(g, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "a plan");
    if (handle) set(g, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, &handle);
    set(g, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &list[i]);
    if (g->status != CUDNN_STATUS_SUCCESS) return;
    status = cudnnBackendFinalize(plan);
    if (status == CUDNN_STATUS_SUCCESS) g->plan = plan;
  }
  if (!agreed(g, g->plan ? CUDNN_STATUS_SUCCESS : status, "every configuration")) return;
  agreed(g,
         cudnnBackendGetAttribute(g->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n,
                                  &g->workspace),
         "the plan's workspace");
}

int graph_build(Graph *g, GraphKey key, cudnnHandle_t handle, Descriptor gpu) {
  memset(g, 0, sizeof *g);
  (key.backward ? backward : forward)(g, &key);
  choose(g, handle, gpu);
  if (g->status == CUDNN_STATUS_SUCCESS) return OK;
  char words[256] = "";
  cudnnGetLastErrorString(words, sizeof words);
  return RAISE(ERR_DEVICE, "cuDNN refuses %s: %s %s", g->refused, cudnnGetErrorString(g->status), words);
}

void graph_destroy(Graph *g) {
  while (g->made_count > 0) cudnnBackendDestroyDescriptor(g->made[--g->made_count]);
  g->plan = NULL;
}

/* ---- running a plan */
static bool has(const GraphKey *k, int which) {
  if (which == GRAPH_SUM) return k->backward && !k->deterministic;
  return which < GRAPH_DO || k->backward;
}

static cudnnStatus_t run(const Graph *g, cudnnHandle_t handle, int64_t n, const int64_t *numbers, void *const *pointers,
                         void *workspace) {
  Descriptor pack = NULL;
  cudnnStatus_t s = cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
  if (s == CUDNN_STATUS_SUCCESS)
    s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, numbers);
  if (s == CUDNN_STATUS_SUCCESS)
    s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, pointers);
  if (s == CUDNN_STATUS_SUCCESS)
    s = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
  if (s == CUDNN_STATUS_SUCCESS) s = cudnnBackendFinalize(pack);
  if (s == CUDNN_STATUS_SUCCESS) s = cudnnBackendExecute(handle, g->plan, pack);
  if (pack) cudnnBackendDestroyDescriptor(pack);
  return s;
}

int graph_run(const Graph *g, GraphKey key, cudnnHandle_t handle, void *const data[GRAPH_TENSORS], void *workspace) {
  float scale = 1 / sqrtf((float)key.K), one = 1, least = -FLT_MAX;
  int64_t numbers[GRAPH_TENSORS + 3], n = 0;
  void *pointers[GRAPH_TENSORS + 3];
  for (int i = 0; i < GRAPH_TENSORS; i++)
    if (has(&key, i)) numbers[n] = 1 + i, pointers[n++] = data[i];
  numbers[n] = CONSTANT_SCALE, pointers[n++] = &scale;
  if (key.backward) numbers[n] = CONSTANT_ONE, pointers[n++] = &one;
  if (key.causal) numbers[n] = CONSTANT_LEAST, pointers[n++] = &least;
  cudnnStatus_t s = run(g, handle, n, numbers, pointers, workspace);
  CHECK(s == CUDNN_STATUS_SUCCESS, ERR_DEVICE, "cuDNN refuses to run its plan: %s", cudnnGetErrorString(s));
  return OK;
}
#endif
