/* dense_plan — products by cuBLASLt, planned once: descriptors and algorithms for each shape, kept in a hash table.
 *
 * cuBLASLt is column-major: a row-major [R,C] with row stride ld is to it a C×R matrix of that ld. So c = op(a) op(b)
 * becomes cᵀ = op(b)ᵀ op(a)ᵀ: b is its A, a its B, and a bias over c's columns is one over its rows.
 *
 * The choice of an algorithm. cuBLASLt proposes several, the best guess first. They round differently, so a choice by
 * timing gives other bits in another run or on another rank. A deterministic device takes the first proposal, which
 * depends only on the plan's key, the GPU model and cuBLASLt's version; hence every rank makes the same choice. Other
 * devices time the proposals. A long sum may be split if its parts are kept in f32 and added
 * by a pass of their own, in order. Excluded are sums in the order in which blocks happen to finish, and partial sums
 * rounded to the output's type.
 *
 * Families. The number of scored rows differs from step to step by a little. The choice is made once for numbers of rows
 * that are equal but for about an eighth: proposals are requested for the largest of them, so that they depend on
 * nothing but the family, and timed for the first that is met.
 *
 * Refusals. A product that cuBLASLt refuses, while it is planned or when it runs, is tried with the next proposal;
 * without any left, dense_library reports that it was not computed. The first refusal of a device is logged, except of
 * a small product that is not supported. A CUDA error is not a refusal.
 *
 * Timing has no side effects: a product that overwrites its output is timed on it, one that adds to it on temporary
 * memory. If that memory is not available, the first proposal is taken.
 *
 * Alignment. A key holds each pointer's alignment up to 16 bytes, the widest access of a kernel, and proposals are
 * requested for exactly that, so the alignment beyond it (such as the row of a larger tensor at which a view begins)
 * does not change results. */
#include "backend.h"
#include "base/log.h"
#include "dense.cuh"
#include <algorithm>
#include <stdio.h>
#include <string.h>
#include <unordered_map>
#ifdef __CUDACC__
#include <cublasLt.h>
#else
#include "emulation/cublaslt_on_cpu.h"
#endif

enum { PROPOSALS = 8, WIDEST = 16, WIDEST_TILE = 128 /* of K */ };
static const int64_t LARGE = 1 << 24; /* multiplications */

/* What a plan depends on. No padding, since keys are compared as bytes. */
typedef struct Key {
  int64_t M, N, K, lda, ldb, ldc, ldy, ldpre;
  uint8_t factors, output, ta, tb, add;                              /* types and flags */
  uint8_t align_a, align_b, align_c, align_y, align_bias, align_pre; /* bytes; 0: no such tensor */
  uint8_t keep;                                                      /* c is kept beside y */
  uint8_t remainder;                                                 /* K is not a multiple of WIDEST_TILE */
  uint8_t unused[3];
} Key;
static_assert(sizeof(Key) == 8 * sizeof(int64_t) + 16, "a key has no padding");
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

/* Algorithms, to be tried in order. */
typedef struct Choice {
  cublasLtMatmulAlgo_t list[PROPOSALS];
  int count;
} Choice;

typedef struct Plan {
  cublasLtMatmulDesc_t what;
  cublasLtMatrixLayout_t a, b, d; /* in cuBLASLt's order: a is the product's b */
  Choice choice;                  /* those not refused so far; none: the product is refused */
} Plan;

struct DensePlans {
  cublasLtHandle_t handle;
  std::unordered_map<Key, Plan, KeyHash, KeySame> table;
  std::unordered_map<Key, Choice, KeyHash, KeySame> choices; /* of families */
  std::unordered_map<Key, Way, KeyHash, KeySame> ways;
  bool logged; /* the first refusal */
};

/* ---- refusals */
#define LT(call)                                                                                                       \
  do {                                                                                                                 \
    cublasStatus_t s_ = (call);                                                                                        \
    if (s_ != CUBLAS_STATUS_SUCCESS) return s_;                                                                        \
  } while (0)

