/* cublaslt_on_cpu — the part of cuBLASLt that cuda/ uses, on the CPU: descriptors store their attributes, and a product
 * is computed from them, column-major, with sums in f32.
 *
 * Calls that cuBLASLt's manual forbids abort the process or are refused. Where the manual leaves support open, little
 * is supported, so that the fallbacks are exercised: bf16 only if every pointer and every column is aligned to 8 bytes,
 * a bias only over more than one column, no sums of one term. The heuristic returns up to three algorithms: a plain
 * sum, one split into two halves, and one whose order changes from call to call, as with atomics. Their bits differ. A
 * product refuses pointers with a smaller alignment than was requested from the heuristic.
 *
 * EMULATION_CUBLASLT requests refusals beyond the manual, with INVALID_VALUE, which the library has been seen to
 * return:
 *   attribute  the types of bias and aux cannot be set
 *   epilogue   there is no algorithm with a bias or GELU
 *   first      the first algorithm is refused when it runs
 *   every      every product is refused when it runs
 */
#pragma once
#include <math.h>

#include <vector>

#include "emulation/runtime_on_cpu.h"

typedef enum cublasStatus_t {
  CUBLAS_STATUS_SUCCESS = 0,
  CUBLAS_STATUS_INVALID_VALUE = 7,
  CUBLAS_STATUS_EXECUTION_FAILED = 13,
  CUBLAS_STATUS_NOT_SUPPORTED = 15
} cublasStatus_t;
typedef enum cudaDataType_t { CUDA_R_32F = 0, CUDA_R_16BF = 14 } cudaDataType_t;
typedef enum cublasComputeType_t { CUBLAS_COMPUTE_32F = 68 } cublasComputeType_t;
typedef enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 } cublasOperation_t;
typedef enum cublasLtEpilogue_t {
  CUBLASLT_EPILOGUE_DEFAULT = 1,
  CUBLASLT_EPILOGUE_BIAS = 4,
  CUBLASLT_EPILOGUE_GELU = 32,
  CUBLASLT_EPILOGUE_GELU_BIAS = 32 | 4,
  CUBLASLT_EPILOGUE_GELU_AUX = 32 | 128,
  CUBLASLT_EPILOGUE_GELU_AUX_BIAS = 32 | 128 | 4,
  CUBLASLT_EPILOGUE_DGELU = 64 | 128
} cublasLtEpilogue_t;
typedef enum cublasLtMatmulDescAttributes_t {
  CUBLASLT_MATMUL_DESC_TRANSA = 3,
  CUBLASLT_MATMUL_DESC_TRANSB = 4,
  CUBLASLT_MATMUL_DESC_EPILOGUE = 7,
  CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8,
  CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER = 11,
  CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD = 12,
  CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE = 22,
  CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE = 26
} cublasLtMatmulDescAttributes_t;
typedef enum cublasLtMatmulPreferenceAttributes_t {
  CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1,
  CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8
} cublasLtMatmulPreferenceAttributes_t;
typedef enum cublasLtReductionScheme_t {
  CUBLASLT_REDUCTION_SCHEME_NONE = 0,
  CUBLASLT_REDUCTION_SCHEME_INPLACE = 1,
  CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2,
  CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE = 4
} cublasLtReductionScheme_t;

/* What a handle points to; opaque to the caller. */
typedef struct cublasLtContext {
  int products;
} * cublasLtHandle_t;
typedef struct cublasLtMatmulDescOpaque {
  cublasOperation_t transa, transb;
  cublasLtEpilogue_t epilogue;
  const void *bias;
  void *aux;
  int64_t aux_ld;
  int32_t bias_type, aux_type; /* −1: that of D */
} * cublasLtMatmulDesc_t;
typedef struct cublasLtMatrixLayoutOpaque {
  cudaDataType_t type;
  int64_t rows, cols, ld;
} * cublasLtMatrixLayout_t;
typedef struct cublasLtMatmulPreferenceOpaque {
  uint64_t workspace;
  uint32_t schemes, align[4]; /* of A, B, C, D */
} * cublasLtMatmulPreference_t;
typedef struct cublasLtMatmulAlgo_t {
  uint32_t scheme, align[4], align_bias, align_aux; /* the requested alignments */
  uint64_t workspace;
  int number; /* index in the list of algorithms */
} cublasLtMatmulAlgo_t;
typedef struct cublasLtMatmulHeuristicResult_t {
  cublasLtMatmulAlgo_t algo;
  size_t workspaceSize;
  cublasStatus_t state;
  float wavesCount;
} cublasLtMatmulHeuristicResult_t;

