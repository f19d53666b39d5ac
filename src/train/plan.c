#include "train/plan.h"
#include "base/err.h"
#include <math.h>
#include <string.h>

/* Bandwidth and latency that programs reach over each kind of link, for one rank and direction. Guesses of the order of
 * magnitude: measure yours (nccl-tests, OSU) and name the numbers in the deck. */
static const struct {
  const char *name;
  PlanLink link;
} links[] = {{"nvlink", {350e9, 8e-6}},
             {"pcie", {20e9, 10e-6}},
             {"memory", {4e9, 3e-6}},
             {"infiniband", {45e9, 10e-6}},
             {"ethernet", {1.1e9, 50e-6}}};

static PlanLink link_of(const char *name, double gb_per_s, double us) {
  PlanLink link = {0};
  for (size_t i = 0; i < sizeof links / sizeof *links; i++)
    if (strcmp(links[i].name, name) == 0) link = links[i].link;
  ASSERT(link.bytes > 0);
  if (gb_per_s > 0) link.bytes = gb_per_s * 1e9;
  if (us > 0) link.seconds = us * 1e-6;
  return link;
}

void plan_links(Plan *p, const Config *cfg) {
  p->node = link_of(cfg->plan_node_link, cfg->plan_node_gb_per_s, cfg->plan_node_us);
  p->network = link_of(cfg->plan_network, cfg->plan_network_gb_per_s, cfg->plan_network_us);
}

bool plan_ranks(const Plan *p, int64_t ranks) {
  return p->micros % ranks == 0 && (ranks <= p->per_node || ranks % p->per_node == 0) &&
         (p->leaves == 0 || p->leaves % ranks == 0);
}

double plan_gather(const Plan *p, int64_t ranks, double bytes) {
  int64_t R = ranks < p->per_node ? ranks : p->per_node, M = ranks / R;
  double r = (double)R, m = (double)M, seconds = 0;
  if (p->leaves == 0)
    return (r - 1) / r * bytes / p->node.bytes + (r - 1) * p->node.seconds +
           (m - 1) / m * (bytes / r) / p->network.bytes + ceil(log2(m)) * p->network.seconds;
  for (int64_t d = 1, f = 2; d < ranks; d *= f) {
    while (ranks / d % f != 0) f++;
    const PlanLink *link = d < R ? &p->node : &p->network;
    seconds += (double)(f - 1) * (bytes / (double)(f * d) / link->bytes + link->seconds);
  }
  return seconds;
}

/* Adding the parts of the tree: Σ (f − 1)/(f·d) = 1 − 1/P. */
static double adding(const Plan *p, int64_t ranks, double bytes) {
  return p->leaves == 0 ? 0 : 3 * (1 - 1 / (double)ranks) * bytes / p->sum;
}

double plan_reduction(const Plan *p, int64_t ranks, double bytes) {
  return 2 * plan_gather(p, ranks, bytes) + adding(p, ranks, bytes);
}

/* Of a bucket during backward: an all-reduce or a reduce-scatter. */
static double reduction(const Plan *p, int64_t ranks, double bytes) {
  return plan_reduction(p, ranks, bytes) - (p->divided ? plan_gather(p, ranks, bytes) : 0);
}

/* The last micro-batch, `slow` times as long as measured: when it and the reductions of its buckets are over. */
static double last_micro(const Plan *p, int64_t ranks, double slow) {
  double free_at = 0, delay = 0, waiting = 0, micro = slow * p->micro;
  for (int i = 0; i <= p->events; i++) {
    double now = (i < p->events ? slow * p->final_at[i] : micro) + delay;
    waiting += i < p->events ? p->final_bytes[i] : 0;
    if (waiting == 0 || (waiting < p->bucket && i < p->events)) continue;
    double seconds = reduction(p, ranks, waiting);
    free_at = fmax(now, free_at) + seconds;
    if (!p->overlap) delay += seconds;
    waiting = 0;
  }
  return fmax(micro + delay, free_at);
}

PlanStep plan_step(const Plan *p, int64_t ranks) {
  int64_t on_node = ranks < p->per_node ? ranks : p->per_node;
  double share = p->cores ? (double)(on_node * p->threads) / (double)p->cores : 0, slow = fmax(1, share);
  double update = p->divided ? p->update / (double)ranks : p->update;
  double n = (double)(p->micros / ranks), computing = slow * (n * p->micro + update);
  double last = ranks > 1 ? last_micro(p, ranks, slow) : p->micro;
  double seconds = slow * ((n - 1) * p->micro + update) + last;
  if (p->divided) seconds += plan_gather(p, ranks, p->gradient);
  return (PlanStep){seconds, seconds - computing};
}
