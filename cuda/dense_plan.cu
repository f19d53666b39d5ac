/* dense_plan — products by cuBLASLt, planned once: descriptors and an algorithm for each shape, kept in a hash table.
 *
 * cuBLASLt counts columns first: a row-major [R,C] with rows of ld elements is to it a C×R matrix of that ld. So
 * c = op(a) op(b) becomes cᵀ = op(b)ᵀ op(a)ᵀ: b is its A, a its B, and a bias over c's columns one over its rows.
 *
 * The choice of an algorithm. cuBLASLt proposes some, best guess first. They round differently, so a choice by the
 * clock gives other bits in another run, or on another rank. A deterministic device takes the first proposal: it
 * depends on the plan's key, the GPU's model and cuBLASLt's version only, hence every rank that has the shape makes the
 * same choice. Other devices time the proposals when a shape is first met. A long sum may be split where its parts are
 * kept in f32 and added by a pass of their own, in order. Never allowed are sums in the order in which blocks happen to
 * end, nor partial sums rounded to the output's type.
 *
 * Timing leaves no trace: a product that overwrites its output is timed on it, one that adds is timed on borrowed
 * memory. Where memory lacks, the first proposal is taken.
 *
 * Alignment. A key holds each pointer's alignment up to 16 bytes, the widest access of a kernel, and plans are made for
 * just that: where a tensor lies beyond it, say which rows of a larger one it is, changes no result. */
#include "backend.h"
#include "dense.cuh"
#include <string.h>
#include <unordered_map>
#ifdef __CUDACC__
#include <cublasLt.h>
#else
#include "emulation/cublaslt_on_cpu.h"
#endif

enum { PROPOSALS = 8, WARM_UP = 1, TIMED = 2, WIDEST = 16, WIDEST_TILE = 128 /* of K */ };

/* What a plan depends on. Without padding: keys are compared as bytes. */
typedef struct Key {
  int64_t M, N, K, lda, ldb, ldc, ldy;
  uint8_t factors, output, ta, tb, add;                   /* types and flags */
  uint8_t align_a, align_b, align_c, align_y, align_bias; /* bytes, 0: not there */
  uint8_t unused[6];
} Key;
static_assert(sizeof(Key) == 7 * sizeof(int64_t) + 16, "a key has no padding");
struct KeyHash { /* FNV-1a */
  size_t operator()(const Key &k) const {
    const unsigned char *p = (const unsigned char *)&k;
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < sizeof k; i++) h = (h ^ p[i]) * 1099511628211u;
    return (size_t)h;
  }
};
struct KeySame {
  bool operator()(const Key &a, const Key &b) const { return memcmp(&a, &b, sizeof a) == 0; }
};

typedef struct Plan {
  bool offered; /* cuBLASLt has such a product */
  cublasLtMatmulDesc_t what;
  cublasLtMatrixLayout_t a, b, d; /* in cuBLASLt's order: a is the product's b */
  cublasLtMatmulAlgo_t algorithm;
} Plan;

struct DensePlans {
  cublasLtHandle_t handle;
  std::unordered_map<Key, Plan, KeyHash, KeySame> table;
};

/* A fault that something before the product has met is known to CUDA, not to cuBLASLt. */
static int lt_check(cublasStatus_t s, const Product *p) {
  if (s == CUBLAS_STATUS_SUCCESS) return OK;
  cudaError_t e = cudaGetLastError();
  return RAISE(ERR_DEVICE, "%s, a product [%lld,%lld] by [%lld,%lld], %s to %s: cuBLASLt says: %s%s%s", p->op,
               (long long)p->M, (long long)p->K, (long long)p->K, (long long)p->N, dtype_name(p->a.type),
               dtype_name(p->c.type), cublasLtGetStatusString(s), e ? "; CUDA says: " : "",
               e ? cudaGetErrorString(e) : "");
}
#define LT(call) TRY(lt_check((call), p)) /* in a function of a product p */

/* ---- open and close */
int dense_open(Device *dev) {
  DensePlans *plans = new DensePlans();
  cuda_of(dev)->dense = plans;
  cublasStatus_t s = cublasLtCreate(&plans->handle);
  CHECK(s == CUBLAS_STATUS_SUCCESS, ERR_DEVICE, "opening cuBLASLt: it says: %s", cublasLtGetStatusString(s));
  return OK;
}

static void destroy(Plan *plan) {
  if (plan->a) cublasLtMatrixLayoutDestroy(plan->a);
  if (plan->b) cublasLtMatrixLayoutDestroy(plan->b);
  if (plan->d) cublasLtMatrixLayoutDestroy(plan->d);
  if (plan->what) cublasLtMatmulDescDestroy(plan->what);
  *plan = Plan();
}

void dense_close(Device *dev) {
  DensePlans *plans = cuda_of(dev)->dense;
  if (plans == NULL) return;
  for (auto &entry : plans->table) destroy(&entry.second);
  if (plans->handle) cublasLtDestroy(plans->handle);
  delete plans;
  cuda_of(dev)->dense = NULL;
}