/* ---- creating descriptors and setting attributes */
inline const char *cublasLtGetStatusString(cublasStatus_t s) {
  switch (s) {
  case CUBLAS_STATUS_SUCCESS:
    return "success";
  case CUBLAS_STATUS_INVALID_VALUE:
    return "an unsupported value or parameter was passed to the function";
  case CUBLAS_STATUS_NOT_SUPPORTED:
    return "the functionality requested is not supported";
  default:
    return "the function failed to launch on the GPU";
  }
}
inline cublasStatus_t cublasLtCreate(cublasLtHandle_t *h) { return *h = new cublasLtContext(), CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) { return delete h, CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t, cudaDataType_t scale) {
  if (scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
  *d = new cublasLtMatmulDescOpaque{CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr, nullptr, 0, -1, -1};
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) { return delete d, CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType_t type, uint64_t rows,
                                                 uint64_t cols, int64_t ld) {
  *l = new cublasLtMatrixLayoutOpaque{type, (int64_t)rows, (int64_t)cols, ld};
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) { return delete l, CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p) {
  *p = new cublasLtMatmulPreferenceOpaque{0, 7, {256, 256, 256, 256}};
  return CUBLAS_STATUS_SUCCESS;
}
inline cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
  return delete p, CUBLAS_STATUS_SUCCESS;
}

