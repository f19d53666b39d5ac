/* comm — the ranks of a run: how many, and what they do together. One table of functions per implementation. */
#pragma once
#include "ops/ops.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef enum CommType { COMM_F32, COMM_F64, COMM_I64 } CommType;
typedef enum CommOp { COMM_SUM, COMM_MAX, COMM_MIN } CommOp;

typedef struct Comm Comm;
typedef struct CommTable {
  const char *name;
  int (*all_reduce)(Comm *, void *x, size_t n, CommType, CommOp);
  int (*all_reduce_tree)(Comm *, void *x, void *scratch, size_t n, CommType);
  int (*broadcast)(Comm *, void *x, size_t bytes, int root);
  int (*gather)(Comm *, void *all, const void *mine, size_t bytes, int root);
  int (*barrier)(Comm *);
  void (*destroy)(Comm *);
} CommTable;

struct Comm {
  const CommTable *table;
  int rank, size; /* in the run */
  Place place;    /* on its node; where a launcher binds ranks to cores, a rank shares its own with none */
  void *impl;
};

/** comm_null_create — a run of one rank, without MPI. */
int comm_null_create(Comm *c);
/** comm_mpi_create — over the ranks of MPI_COMM_WORLD (a duplicate); MPI is up already. Collective.
 *  MPI errors come back as ERR_COMM with MPI's text. */
int comm_mpi_create(Comm *c);
/** comm_mpi_chunk — the most elements (or bytes) that one MPI call carries: MPI 3.1 counts in int. Every rank has the
 *  same value; tests make it small. */
extern size_t comm_mpi_chunk;
/** comm_version — name and version of the MPI library. Not collective. */
const char *comm_version(void);
/** comm_destroy — NULL-safe, clears c. Collective. */
void comm_destroy(Comm *c);

/** comm_all_reduce — x[n] := op over ranks, in place, host memory, any n (chunked past 2^31−1). Collective.
 *  The order of the additions is the library's: equal on all ranks, not fixed over rank counts. */
int comm_all_reduce(Comm *c, void *x, size_t n, CommType type, CommOp op);
/** comm_all_reduce_tree — x[n] := Σ over ranks, in place, in the fixed binary tree ((r0+r1)+(r2+r3))+… of dist/tree.h
 *  `size` is a power of two (ERR_USAGE otherwise). scratch [n] of the same type: half of it is used. Collective.
 *  Repeat  bitwise: equals summing 2^k subtrees on fewer ranks. Reduce-scatter by recursive halving, then all-gather:
 *          each rank moves 2 n (P−1)/P elements */
int comm_all_reduce_tree(Comm *c, void *x, void *scratch, size_t n, CommType type);
/** comm_broadcast — bytes of x from root to all. Collective. */
int comm_broadcast(Comm *c, void *x, size_t bytes, int root);
/** comm_gather — root's all [size][bytes] := every rank's mine [bytes]. Collective. */
int comm_gather(Comm *c, void *all, const void *mine, size_t bytes, int root);
int comm_barrier(Comm *c);
/** comm_agree — every rank passes its own error code; all return OK if all are OK. Otherwise a rank with an error of
 * its own returns that, the others ERR_ELSEWHERE, and the error is marked agreed. Collective. */
int comm_agree(Comm *c, int code);
/** comm_any — *any := whether flag holds on some rank. Collective. */
int comm_any(Comm *c, bool flag, bool *any);
/** comm_max — *x := the largest over ranks. Collective. */
int comm_max(Comm *c, double *x);

/* A stage that may fail on one rank only: all ranks return together, the culprit with its error. */
#define TRY_ALL(comm, call) TRY(comm_agree((comm), (call)))

#ifdef __cplusplus
}
#endif