/* OK if cuBLASLt accepted or refused the product. ERR_DEVICE if CUDA reports an error, be it of an earlier kernel. */
static int check_refusal(Device *dev, const Product *p, cublasStatus_t s) {
  DensePlans *plans = cuda_of(dev)->dense;
  if (s == CUBLAS_STATUS_SUCCESS) return OK;
  char what[160];
  snprintf(what, sizeof what, "%s, [%lld,%lld] by [%lld,%lld], %s to %s%s%s", p->op, (long long)p->M, (long long)p->K,
           (long long)p->K, (long long)p->N, dtype_name(p->a.type), dtype_name(p->c.type), p->bias ? ", bias" : "",
           !tensor_none(p->pre) ? ", GELU's gradient"
           : tensor_none(p->y)  ? ""
                                : ", GELU");
  cudaError_t e = cudaGetLastError();
  CHECK(e == cudaSuccess, ERR_DEVICE, "%s: cuBLASLt: %s; CUDA: %s", what, cublasLtGetStatusString(s),
        cudaGetErrorString(e));
  bool minor =
      s == CUBLAS_STATUS_NOT_SUPPORTED && p->M * p->N * p->K < LARGE; /* odd shapes are expected to be refused */
  if (minor || plans->logged) return OK;
  plans->logged = true;
  log_warn("cuBLASLt refuses a product (%s): %s; another algorithm or our own kernel computes it; further refusals are "
           "not reported",
           what, cublasLtGetStatusString(s));
  return OK;
}

/* ---- open and close */
int dense_open(Device *dev) {
  DensePlans *plans = new DensePlans();
  cuda_of(dev)->dense = plans;
  cublasStatus_t s = cublasLtCreate(&plans->handle);
  CHECK(s == CUBLAS_STATUS_SUCCESS, ERR_DEVICE, "opening cuBLASLt: %s", cublasLtGetStatusString(s));
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

/* The aux matrix: GELU's input, which cuBLASLt stores beside the output or, for the gradient, reads; or none. */
static Tensor aux_of(const Product *p) {
  if (!tensor_none(p->pre)) return p->pre;
  return !tensor_none(p->y) && p->y.data != p->c.data ? p->c : TENSOR_NONE;
}
static bool has_aux(const Product *p) { return !tensor_none(aux_of(p)); }

static Key key_of(const Product *p) {
  Key k;
  memset(&k, 0, sizeof k);
  k.M = p->M, k.N = p->N, k.K = p->K;
  k.lda = p->a.ld, k.ldb = p->b.ld, k.ldc = p->c.ld;
  k.ldy = tensor_none(p->y) ? 0 : p->y.ld;
  k.ldpre = tensor_none(p->pre) ? 0 : p->pre.ld;
  k.factors = (uint8_t)p->a.type, k.output = (uint8_t)p->c.type;
  k.ta = p->ta, k.tb = p->tb, k.add = p->add;
  k.align_a = alignment(p->a.data), k.align_b = alignment(p->b.data), k.align_c = alignment(p->c.data);
  k.align_y = alignment(p->y.data), k.align_bias = alignment(p->bias);
  k.align_pre = alignment(p->pre.data);
  k.keep = has_aux(p);
  k.remainder = p->K % WIDEST_TILE != 0;
  return k;
}

/* ---- families */
enum { FAMILY_LEAST = 2048 }; /* rows; products of fewer are a family each */

/* The largest number of rows of the family. */
static int64_t most_rows(int64_t rows) {
  int64_t unit = 1;
  if (rows < FAMILY_LEAST) return rows;
  while (unit * 16 <= rows) unit *= 2;
  return round_up(rows, unit);
}

/* p with the largest number of rows of its family: what is summed over if a is transposed, else the output's rows. */
static Product largest(const Product *p) {
  Product q = *p;
  if (p->ta) {
    q.K = most_rows(p->K);
  } else {
    q.M = most_rows(p->M);
  }
  return q;
}

/* A sum that is longer than that of the family's key may have a remainder where it has none. */
static Key family_of(const Product *p) {
  Product q = largest(p);
  Key k = key_of(&q);
  k.remainder = p->K % WIDEST_TILE != 0;
  return k;
}

/* ---- descriptors */
static cudaDataType_t lt_type(DType t) { return t == DT_BF16 ? CUDA_R_16BF : CUDA_R_32F; }

template <class T> static cublasStatus_t set(cublasLtMatmulDesc_t what, cublasLtMatmulDescAttributes_t name, T value) {
  return cublasLtMatmulDescSetAttribute(what, name, &value, sizeof value);
}
template <class T>
static cublasStatus_t set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t name, T value) {
  return cublasLtMatmulPreferenceSetAttribute(preference, name, &value, sizeof value);
}

static cublasLtEpilogue_t epilogue(const Product *p) {
  bool bias = p->bias != NULL;
  if (!tensor_none(p->pre)) return CUBLASLT_EPILOGUE_DGELU;
  if (tensor_none(p->y)) return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  if (!has_aux(p)) return bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
  return bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
}

