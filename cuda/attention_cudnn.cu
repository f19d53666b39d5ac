/* attention_cudnn — attention by cuDNN. There is a plan for each shape and direction, built when it is first needed
 * (some tenths of a second, in which cuDNN compiles the kernel) and kept. What cuDNN refuses, when the plan is built or
 * when it runs, is left to attention.cu; both read and write the same lse.
 *
 * A deterministic backward runs in slices of sequences, which depend on nothing of each other, one after the other in
 * the same workspace (graph_slice). The last slice may be smaller and then has a plan of its own. */
#include "attention_cudnn.h"
#include "backend.h"
#include "packs.cuh"
#include <stdio.h>
#ifdef HAVE_CUDNN
#include "attention_graph.h"

enum { NEWEST_MAJOR = 9 }; /* Hopper: up to here the graph decides whether backward repeats bit for bit */

/* Plan — a graph and its key, in a list. */
typedef struct Plan {
  GraphKey key;
  Graph graph;
  char refusal[ATTENTION_REASON]; /* why cuDNN refuses it; "": it does not */
  struct Plan *next;
} Plan;

struct AttentionPlans {
  cudnnHandle_t handle; /* opened with the first plan */
  Plan *list;
};

int attention_open(Device *dev) {
  cuda_of(dev)->attention = new AttentionPlans();
  return OK;
}

void attention_close(Device *dev) {
  AttentionPlans *plans = cuda_of(dev)->attention;
  if (plans == NULL) return;
  for (Plan *p = plans->list, *next; p; p = next) {
    next = p->next;
    graph_destroy(&p->graph);
    delete p;
  }
  if (plans->handle) cudnnDestroy(plans->handle);
  delete plans;
  cuda_of(dev)->attention = NULL;
}

/* ---- plans */
static int check(cudnnStatus_t s, const char *what) {
  CHECK(s == CUDNN_STATUS_SUCCESS, ERR_DEVICE, "%s: %s", what, cudnnGetErrorString(s));
  return OK;
}

static int open_handle(Device *dev) {
  AttentionPlans *plans = cuda_of(dev)->attention;
  if (plans->handle) return OK;
  cudnnHandle_t handle;
  TRY(check(cudnnCreate(&handle), "opening cuDNN"));
  int err = check(cudnnSetStream(handle, cuda_of(dev)->stream), "setting cuDNN's stream");
  if (err)
    cudnnDestroy(handle);
  else
    plans->handle = handle;
  return err;
}

static bool same(const GraphKey *a, const GraphKey *b) {
  return a->B == b->B && a->H == b->H && a->L == b->L && a->K == b->K && a->causal == b->causal &&
         a->backward == b->backward && a->deterministic == b->deterministic;
}

/* Turn the error under way into the plan's refusal. */
static void refuse(Plan *p) {
  const GraphKey *k = &p->key;
  snprintf(p->refusal, sizeof p->refusal, "%s, of %ld sequences of %ld, %ld heads of %ld%s, %s", err_message(),
           (long)k->B, (long)k->L, (long)k->H, (long)k->K, k->causal ? ", causal" : "",
           k->backward ? "backward" : "forward");
  err_clear();
}

static Plan *make_plan(Device *dev, const GraphKey *key) {
  AttentionPlans *plans = cuda_of(dev)->attention;
  Plan *p = new Plan();
  p->key = *key;
  p->next = plans->list;
  plans->list = p;
  int err = open_handle(dev);
  if (err == OK) err = graph_build(&p->graph, *key, plans->handle, NULL);
  if (err) refuse(p);
  return p;
}

static Plan *plan_of(Device *dev, const GraphKey *key) {
  for (Plan *p = cuda_of(dev)->attention->list; p; p = p->next)
    if (same(&p->key, key)) return p;
  return make_plan(dev, key);
}

/* ---- running a plan */
static bool packed(Tensor t, int64_t cols) { return tensor_none(t) || (t.ld == cols && aligned(t.data, 16)); }

/* Shapes for which plans are built but compute wrong results; cuDNN's own front end excludes them. */
static bool wrong(int64_t L) {
  size_t version = cudnnGetVersion();
  return version == 91000 || version == 91001 || (version <= 91500 && L % 128 != 0);
}

/* Whether cuDNN is asked at all; if not, the reason is written. 128 columns are what all GPUs support. */
static bool suitable(const Attention *a, char reason[ATTENTION_REASON]) {
  int64_t D = cols_of(a->o), K = D / a->heads;
  const char *why = NULL;
  if (a->qkv.type != DT_BF16)
    why = "activations are f32";
  else if (a->block)
    why = "block diffusion reads two halves";
  else if (!tensor_none(a->lengths))
    why = "padding is masked (model.mask_padding)";
  else if (K % 8 != 0 || K > 128)
    why = "the width of heads is not a multiple of 8 up to 128";
  else if (a->L == 1)
    why = "sequences have one token";
  else if (!packed(a->qkv, 3 * D) || !packed(a->o, D) || !packed(a->d_o, D) || !packed(a->dqkv, 3 * D))
    why = "rows are not contiguous or not aligned to 16 bytes";
  else if (wrong(a->L))
    why = "this version of cuDNN computes wrong results for this length";
  if (why) snprintf(reason, ATTENTION_REASON, "%s", why);
  return why == NULL;
}