/* ---- the key */
static uint8_t alignment(const void *p) {
  uintptr_t at = (uintptr_t)p | WIDEST;
  return p == NULL ? 0 : (uint8_t)(at & ~(at - 1));
}

static Key key_of(const Product *p) {
  Key k;
  memset(&k, 0, sizeof k);
  k.M = p->M, k.N = p->N, k.K = p->K;
  k.lda = p->a.ld, k.ldb = p->b.ld, k.ldc = p->c.ld;
  k.ldy = tensor_none(p->y) ? 0 : p->y.ld;
  k.factors = (uint8_t)p->a.type, k.output = (uint8_t)p->c.type;
  k.ta = p->ta, k.tb = p->tb, k.add = p->add;
  k.align_a = alignment(p->a.data), k.align_b = alignment(p->b.data), k.align_c = alignment(p->c.data);
  k.align_y = alignment(p->y.data), k.align_bias = alignment(p->bias);
  return k;
}

/* ---- descriptors */
static cudaDataType_t lt_type(DType t) { return t == DT_BF16 ? CUDA_R_16BF : CUDA_R_32F; }

template <class T> static cublasStatus_t set(cublasLtMatmulDesc_t what, cublasLtMatmulDescAttributes_t name, T value) {
  return cublasLtMatmulDescSetAttribute(what, name, &value, sizeof value);
}
template <class T>
static cublasStatus_t set(cublasLtMatmulPreference_t wish, cublasLtMatmulPreferenceAttributes_t name, T value) {
  return cublasLtMatmulPreferenceSetAttribute(wish, name, &value, sizeof value);
}

static cublasLtEpilogue_t epilogue(const Product *p) {
  bool bias = p->bias != NULL;
  if (tensor_none(p->y)) return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  return bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
}