/* f32 products are computed in f32: CUBLAS_COMPUTE_32F does not use TF32. */
static cublasStatus_t describe(const Product *p, Plan *plan) {
  cudaDataType_t out = lt_type(p->c.type), in = lt_type(p->a.type);
  const Tensor *d = tensor_none(p->y) ? &p->c : &p->y;
  LT(cublasLtMatmulDescCreate(&plan->what, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  LT(set(plan->what, CUBLASLT_MATMUL_DESC_TRANSA, p->tb ? CUBLAS_OP_T : CUBLAS_OP_N));
  LT(set(plan->what, CUBLASLT_MATMUL_DESC_TRANSB, p->ta ? CUBLAS_OP_T : CUBLAS_OP_N));
  LT(set(plan->what, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue(p)));
  if (p->bias) LT(set(plan->what, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, out));
  if (has_aux(p)) {
    LT(set(plan->what, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, out));
    LT(set(plan->what, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, aux_of(p).ld));
  }
  uint64_t M = (uint64_t)p->M, N = (uint64_t)p->N, K = (uint64_t)p->K;
  LT(cublasLtMatrixLayoutCreate(&plan->a, in, p->tb ? K : N, p->tb ? N : K, p->b.ld));
  LT(cublasLtMatrixLayoutCreate(&plan->b, in, p->ta ? M : K, p->ta ? K : M, p->a.ld));
  return cublasLtMatrixLayoutCreate(&plan->d, out, N, M, d->ld);
}

/* The pointers that are part of the description. */
static cublasStatus_t point(const Product *p, const Plan *plan, const void *bias, const void *aux) {
  if (p->bias) LT(set(plan->what, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias));
  if (has_aux(p)) LT(set(plan->what, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux));
  return CUBLAS_STATUS_SUCCESS;
}

/* ---- the algorithm */
/* Split sums of cuBLASLt 12.8 and 13.1 have been seen to omit the remainder of K beyond whole tiles, on an H100 too
 * (github.com/facebookexperimental/triton/pull/2767): only sums without a remainder are split. */
static cublasStatus_t set_preferences(const Key *key, cublasLtMatmulPreference_t preference) {
  uint32_t split = key->remainder ? CUBLASLT_REDUCTION_SCHEME_NONE : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  uint8_t align_d = key->align_y ? key->align_y : key->align_c;
  LT(set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)DENSE_WORKSPACE));
  LT(set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, split));
  LT(set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, (uint32_t)key->align_b));
  LT(set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, (uint32_t)key->align_a));
  LT(set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, (uint32_t)align_d));
  return set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, (uint32_t)align_d);
}

/* Fill plan->choice with cuBLASLt's proposals, requested for pointers with just the alignment of the key. */
static cublasStatus_t propose(Device *dev, const Product *p, const Key *key, Plan *plan) {
  cublasLtMatmulPreference_t preference = NULL;
  cublasLtMatmulHeuristicResult_t found[PROPOSALS];
  int count = 0;
  LT(point(p, plan, (void *)(uintptr_t)key->align_bias,
           (void *)(uintptr_t)(key->align_pre ? key->align_pre : key->align_c)));
  LT(cublasLtMatmulPreferenceCreate(&preference));
  cublasStatus_t s = set_preferences(key, preference);
  if (s == CUBLAS_STATUS_SUCCESS)
    s = cublasLtMatmulAlgoGetHeuristic(cuda_of(dev)->dense->handle, plan->what, plan->a, plan->b, plan->d, plan->d,
                                       preference, PROPOSALS, found, &count);
  cublasLtMatmulPreferenceDestroy(preference);
  for (int i = 0; i < count && s == CUBLAS_STATUS_SUCCESS; i++)
    if (found[i].state == CUBLAS_STATUS_SUCCESS) plan->choice.list[plan->choice.count++] = found[i].algo;
  return s;
}

/* The product by algorithm number i of the plan, into d. */
static cublasStatus_t run(Device *dev, const Product *p, const Plan *plan, int i, void *d, void *workspace) {
  static const float one = 1, zero = 0;
  return cublasLtMatmul(cuda_of(dev)->dense->handle, plan->what, &one, p->b.data, plan->a, p->a.data, plan->b,
                        p->add ? &one : &zero, d, plan->d, d, plan->d, &plan->choice.list[i], workspace,
                        DENSE_WORKSPACE, cuda_of(dev)->stream);
}