static GraphKey key_of(const Device *dev, const Attention *a, bool backward) {
  GraphKey k = {};
  k.B = rows_of(a->o) / a->L;
  k.H = a->heads;
  k.L = a->L;
  k.K = cols_of(a->o) / a->heads;
  k.causal = a->causal;
  k.backward = backward;
  k.deterministic = backward && dev->deterministic;
  return k;
}

static size_t part_bytes(int64_t bytes) { return (size_t)round_up(bytes, 256); }

/* data[first …] := q, k, v of packed rows */
static void thirds(void **data, int first, Tensor t, int64_t D) {
  for (int i = 0; i < 3; i++) data[first + i] = (char *)t.data + (size_t)(i * D) * dtype_size(t.type);
}

static int run(Device *dev, const Attention *a, Plan *p) {
  const GraphKey *k = &p->key;
  int64_t D = k->H * k->K, rows = k->B * k->L;
  bool sums = k->backward && !k->deterministic;
  size_t workspace = part_bytes(p->graph.workspace),
         delta = k->backward ? part_bytes(rows * k->H * (int64_t)sizeof(float)) : 0,
         sum = sums ? part_bytes(rows * D * (int64_t)sizeof(float)) : 0;
  char *scratch = NULL;
  if (workspace + delta + sum > 0) TRY(cuda_scratch(dev, SCRATCH_ATTENTION, workspace + delta + sum, &scratch));
  void *data[GRAPH_TENSORS] = {};
  thirds(data, GRAPH_Q, a->qkv, D);
  if (k->backward) thirds(data, GRAPH_DQ, a->dqkv, D);
  data[GRAPH_O] = a->o.data;
  data[GRAPH_LSE] = a->lse.data;
  data[GRAPH_DO] = a->d_o.data;
  data[GRAPH_DELTA] = scratch + workspace;
  data[GRAPH_SUM] = scratch + workspace + delta;
  if (sums && cudnnGetVersion() < 90600) /* later versions zero it themselves */
    TRY(cuda_check(cudaMemsetAsync(data[GRAPH_SUM], 0, sum, cuda_of(dev)->stream), "zeroing"));
  if (graph_run(&p->graph, *k, cuda_of(dev)->attention->handle, data, scratch) == OK) return OK;
  TRY(cuda_check(cudaGetLastError(), "cuDNN's attention"));
  refuse(p);
  return OK;
}

/* Sequences first … first + n − 1. */
static Attention sequences(const Attention *a, int64_t first, int64_t n) {
  Attention part = *a;
  for (Tensor *t : {&part.qkv, &part.o, &part.lse, &part.d_o, &part.dqkv})
    if (!tensor_none(*t)) *t = tensor_rows(*t, first * a->L, n * a->L);
  return part;
}

/* *refusal := why the plan of a slice is refused; "": none is, and all slices have run */
static int run_slices(Device *dev, const Attention *a, GraphKey key, const char **refusal) {
  int64_t B = key.B, n = graph_slice(key);
  key.B = n;
  Plan *full = plan_of(dev, &key), *last = full;
  key.B = B % n;
  if (key.B > 0) last = plan_of(dev, &key);
  for (int64_t first = 0; first < B && !*full->refusal && !*last->refusal; first += n) {
    Plan *p = first + n > B ? last : full;
    Attention part = sequences(a, first, p->key.B);
    TRY(run(dev, &part, p));
  }
  *refusal = *full->refusal ? full->refusal : last->refusal;
  return OK;
}

int attention_fused(Device *dev, const Attention *a, bool backward, bool *done, char reason[ATTENTION_REASON]) {
  *done = false;
  if (!suitable(a, reason)) return OK;
  GraphKey key = key_of(dev, a, backward);
  /* on newer GPUs one of several engines is deterministic, and the graph does not say which */
  if (key.deterministic && cuda_of(dev)->major > NEWEST_MAJOR) {
    snprintf(reason, ATTENTION_REASON, "backward of device.deterministic is not known to repeat on this GPU");
    return OK;
  }
  const char *refusal = "";
  TRY(run_slices(dev, a, key, &refusal));
  *done = !*refusal;
  snprintf(reason, ATTENTION_REASON, "%s", refusal);
  return OK;
}
#else
int attention_open(Device *) { return OK; }
void attention_close(Device *) {}
int attention_fused(Device *, const Attention *, bool, bool *done, char reason[ATTENTION_REASON]) {
  *done = false;
  snprintf(reason, ATTENTION_REASON, "this build lacks cuDNN");
  return OK;
}
#endif
