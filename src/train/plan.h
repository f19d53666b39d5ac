/* plan — predicts a step on many ranks from one that a single rank measured.
 *
 *   step = (n − 1)·micro + last + update,   n micro-batches of this rank
 *   last = the last micro-batch, during which gradients become final bucket by bucket, from the last parameters to the
 *          first. A bucket's reduction begins when the bucket is full and the one before is through. Where reductions
 *          overlap with computation (GPUs), last is the later of the end of backward and the end of the reductions; else
 *          each of them adds to it.
 * A reduction of b bytes over P ranks, R of them on a node, M = P/R nodes, takes
 *   fast   2(R−1)/R·b/node + 2(R−1)·node_latency + 2(M−1)/M·(b/R)/network + 2⌈log2 M⌉·network_latency
 *   tree   Σ over the prime factors f of P, d the product of those before:  (f−1)·(2(b/fd/link + latency) + 3(b/fd)/sum),
 *          where link is the node's while d < R and then the network's. More where a rank's leaves are not one node of
 *          the tree (dist/tree.h)
 * Where the optimizer's state is divided over the ranks, a reduction is a reduce-scatter, which takes half of the time of
 * the links and all of that of adding; the weights are gathered after the update, in the other half, and the update takes
 * 1/P of the time:
 *   step = (n − 1)·micro + last + update/P + gather
 * All with bandwidths per rank, and `sum` the speed of adding arrays. CPU ranks that share cores slow each other down by the
 * number of threads for each core. That all cores together are slower than one alone, and that ranks poll while they
 * wait, is not in the model; tests/bench-results.md has its errors. */
#pragma once
#include "base/config.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct PlanLink {
  double bytes, seconds; /* bytes a second of a rank, in each direction; latency */
} PlanLink;

enum { PLAN_EVENTS = 256 };
typedef struct Plan {
  /* measured on one rank */
  double micro, update;            /* seconds of a micro-batch, and of the update */
  double final_at[PLAN_EVENTS];    /* seconds from the start of the last micro-batch on … */
  double final_bytes[PLAN_EVENTS]; /* … when so many bytes of gradients are final */
  int events;
  double gradient, bucket, sum; /* bytes; bytes; bytes a second */
  /* of the deck */
  int64_t micros;                   /* micro-batches of the global batch */
  int64_t leaves;                   /* of the tree; 0: dist.reduce is fast */
  int64_t per_node, threads, cores; /* ranks on a node; threads of a rank and cores of a node, 0 on a GPU */
  bool overlap;                     /* reductions overlap with computation */
  bool divided;                     /* the optimizer's state, over the ranks */
  PlanLink node, network;
} Plan;

typedef struct PlanStep {
  double seconds, exposed; /* of a step; of these, waiting for reductions */
} PlanStep;

/** plan_links — the links that the section plan names, with its own numbers where they are not 0. */
void plan_links(Plan *p, const Config *cfg);
/** plan_ranks — whether that many ranks can run the deck. */
bool plan_ranks(const Plan *p, int64_t ranks);
/** plan_reduction — seconds to reduce so many bytes over the ranks: an all-reduce. */
double plan_reduction(const Plan *p, int64_t ranks, double bytes);
/** plan_gather — seconds of its second half, an all-gather. */
double plan_gather(const Plan *p, int64_t ranks, double bytes);
PlanStep plan_step(const Plan *p, int64_t ranks);