/* *ms := time of a few runs of algorithm i; infinite if it is refused. */
static int measure(Device *dev, const Product *p, const Plan *plan, int i, void *d, void *workspace, float *ms) {
  cublasStatus_t s = CUBLAS_STATUS_SUCCESS;
  auto call = [&] {
    if (s == CUBLAS_STATUS_SUCCESS) s = run(dev, p, plan, i, d, workspace);
    return OK;
  };
  TRY(dense_time(dev, call, ms));
  if (s != CUBLAS_STATUS_SUCCESS) *ms = INFINITY;
  return check_refusal(dev, p, s);
}

/* Sort the plan's algorithms by time, measured by products into d. */
static int sort_by_time(Device *dev, const Product *p, void *d, void *workspace, Plan *plan) {
  float ms[PROPOSALS];
  Choice *c = &plan->choice;
  for (int i = 0; i < c->count; i++) TRY(measure(dev, p, plan, i, d, workspace, &ms[i]));
  for (int i = 1; i < c->count; i++)
    for (int k = i; k > 0 && ms[k] < ms[k - 1]; k--) {
      std::swap(ms[k], ms[k - 1]);
      std::swap(c->list[k], c->list[k - 1]);
    }
  return OK;
}

static int sort_algorithms(Device *dev, const Product *p, void *workspace, Plan *plan) {
  if (!p->add) return sort_by_time(dev, p, tensor_none(p->y) ? p->c.data : p->y.data, workspace, plan);
  void *temporary = NULL;
  size_t bytes = (size_t)(p->M * p->c.ld) * dtype_size(p->c.type);
  if (cudaMalloc(&temporary, bytes) != cudaSuccess) {
    cudaGetLastError(); /* clear it: the order stays as proposed */
    return OK;
  }
  int err = cuda_check(cudaMemsetAsync(temporary, 0, bytes, cuda_of(dev)->stream), "zeroing");
  if (err == OK) err = sort_by_time(dev, p, temporary, workspace, plan);
  cudaStreamSynchronize(cuda_of(dev)->stream);
  cudaFree(temporary);
  return err;
}

/* The choice of a new family: proposals for its largest member, sorted by time for p, whose plan is described. */
static int choose(Device *dev, const Product *p, const Key *family, void *workspace, Plan *plan) {
  Product q = largest(p);
  Plan whole = Plan();
  cublasStatus_t s = describe(&q, &whole);
  if (s == CUBLAS_STATUS_SUCCESS) s = propose(dev, &q, family, &whole);
  if (s == CUBLAS_STATUS_SUCCESS) plan->choice = whole.choice;
  destroy(&whole);
  if (s == CUBLAS_STATUS_SUCCESS) s = point(p, plan, p->bias, aux_of(p).data);
  if (s != CUBLAS_STATUS_SUCCESS) {
    plan->choice.count = 0;
    return check_refusal(dev, p, s);
  }
  return plan->choice.count > 1 && !dev->deterministic ? sort_algorithms(dev, p, workspace, plan) : OK;
}

static int make(Device *dev, const Product *p, void *workspace, Plan *plan) {
  DensePlans *plans = cuda_of(dev)->dense;
  Key family = family_of(p);
  cublasStatus_t s = describe(p, plan);
  if (s != CUBLAS_STATUS_SUCCESS) return check_refusal(dev, p, s);
  auto found = plans->choices.find(family);
  if (found == plans->choices.end()) {
    TRY(choose(dev, p, &family, workspace, plan));
    found = plans->choices.emplace(family, plan->choice).first;
  }
  plan->choice = found->second;
  return OK;
}

int dense_library(Device *dev, const Product *p, void *workspace, bool *done) {
  DensePlans *plans = cuda_of(dev)->dense;
  Key key = key_of(p);
  auto found = plans->table.find(key);
  if (found == plans->table.end()) {
    Plan made = Plan();
    int err = make(dev, p, workspace, &made);
    if (err) destroy(&made);
    TRY(err);
    found = plans->table.emplace(key, made).first;
  }
  Plan *plan = &found->second;
  Choice *c = &plan->choice;
  for (*done = false; c->count > 0;) {
    cublasStatus_t s = point(p, plan, p->bias, aux_of(p).data);
    if (s == CUBLAS_STATUS_SUCCESS) s = run(dev, p, plan, 0, tensor_none(p->y) ? p->c.data : p->y.data, workspace);
    *done = s == CUBLAS_STATUS_SUCCESS;
    if (*done) return OK;
    TRY(check_refusal(dev, p, s));
    std::copy(c->list + 1, c->list + c->count, c->list); /* the refused one is not tried again */
    c->count--;
  }
  return OK;
}

Way *dense_way(Device *dev, const Product *p) { return &cuda_of(dev)->dense->ways[family_of(p)]; }
