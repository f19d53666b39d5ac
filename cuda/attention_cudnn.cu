/* attention_cudnn — attention by cuDNN, where it is: a plan for each shape and direction, made when it is first asked
 * for (some tenths of a second, in which its kernel is compiled) and kept. What cuDNN refuses is remembered, said once,
 * and left to attention.cu; both read and write the same lse. */
#include "attention_cudnn.h"
#include "backend.h"
#include "cuda.cuh"
#ifdef HAVE_CUDNN
#include "attention_graph.h"
#include "base/log.h"

enum { NEWEST_MAJOR = 9 }; /* Hopper: up to it the graph decides whether backward repeats bit for bit */

/* Plan — a graph and what it was made for, in a list. */
typedef struct Plan {
  GraphKey key;
  Graph graph;
  bool refused;
  struct Plan *next;
} Plan;

struct AttentionPlans {
  cudnnHandle_t handle; /* made with the first plan */
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
  CHECK(s == CUDNN_STATUS_SUCCESS, ERR_DEVICE, "%s: cuDNN says: %s", what, cudnnGetErrorString(s));
  return OK;
}

static int open_handle(Device *dev) {
  AttentionPlans *plans = cuda_of(dev)->attention;
  if (plans->handle) return OK;
  cudnnHandle_t handle;
  TRY(check(cudnnCreate(&handle), "opening cuDNN"));
  int err = check(cudnnSetStream(handle, cuda_of(dev)->stream), "giving cuDNN a stream");
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

static Plan *make_plan(Device *dev, const GraphKey *key) {
  AttentionPlans *plans = cuda_of(dev)->attention;
  Plan *p = new Plan();
  p->key = *key;
  p->next = plans->list;
  plans->list = p;
  int err = open_handle(dev);
  if (err == OK) err = graph_build(&p->graph, *key, plans->handle, NULL);
  p->refused = err != OK;
  if (err)
    log_info("attention of %ld sequences of %ld, %ld heads of %ld%s, %s, by our own kernel: %s", (long)key->B,
             (long)key->L, (long)key->H, (long)key->K, key->causal ? ", causal" : "",
             key->backward ? "backward" : "forward", err_message());
  err_clear();
  return p;
}

static Plan *plan_of(Device *dev, const GraphKey *key) {
  for (Plan *p = cuda_of(dev)->attention->list; p; p = p->next)
    if (same(&p->key, key)) return p;
  return make_plan(dev, key);
}

/* ---- running one */
/* What cuDNN is asked for at all: packed rows that begin at 16 bytes and have no lengths, heads of whole 16 bytes up to
 * the width that all GPUs take. */
static bool suits(Tensor t, int64_t cols) {
  return t.rank == 0 || (t.type == DT_BF16 && t.ld == cols && (uintptr_t)t.data % 16 == 0);
}

/* Plans that are made and compute something else: cuDNN's own front end keeps away from them. */
static bool wrong(int64_t L) {
  size_t version = cudnnGetVersion();
  return version == 91000 || version == 91001 || (version <= 91500 && L % 128 != 0);
}

static bool asked(const Attention *a) {
  int64_t D = cols_of(a->o), K = D / a->heads;
  return tensor_none(a->lengths) && K % 8 == 0 && K <= 128 && a->L > 1 && rows_of(a->o) > 0 && suits(a->qkv, 3 * D) &&
         suits(a->o, D) && suits(a->d_o, D) && suits(a->dqkv, 3 * D) && !wrong(a->L);
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

static size_t whole(int64_t bytes) { return ((size_t)bytes + 255) / 256 * 256; }

/* data[first …] := q, k, v of packed rows */
static void thirds(void **data, int first, Tensor t, int64_t D) {
  for (int i = 0; i < 3; i++) data[first + i] = (char *)t.data + (size_t)(i * D) * dtype_size(t.type);
}

static int run(Device *dev, const Attention *a, const Plan *p) {
  const GraphKey *k = &p->key;
  int64_t D = k->H * k->K, rows = k->B * k->L;
  bool sums = k->backward && !k->deterministic;
  size_t workspace = whole(p->graph.workspace), delta = k->backward ? whole(rows * k->H * (int64_t)sizeof(float)) : 0,
         sum = sums ? whole(rows * D * (int64_t)sizeof(float)) : 0;
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
  if (sums && cudnnGetVersion() < 90600) /* from then on cuDNN does it */
    TRY(cuda_check(cudaMemsetAsync(data[GRAPH_SUM], 0, sum, cuda_of(dev)->stream), "zeroing"));
  return graph_run(&p->graph, *k, cuda_of(dev)->attention->handle, data, scratch);
}

int attention_fused(Device *dev, const Attention *a, bool backward, bool *done) {
  *done = false;
  if (!asked(a)) return OK;
  GraphKey key = key_of(dev, a, backward);
  /* there one engine among several repeats itself, and the graph does not say which */
  if (key.deterministic && cuda_of(dev)->major > NEWEST_MAJOR) return OK;
  Plan *p = plan_of(dev, &key);
  if (p->refused) return OK;
  *done = true;
  return run(dev, a, p);
}
#else
int attention_open(Device *) { return OK; }
void attention_close(Device *) {}
int attention_fused(Device *, const Attention *, bool, bool *done) {
  *done = false;
  return OK;
}
#endif