namespace emulation {
namespace lt {
inline bool refuses(const char *what) {
  const char *asked = getenv("EMULATION_CUBLASLT");
  return asked && strcmp(asked, what) == 0;
}
template <class T> cublasStatus_t assign(T *to, const void *from, size_t bytes) {
  if (bytes != sizeof *to) return CUBLAS_STATUS_INVALID_VALUE;
  memcpy(to, from, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
} /* namespace lt */
} /* namespace emulation */

inline cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name,
                                                     const void *from, size_t bytes) {
  using emulation::lt::assign;
  bool types = name == CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE || name == CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE;
  if (types && emulation::lt::refuses("attribute")) return CUBLAS_STATUS_INVALID_VALUE;
  switch (name) {
  case CUBLASLT_MATMUL_DESC_TRANSA:
    return assign(&d->transa, from, bytes);
  case CUBLASLT_MATMUL_DESC_TRANSB:
    return assign(&d->transb, from, bytes);
  case CUBLASLT_MATMUL_DESC_EPILOGUE:
    return assign(&d->epilogue, from, bytes);
  case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
    return assign(&d->bias, from, bytes);
  case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
    return assign(&d->aux, from, bytes);
  case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
    return assign(&d->aux_ld, from, bytes);
  case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE:
    return assign(&d->aux_type, from, bytes);
  case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
    return assign(&d->bias_type, from, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}
inline cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                           cublasLtMatmulPreferenceAttributes_t name, const void *from,
                                                           size_t bytes) {
  using emulation::lt::assign;
  switch (name) {
  case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
    return assign(&p->workspace, from, bytes);
  case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
    return assign(&p->schemes, from, bytes);
  case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
  case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
  case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
  case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
    return assign(&p->align[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], from, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

namespace emulation {
namespace lt {
typedef cublasLtMatmulDesc_t Desc;
typedef cublasLtMatrixLayout_t Layout;
struct Columns { /* a column-major matrix on the device */
  Layout l;
  char *data;
  size_t size() const { return l->type == CUDA_R_16BF ? sizeof(__nv_bfloat16) : sizeof(float); }
  char *at(int64_t row, int64_t col) const { return data + (size_t)(row + col * l->ld) * size(); }
};
inline float load(const char *p, int32_t type) {
  if (type == CUDA_R_16BF) return __bfloat162float(*(const __nv_bfloat16 *)p);
  return *(const float *)p;
}
inline void store(char *p, int32_t type, float x) {
  if (type == CUDA_R_16BF)
    *(__nv_bfloat16 *)p = __float2bfloat16(x);
  else
    *(float *)p = x;
}
inline bool has_bias(Desc d) { return (d->epilogue & CUBLASLT_EPILOGUE_BIAS) != 0; }
inline bool has_aux(Desc d) { return (d->epilogue & 128) != 0; }
inline bool has_gelu(Desc d) { return (d->epilogue & 32) != 0; }
inline bool has_slope(Desc d) { return d->epilogue == CUBLASLT_EPILOGUE_DGELU; }
inline int32_t type_or(int32_t type, Layout D) { return type == -1 ? D->type : type; }

/* Whether the arguments are consistent. */
inline bool valid(Desc d, Layout A, Layout B, Layout C, Layout D) {
  bool ta = d->transa == CUBLAS_OP_T, tb = d->transb == CUBLAS_OP_T;
  int64_t k = ta ? A->rows : A->cols;
  for (Layout l : {A, B, C, D})
    if (l->rows <= 0 || l->cols <= 0 || l->ld < l->rows) return false;
  if ((ta ? A->cols : A->rows) != D->rows || (tb ? B->rows : B->cols) != D->cols) return false;
  if ((tb ? B->cols : B->rows) != k || C->rows != D->rows || C->cols != D->cols) return false;
  return !has_aux(d) || (d->aux_ld % 8 == 0 && d->aux_ld >= D->rows);
}
/* The manual's table of types: both factors of one type; C and D of one type, f32 or the factors'; bias and aux of D's
 * type. */
inline bool known(Desc d, Layout A, Layout B, Layout C, Layout D) {
  if (A->type != B->type || C->type != D->type || (D->type != CUDA_R_32F && D->type != A->type)) return false;
  if (has_bias(d) && type_or(d->bias_type, D) != D->type) return false;
  return !has_aux(d) || type_or(d->aux_type, D) == D->type;
}
inline uint32_t least(const void *p) {
  uintptr_t at = (uintptr_t)p | 256;
  return p ? (uint32_t)(at & ~(at - 1)) : 0;
}
/* What this stand-in supports; cuBLASLt may support more. */
inline bool offered(Desc d, Layout A, Layout B, Layout D, const uint32_t *align) {
  const Layout all[] = {A, B, D};
  const uint32_t start[] = {align[0], align[1], align[3]};
  for (int i = 0; i < 3 && A->type == CUDA_R_16BF; i++) {
    size_t column = (size_t)all[i]->ld * (all[i]->type == CUDA_R_16BF ? sizeof(__nv_bfloat16) : sizeof(float));
    if (start[i] < 8 || column % 8 != 0) return false;
  }
  if ((has_bias(d) && D->cols == 1) || (d->transa == CUBLAS_OP_T ? A->rows : A->cols) == 1) return false;
  return !has_aux(d) || (least(d->aux) >= 16 && align[3] >= 16);
}
} /* namespace lt */
} /* namespace emulation */

/* The first algorithm is the recommended one. As with cuBLASLt it need not be deterministic. */
inline cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t A,
                                                     cublasLtMatrixLayout_t B, cublasLtMatrixLayout_t C,
                                                     cublasLtMatrixLayout_t D, cublasLtMatmulPreference_t p, int most,
                                                     cublasLtMatmulHeuristicResult_t *list, int *count) {
  using namespace emulation::lt;
  *count = 0;
  if (most <= 0 || !valid(d, A, B, C, D)) return CUBLAS_STATUS_INVALID_VALUE;
  if (d->epilogue != CUBLASLT_EPILOGUE_DEFAULT && refuses("epilogue")) return CUBLAS_STATUS_INVALID_VALUE;
  if (!known(d, A, B, C, D) || !offered(d, A, B, D, p->align)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const uint32_t schemes[] = {CUBLASLT_REDUCTION_SCHEME_INPLACE, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE,
                              CUBLASLT_REDUCTION_SCHEME_NONE};
  for (uint32_t scheme : schemes) {
    size_t workspace = scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE ? sizeof(float) : 0;
    if ((scheme & p->schemes) != scheme || workspace > p->workspace || *count == most) continue;
    cublasLtMatmulHeuristicResult_t *r = &list[(*count)++];
    *r = cublasLtMatmulHeuristicResult_t();
    r->workspaceSize = r->algo.workspace = workspace;
    r->algo.scheme = scheme;
    r->algo.number = *count - 1;
    memcpy(r->algo.align, p->align, sizeof p->align);
    r->algo.align_bias = has_bias(d) ? least(d->bias) : 0;
    r->algo.align_aux = has_aux(d) ? least(d->aux) : 0;
  }
  return CUBLAS_STATUS_SUCCESS;
}

namespace emulation {
namespace lt {
/* a row of op(A) or a column of op(B), contiguous over k */
inline std::vector<float> gather(Columns m, bool k_is_row, int64_t which, int64_t K) {
  std::vector<float> v((size_t)K);
  for (int64_t k = 0; k < K; k++) v[(size_t)k] = load(k_is_row ? m.at(k, which) : m.at(which, k), m.l->type);
  return v;
}
inline float dot(const float *a, const float *b, int64_t from, int64_t to) {
  float s = 0;
  for (int64_t k = from; k < to; k++) s += a[k] * b[k];
  return s;
}
/* `turn`, below 7, selects where a sum without a fixed order begins. A sum in two halves omits the remainder of K
 * beyond whole tiles, as some cuBLASLt algorithms do. */
inline float sum(const float *a, const float *b, int64_t K, uint32_t scheme, int turn) {
  if (scheme == CUBLASLT_REDUCTION_SCHEME_NONE) return dot(a, b, 0, K);
  if (scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) K -= K % 128;
  int64_t half = scheme == CUBLASLT_REDUCTION_SCHEME_INPLACE ? turn * K / 7 : K / 2;
  return dot(a, b, half, K) + dot(a, b, 0, half);
}
inline float gelu(float x) { return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x))); }
inline float gelu_slope(float x) {
  float t = tanhf(0.7978845608f * (x + 0.044715f * x * x * x));
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.7978845608f * (1 + 3 * 0.044715f * x * x);
}

inline void finish(Desc d, Columns C, Columns D, int64_t m, int64_t n, float v, float beta) {
  if (beta != 0) v += beta * load(C.at(m, n), C.l->type);
  if (has_bias(d)) v += load((const char *)d->bias + (size_t)m * D.size(), D.l->type);
  char *aux = has_aux(d) ? (char *)d->aux + (size_t)(m + n * d->aux_ld) * D.size() : nullptr;
  if (has_slope(d))
    v *= gelu_slope(load(aux, D.l->type));
  else if (has_aux(d))
    store(aux, D.l->type, v);
  if (has_gelu(d)) v = gelu(v);
  store(D.at(m, n), D.l->type, v);
}
} /* namespace lt */
} /* namespace emulation */

inline cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha, const void *A,
                                     cublasLtMatrixLayout_t Al, const void *B, cublasLtMatrixLayout_t Bl,
                                     const void *beta, const void *C, cublasLtMatrixLayout_t Cl, void *D,
                                     cublasLtMatrixLayout_t Dl, const cublasLtMatmulAlgo_t *algo, void *workspace,
                                     size_t bytes, cudaStream_t) {
  using namespace emulation::lt;
  if (refuses("every") || (algo->number == 0 && refuses("first"))) return CUBLAS_STATUS_INVALID_VALUE;
  if (!valid(d, Al, Bl, Cl, Dl) || !known(d, Al, Bl, Cl, Dl)) return CUBLAS_STATUS_INVALID_VALUE;
  const void *const pointers[] = {A, B, C, D, d->bias, d->aux};
  const uint32_t asked[] = {algo->align[0], algo->align[1],   algo->align[2],
                            algo->align[3], algo->align_bias, algo->align_aux};
  for (int i = 0; i < 6; i++)
    if (asked[i] > 0 && (!emulation::runtime::on_device(pointers[i]) || least(pointers[i]) < asked[i]))
      return CUBLAS_STATUS_INVALID_VALUE;
  if (bytes < algo->workspace || (algo->workspace && workspace == nullptr)) return CUBLAS_STATUS_INVALID_VALUE;
  if (!emulation::runtime::may_launch()) return CUBLAS_STATUS_EXECUTION_FAILED;

  emulation::runtime::Open open;
  Columns a = {Al, (char *)A}, b = {Bl, (char *)B}, c = {Cl, (char *)C}, o = {Dl, (char *)D};
  bool ta = d->transa == CUBLAS_OP_T, tb = d->transb == CUBLAS_OP_T;
  int64_t K = ta ? Al->rows : Al->cols;
  std::vector<std::vector<float>> columns;
  for (int64_t n = 0; n < Dl->cols; n++) columns.push_back(gather(b, !tb, n, K));
  int turn = (int)(emulation::runtime::launches % 7);
  for (int64_t m = 0; m < Dl->rows; m++) {
    std::vector<float> row = gather(a, ta, m, K);
    for (int64_t n = 0; n < Dl->cols; n++) {
      float v = *(const float *)alpha * sum(row.data(), columns[(size_t)n].data(), K, algo->scheme, turn);
      finish(d, c, o, m, n, v, *(const float *)beta);
    }
  }
  return CUBLAS_STATUS_SUCCESS;
}