/* f32 factors are multiplied as such: CUBLAS_COMPUTE_32F knows no TF32. */
static int describe(const Product *p, Plan *plan) {
  cudaDataType_t out = lt_type(p->c.type), in = lt_type(p->a.type);
  const Tensor *d = tensor_none(p->y) ? &p->c : &p->y;
  LT(cublasLtMatmulDescCreate(&plan->what, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  LT(set(plan->what, CUBLASLT_MATMUL_DESC_TRANSA, p->tb ? CUBLAS_OP_T : CUBLAS_OP_N));
  LT(set(plan->what, CUBLASLT_MATMUL_DESC_TRANSB, p->ta ? CUBLAS_OP_T : CUBLAS_OP_N));
  LT(set(plan->what, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue(p)));
  if (p->bias) LT(set(plan->what, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, out));
  if (!tensor_none(p->y)) {
    LT(set(plan->what, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, out));
    LT(set(plan->what, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p->c.ld));
  }
  uint64_t M = (uint64_t)p->M, N = (uint64_t)p->N, K = (uint64_t)p->K;
  LT(cublasLtMatrixLayoutCreate(&plan->a, in, p->tb ? K : N, p->tb ? N : K, p->b.ld));
  LT(cublasLtMatrixLayoutCreate(&plan->b, in, p->ta ? M : K, p->ta ? K : M, p->a.ld));
  LT(cublasLtMatrixLayoutCreate(&plan->d, out, N, M, d->ld));
  return OK;
}

/* The pointers that are part of the description; proposals are asked for with the least aligned ones of the key. */
static int point(const Product *p, const Plan *plan, const void *bias, const void *aux) {
  if (p->bias) LT(set(plan->what, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias));
  if (!tensor_none(p->y)) LT(set(plan->what, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux));
  return OK;
}

/* ---- the algorithm */
/* Split sums of cuBLASLt 12.8 and 13.1 have been seen to lack what is left of K beyond whole tiles, on an H100 too
 * (github.com/facebookexperimental/triton/pull/2767): only sums that leave nothing are split. */
static int wishes(const Product *p, const Key *key, cublasLtMatmulPreference_t wish) {
  uint32_t split = key->K % WIDEST_TILE == 0 ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
  uint8_t align_d = key->align_y ? key->align_y : key->align_c;
  LT(set(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)DENSE_WORKSPACE));
  LT(set(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, split));
  LT(set(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, (uint32_t)key->align_b));
  LT(set(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, (uint32_t)key->align_a));
  LT(set(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, (uint32_t)align_d));
  LT(set(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, (uint32_t)align_d));
  return OK;
}

typedef struct Proposals {
  cublasLtMatmulHeuristicResult_t list[PROPOSALS];
  int count;
} Proposals;

static int propose(Device *dev, const Product *p, const Key *key, const Plan *plan, Proposals *out) {
  cublasLtMatmulPreference_t wish = NULL;
  cublasStatus_t s = CUBLAS_STATUS_SUCCESS;
  cublasLtMatmulHeuristicResult_t found[PROPOSALS];
  int count = 0;
  out->count = 0;
  LT(cublasLtMatmulPreferenceCreate(&wish));
  int err = wishes(p, key, wish);
  if (err == OK) err = point(p, plan, (void *)(uintptr_t)key->align_bias, (void *)(uintptr_t)key->align_c);
  if (err == OK)
    s = cublasLtMatmulAlgoGetHeuristic(cuda_of(dev)->dense->handle, plan->what, plan->a, plan->b, plan->d, plan->d,
                                       wish, PROPOSALS, found, &count);
  cublasLtMatmulPreferenceDestroy(wish);
  TRY(err);
  if (s == CUBLAS_STATUS_NOT_SUPPORTED) return OK;
  LT(s);
  for (int i = 0; i < count; i++)
    if (found[i].state == CUBLAS_STATUS_SUCCESS) out->list[out->count++] = found[i];
  return OK;
}

static cublasStatus_t run(Device *dev, const Product *p, const Plan *plan, const cublasLtMatmulAlgo_t *algorithm,
                          void *d, void *workspace) {
  static const float one = 1, zero = 0;
  return cublasLtMatmul(cuda_of(dev)->dense->handle, plan->what, &one, p->b.data, plan->a, p->a.data, plan->b,
                        p->add ? &one : &zero, d, plan->d, d, plan->d, algorithm, workspace, DENSE_WORKSPACE,
                        cuda_of(dev)->stream);
}

/* *ms := time of a few runs; infinite if the algorithm refuses. */
static int measure(Device *dev, const Product *p, const Plan *plan, const cublasLtMatmulAlgo_t *algorithm, void *d,
                   void *workspace, cudaEvent_t from, cudaEvent_t to, float *ms) {
  *ms = INFINITY;
  for (int i = 0; i < WARM_UP + TIMED; i++) {
    if (i == WARM_UP) TRY(cuda_check(cudaEventRecord(from, cuda_of(dev)->stream), "timing a product"));
    if (run(dev, p, plan, algorithm, d, workspace) != CUBLAS_STATUS_SUCCESS) return OK;
  }
  TRY(cuda_check(cudaEventRecord(to, cuda_of(dev)->stream), "timing a product"));
  TRY(cuda_check(cudaEventSynchronize(to), "timing a product"));
  return cuda_check(cudaEventElapsedTime(ms, from, to), "timing a product");
}

/* The fastest into plan->algorithm, by products into d. */
static int fastest(Device *dev, const Product *p, const Proposals *all, void *d, void *workspace, Plan *plan) {
  cudaEvent_t from = NULL, to = NULL;
  float best = INFINITY;
  int err = cuda_check(cudaEventCreateWithFlags(&from, 0), "making an event");
  if (err == OK) err = cuda_check(cudaEventCreateWithFlags(&to, 0), "making an event");
  for (int i = 0; i < all->count && err == OK; i++) {
    float ms;
    err = measure(dev, p, plan, &all->list[i].algo, d, workspace, from, to, &ms);
    if (err || ms >= best) continue;
    best = ms;
    plan->algorithm = all->list[i].algo;
  }
  if (from) cudaEventDestroy(from);
  if (to) cudaEventDestroy(to);
  return err;
}

static int choose(Device *dev, const Product *p, const Proposals *all, void *workspace, Plan *plan) {
  plan->algorithm = all->list[0].algo;
  if (dev->deterministic || all->count == 1) return OK;
  if (!p->add) return fastest(dev, p, all, tensor_none(p->y) ? p->c.data : p->y.data, workspace, plan);
  void *borrowed = NULL;
  size_t bytes = (size_t)(p->M * p->c.ld) * dtype_size(p->c.type);
  if (cudaMalloc(&borrowed, bytes) != cudaSuccess) {
    cudaGetLastError(); /* it is of no consequence */
    return OK;
  }
  int err = cuda_check(cudaMemsetAsync(borrowed, 0, bytes, cuda_of(dev)->stream), "zeroing");
  if (err == OK) err = fastest(dev, p, all, borrowed, workspace, plan);
  cudaStreamSynchronize(cuda_of(dev)->stream);
  cudaFree(borrowed);
  return err;
}

static int make(Device *dev, const Product *p, const Key *key, void *workspace, Plan *plan) {
  Proposals all;
  TRY(describe(p, plan));
  TRY(propose(dev, p, key, plan, &all));
  plan->offered = all.count > 0;
  if (!plan->offered) return OK;
  TRY(point(p, plan, p->bias, p->c.data));
  return choose(dev, p, &all, workspace, plan);
}

int dense_library(Device *dev, const Product *p, void *workspace, bool *done) {
  DensePlans *plans = cuda_of(dev)->dense;
  Key key = key_of(p);
  auto found = plans->table.find(key);
  if (found == plans->table.end()) {
    Plan made = Plan();
    int err = make(dev, p, &key, workspace, &made);
    if (err) destroy(&made);
    TRY(err);
    found = plans->table.emplace(key, made).first;
  }
  const Plan *plan = &found->second;
  *done = plan->offered;
  if (!plan->offered) return OK;
  TRY(point(p, plan, p->bias, p->c.data));
  LT(run(dev, p, plan, &plan->algorithm, tensor_none(p->y) ? p->c.data : p->y.data, workspace));
  return OK;
}
