/* attention_graph_on_cpu — a stand-in for the plans of attention_graph.cu, so that attention_cudnn.cu can be run without
 * a GPU: the same attention in plain loops, from the pointers and the key that a plan is run with. It tests how
 * attention_cudnn.cu cuts batches into slices, lays out scratch memory and keeps plans, and nothing of cuDNN.
 *
 * A deterministic backward is cut into slices of two sequences. A run overwrites its whole workspace.
 * EMULATION_CUDNN requests refusals of batches of an odd number of sequences:
 *   plan  when the plan is built
 *   run   when it runs
 */
#include "attention_graph.h"
#include "cuda.cuh"
#include <algorithm>
#include <vector>

enum { SLICE = 2 };

static int refuse_odd(GraphKey k, const char *when) {
  const char *asked = getenv("EMULATION_CUDNN");
  bool refused = asked && strcmp(asked, when) == 0 && k.B % 2 == 1;
  return refused ? RAISE(ERR_DEVICE, "cuDNN refuses to %s, as requested", when) : OK;
}

int64_t graph_slice(GraphKey k) { return k.deterministic ? std::min<int64_t>(k.B, SLICE) : k.B; }

int graph_build(Graph *g, GraphKey k, cudnnHandle_t, Descriptor) {
  memset(g, 0, sizeof *g);
  g->workspace = k.deterministic ? 2 * k.B * k.H * k.L * k.L : 0;
  return refuse_odd(k, "plan");
}

void graph_destroy(Graph *) {}

/* One head of one sequence. */
struct Head {
  const GraphKey &k;
  void *const *data;
  int64_t b, h;
  float scale;
  bf16 *at(GraphTensor t, int64_t l) const {
    int64_t parts = t == GRAPH_O || t == GRAPH_DO ? 1 : 3;
    return (bf16 *)data[t] + ((b * k.L + l) * parts * k.H + h) * k.K;
  }
  float *number(GraphTensor t, int64_t l) const { return (float *)data[t] + (b * k.H + h) * k.L + l; }
  float dot(GraphTensor t, int64_t l, GraphTensor u, int64_t j) const {
    float sum = 0;
    for (int64_t i = 0; i < k.K; i++) sum += get(at(t, l)[i]) * get(at(u, j)[i]);
    return sum;
  }
  int64_t end(int64_t l) const { return k.causal ? l + 1 : k.L; } /* keys that query l sees */
  float score(int64_t l, int64_t j) const { return scale * dot(GRAPH_Q, l, GRAPH_K, j); }
  void forward() const;
  void backward() const;
};

void Head::forward() const {
  for (int64_t l = 0; l < k.L; l++) {
    std::vector<float> s, o((size_t)k.K);
    for (int64_t j = 0; j < end(l); j++) s.push_back(score(l, j));
    float top = *std::max_element(s.begin(), s.end()), sum = 0;
    for (float x : s) sum += expf(x - top);
    float lse = *number(GRAPH_LSE, l) = top + logf(sum);
    for (int64_t j = 0; j < end(l); j++)
      for (int64_t i = 0; i < k.K; i++) o[(size_t)i] += expf(s[(size_t)j] - lse) * get(at(GRAPH_V, j)[i]);
    for (int64_t i = 0; i < k.K; i++) put(at(GRAPH_O, l) + i, o[(size_t)i]);
  }
}

void Head::backward() const {
  std::vector<float> sums[3]; /* dq, dk, dv */
  for (auto &d : sums) d.resize((size_t)(k.L * k.K));
  for (int64_t l = 0; l < k.L; l++) {
    *number(GRAPH_DELTA, l) = dot(GRAPH_DO, l, GRAPH_O, l);
    for (int64_t j = 0; j < end(l); j++) {
      float p = expf(score(l, j) - *number(GRAPH_LSE, l));
      float ds = scale * p * (dot(GRAPH_DO, l, GRAPH_V, j) - *number(GRAPH_DELTA, l));
      for (int64_t i = 0; i < k.K; i++) {
        sums[0][(size_t)(l * k.K + i)] += ds * get(at(GRAPH_K, j)[i]);
        sums[1][(size_t)(j * k.K + i)] += ds * get(at(GRAPH_Q, l)[i]);
        sums[2][(size_t)(j * k.K + i)] += p * get(at(GRAPH_DO, l)[i]);
      }
    }
  }
  for (int64_t n = 0; n < k.L * k.K; n++) {
    if (!k.deterministic) ((float *)data[GRAPH_SUM])[(b * k.H + h) * k.L * k.K + n] = sums[0][(size_t)n];
    for (int t = 0; t < 3; t++) put(at((GraphTensor)(GRAPH_DQ + t), n / k.K) + n % k.K, sums[t][(size_t)n]);
  }
}

int graph_run(const Graph *g, GraphKey k, cudnnHandle_t, void *const data[GRAPH_TENSORS], void *workspace) {
  TRY(refuse_odd(k, "run"));
  CHECK(emulation::runtime::may_launch(), ERR_DEVICE, "cuDNN's plan does not start");
  emulation::runtime::Open open;
  if (g->workspace > 0) memset(workspace, 0x7f, (size_t)g->workspace);
  for (int64_t b = 0; b < k.B; b++)
    for (int64_t h = 0; h < k.H; h++) {
      Head head = {k, data, b, h, 1 / sqrtf((float)k.K)};
      k.backward ? head.backward() : head.forward();
    }
  return OK;
}
