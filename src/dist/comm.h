/* comm — the ranks of a run and their collectives in host memory. One table of functions per implementation. */
#pragma once
#include "dist/tree.h"
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
  int (*tree)(Comm *, const Tree *, TreePhases, void *const *arrays, void *scratch, size_t n, CommType);
  int (*reduce_scatter)(Comm *, void *x, size_t part, CommType);
  int (*all_gather)(Comm *, void *all, size_t bytes);
  int (*broadcast)(Comm *, void *x, size_t bytes, int root);
  int (*gather)(Comm *, void *all, const void *mine, size_t bytes, int root);
  int (*barrier)(Comm *);
  int (*split)(Comm *, int color, Comm *part);
  int (*node)(Comm *, Comm *node);
  void (*destroy)(Comm *);
} CommTable;

struct Comm {
  const CommTable *table;
  int rank, size; /* in the run */
  Place place;    /* on its node; share_size is 1 where the launcher binds every rank to cores of its own */
  void *impl;
};

/** comm_null_create — a run of one rank, without MPI. */
int comm_null_create(Comm *c);
/** comm_mpi_create — over a duplicate of MPI_COMM_WORLD; MPI must be initialised. Collective.
 *  MPI errors are returned as ERR_COMM with MPI's message. */
int comm_mpi_create(Comm *c);
/** comm_mpi_chunk — the maximum number of elements (or bytes) per MPI call: counts are int in MPI 3.1. Every rank needs
 *  the same value; tests lower it. */
extern size_t comm_mpi_chunk;
/** comm_version — name and version of the MPI library. Not collective. */
const char *comm_version(void);
/** comm_node — *node := the ranks of c on this node, in the same order; rank 0 of c is rank 0 of its node. Destroy it
 *  with comm_destroy. Collective; its error is not agreed. */
int comm_node(Comm *c, Comm *node);
/** comm_destroy — NULL-safe, clears c. Collective. */
void comm_destroy(Comm *c);

/** comm_all_reduce — x[n] := op over ranks, in place, in host memory, for any n (chunked). Collective.
 *  The MPI library chooses the order of additions: the result is the same on all ranks, but depends on their number. */
int comm_all_reduce(Comm *c, void *x, size_t n, CommType type, CommOp op);
/** comm_all_reduce_tree — Σ over the leaves of all ranks, in the order of dist/tree.h. Collective.
 *  arrays  [tree_own][n] in   the sums of this rank's nodes; undefined afterwards, except
 *          the last one  out  the sum
 *  scratch [tree_scratch]     of the arrays' type
 *  Errors  ERR_USAGE unless the ranks can share the leaves equally
 *  Repeat  bitwise the same on any number of ranks */
int comm_all_reduce_tree(Comm *c, int64_t leaves, void *const *arrays, void *scratch, size_t n, CommType type);
/** comm_tree — the phases of tree_run alone, where comm_all_reduce_tree has both. Collective.
 *  Errors  ERR_USAGE unless the ranks can share the leaves equally */
int comm_tree(Comm *c, const Tree *t, TreePhases phases, void *const *arrays, void *scratch, size_t n, CommType type);
/** comm_reduce_scatter — x[size][part], one part per rank: this rank's part := Σ over ranks, the others are undefined
 *  afterwards. The order of additions as for comm_all_reduce. Collective. */
int comm_reduce_scatter(Comm *c, void *x, size_t part, CommType type);
/** comm_all_gather — all[size][bytes]: every block := that of its rank. Collective. */
int comm_all_gather(Comm *c, void *all, size_t bytes);
/** comm_broadcast — x[bytes] from root to all ranks. Collective. */
int comm_broadcast(Comm *c, void *x, size_t bytes, int root);
/** comm_gather — root's all [size][bytes] := every rank's mine [bytes]. Collective. */
int comm_gather(Comm *c, void *all, const void *mine, size_t bytes, int root);
int comm_barrier(Comm *c);
/** comm_split — *part := the ranks of c with the same color, in the same order. Destroy it with comm_destroy.
 *  Collective. */
int comm_split(Comm *c, int color, Comm *part);
/** comm_agree — every rank passes its own error code; all return OK if all are OK. Otherwise a rank that failed returns
 *  its own error and the others ERR_ELSEWHERE, and the error is marked as agreed. Collective. */
int comm_agree(Comm *c, int code);
/** comm_any — *any := whether flag holds on some rank. Collective. */
int comm_any(Comm *c, bool flag, bool *any);
/** comm_max — *x := the maximum over ranks. Collective. */
int comm_max(Comm *c, double *x);

/* For a call that may fail on a single rank: all ranks return together, the failing one with its own error. */
#define TRY_ALL(comm, call) TRY(comm_agree((comm), (call)))

#ifdef __cplusplus
}
#endif
