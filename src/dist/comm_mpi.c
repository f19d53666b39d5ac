/* comm_mpi — ranks over MPI 3.1. Every call carries at most comm_mpi_chunk elements. */
#include "base/err.h"
#include "base/mem.h"
#include "dist/comm.h"
#include "dist/tree.h"

#include <mpi.h>
#include <sched.h>
#include <string.h>

size_t comm_mpi_chunk = (size_t)1 << 28;

enum { TAG = 1 };

typedef struct Mpi {
  MPI_Comm comm;
} Mpi;

static MPI_Comm of(const Comm *c) { return ((const Mpi *)c->impl)->comm; }

static int check(int code, const char *what) {
  if (code == MPI_SUCCESS) return OK;
  char text[MPI_MAX_ERROR_STRING] = "";
  int n = 0;
  MPI_Error_string(code, text, &n);
  return RAISE(ERR_COMM, "%s failed: %s", what, text);
}

static MPI_Datatype type_of(CommType type) {
  return type == COMM_F32 ? MPI_FLOAT : type == COMM_F64 ? MPI_DOUBLE : MPI_INT64_T;
}
static MPI_Op op_of(CommOp op) { return op == COMM_SUM ? MPI_SUM : op == COMM_MAX ? MPI_MAX : MPI_MIN; }
static size_t bytes_of(CommType type) { return type == COMM_F32 ? 4 : 8; }
static int chunk_of(size_t left) { return (int)(left < comm_mpi_chunk ? left : comm_mpi_chunk); }

static int mpi_all_reduce(Comm *c, void *x, size_t n, CommType type, CommOp op) {
  char *p = x;
  for (size_t at = 0; at < n; at += comm_mpi_chunk)
    TRY(check(MPI_Allreduce(MPI_IN_PLACE, p + at * bytes_of(type), chunk_of(n - at), type_of(type), op_of(op), of(c)),
              "MPI_Allreduce"));
  return OK;
}

/* ---- tree */

typedef struct Typed {
  MPI_Comm comm;
  CommType type;
} Typed;

/* Both partners know both lengths and so make the same number of calls; either side of a call may be empty. */
static int swap(void *arg, int partner, const char *out, size_t n_out, char *in, size_t n_in) {
  const Typed *t = arg;
  MPI_Datatype type = type_of(t->type);
  size_t turns = n_out > n_in ? n_out : n_in, b = bytes_of(t->type);
  for (size_t at = 0; at < turns; at += comm_mpi_chunk) {
    size_t out_at = at < n_out ? at : n_out, in_at = at < n_in ? at : n_in;
    const char *from = n_out ? out + out_at * b : NULL;
    char *to = n_in ? in + in_at * b : NULL;
    TRY(check(MPI_Sendrecv(from, chunk_of(n_out - out_at), type, partner, TAG, to, chunk_of(n_in - in_at), type,
                           partner, TAG, t->comm, MPI_STATUS_IGNORE),
              "MPI_Sendrecv"));
  }
  return OK;
}

static int add_host(void *arg, char *x, const char *y, size_t n) {
  const Typed *t = arg;
  if (t->type == COMM_F32) {
    float *a = (void *)x;
    const float *b = (const void *)y;
    for (size_t i = 0; i < n; i++) a[i] += b[i];
  } else if (t->type == COMM_F64) {
    double *a = (void *)x;
    const double *b = (const void *)y;
    for (size_t i = 0; i < n; i++) a[i] += b[i];
  } else {
    int64_t *a = (void *)x;
    const int64_t *b = (const void *)y;
    for (size_t i = 0; i < n; i++) a[i] += b[i];
  }
  return OK;
}

static int mpi_tree(Comm *c, const Tree *t, TreePhases phases, void *const *arrays, void *scratch, size_t n,
                    CommType type) {
  Typed typed = {of(c), type};
  TreeCarrier carrier = {.arg = &typed, .width = bytes_of(type), .swap = swap, .add = add_host};
  return tree_run(t, phases, &carrier, arrays, scratch, n);
}

/* ---- parts */

/* MPI leaves the own part in the place of the first one. It has no strided parts of predefined types: what is too long
 * for a call is reduced as a whole. */
static int mpi_reduce_scatter(Comm *c, void *x, size_t part, CommType type) {
  size_t bytes = part * bytes_of(type);
  if (part * (size_t)c->size > comm_mpi_chunk) return mpi_all_reduce(c, x, part * (size_t)c->size, type, COMM_SUM);
  TRY(check(MPI_Reduce_scatter_block(MPI_IN_PLACE, x, (int)part, type_of(type), MPI_SUM, of(c)),
            "MPI_Reduce_scatter_block"));
  if (part > 0) memmove((char *)x + (size_t)c->rank * bytes, x, bytes);
  return OK;
}

/* ---- bytes */

static int mpi_broadcast(Comm *c, void *x, size_t bytes, int root) {
  char *p = x;
  for (size_t at = 0; at < bytes; at += comm_mpi_chunk)
    TRY(check(MPI_Bcast(p + at, chunk_of(bytes - at), MPI_BYTE, root, of(c)), "MPI_Bcast"));
  return OK;
}

/* *block := n bytes of blocks that are `bytes` apart. */
static int block_type(MPI_Datatype *block, int n, size_t bytes) {
  MPI_Datatype piece;
  TRY(check(MPI_Type_contiguous(n, MPI_BYTE, &piece), "MPI_Type_contiguous"));
  int err = check(MPI_Type_create_resized(piece, 0, (MPI_Aint)bytes, block), "MPI_Type_create_resized");
  MPI_Type_free(&piece);
  TRY(err);
  err = check(MPI_Type_commit(block), "MPI_Type_commit");
  if (err) MPI_Type_free(block);
  return err;
}

/* Gather bytes [at, at + n) of every rank's block; the blocks are `bytes` apart in `all`. */
static int gather_chunk(Comm *c, char *all, const char *mine, size_t at, int n, size_t bytes, int root) {
  MPI_Datatype block;
  TRY(block_type(&block, n, bytes));
  char *to = c->rank == root ? all + at : NULL;
  int err = check(MPI_Gather(mine + at, n, MPI_BYTE, to, 1, block, root, of(c)), "MPI_Gather");
  MPI_Type_free(&block);
  return err;
}

static int mpi_gather(Comm *c, void *all, const void *mine, size_t bytes, int root) {
  for (size_t at = 0; at < bytes; at += comm_mpi_chunk)
    TRY(gather_chunk(c, all, mine, at, chunk_of(bytes - at), bytes, root));
  return OK;
}

static int mpi_all_gather(Comm *c, void *all, size_t bytes) {
  for (size_t at = 0; at < bytes; at += comm_mpi_chunk) {
    MPI_Datatype block;
    TRY(block_type(&block, chunk_of(bytes - at), bytes));
    int err =
        check(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, (char *)all + at, 1, block, of(c)), "MPI_Allgather");
    MPI_Type_free(&block);
    TRY(err);
  }
  return OK;
}

static int mpi_barrier(Comm *c) { return check(MPI_Barrier(of(c)), "MPI_Barrier"); }

/* ---- life */

static void mpi_destroy(Comm *c) {
  Mpi *m = c->impl;
  int gone = 0;
  MPI_Finalized(&gone);
  if (m && !gone && m->comm != MPI_COMM_NULL) MPI_Comm_free(&m->comm);
  mem_free(&c->impl);
}

enum { EVERY_RANK = -2, SAME_NODE = -1 }; /* in place of a color, which is not negative */

static int select_ranks(MPI_Comm from, int color, MPI_Comm *part) {
  switch (color) {
  case EVERY_RANK:
    return check(MPI_Comm_dup(from, part), "MPI_Comm_dup");
  case SAME_NODE:
    return check(MPI_Comm_split_type(from, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, part), "MPI_Comm_split_type");
  default:
    return check(MPI_Comm_split(from, color, 0, part), "MPI_Comm_split");
  }
}

/* *c := the ranks of `from` with the same color, in the same order. */
static int create(Comm *c, const CommTable *table, Place place, MPI_Comm from, int color) {
  int err = OK;
  *c = (Comm){.table = table, .place = place};
  TRY(mem_alloc(&c->impl, sizeof(Mpi)));
  Mpi *m = c->impl;
  m->comm = MPI_COMM_NULL;
  TRY_TO(fail, select_ranks(from, color, &m->comm));
  TRY_TO(fail, check(MPI_Comm_rank(m->comm, &c->rank), "MPI_Comm_rank"));
  TRY_TO(fail, check(MPI_Comm_size(m->comm, &c->size), "MPI_Comm_size"));
  return OK;
fail:
  comm_destroy(c);
  return err;
}

static int mpi_split(Comm *c, int color, Comm *part) { return create(part, c->table, c->place, of(c), color); }
static int mpi_node(Comm *c, Comm *node) { return create(node, c->table, c->place, of(c), SAME_NODE); }

static const CommTable comm_mpi = {
    .name = "mpi",
    .all_reduce = mpi_all_reduce,
    .tree = mpi_tree,
    .reduce_scatter = mpi_reduce_scatter,
    .all_gather = mpi_all_gather,
    .broadcast = mpi_broadcast,
    .gather = mpi_gather,
    .barrier = mpi_barrier,
    .split = mpi_split,
    .node = mpi_node,
    .destroy = mpi_destroy,
};

/* The ranks of the node that may use the same cores as this one. */
static int find_share(Comm *c, MPI_Comm node) {
  cpu_set_t mine, *all = NULL;
  CPU_ZERO(&mine);
  sched_getaffinity(0, sizeof mine, &mine);
  TRY(mem_alloc(&all, (size_t)c->place.local_size * sizeof *all));
  int err = check(MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, node), "MPI_Allgather");
  for (int i = 0; i < c->place.local_size && err == OK; i++) {
    if (!CPU_EQUAL(&mine, &all[i])) continue;
    c->place.share_size++;
    c->place.share_rank += i < c->place.local_rank;
  }
  mem_free(&all);
  return err;
}

/* Node-local rank and size come from MPI: every launcher has variables of its own for them, and a variable inherited
 * from another launcher is wrong. */
static int find_node(Comm *c) {
  Comm node;
  TRY(mpi_node(c, &node));
  c->place.local_rank = node.rank;
  c->place.local_size = node.size;
  int err = find_share(c, of(&node));
  comm_destroy(&node);
  return err;
}

int comm_mpi_create(Comm *c) {
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN); /* inherited by the duplicate */
  TRY(create(c, &comm_mpi, (Place){0}, MPI_COMM_WORLD, EVERY_RANK));
  int err = find_node(c);
  if (err != OK) comm_destroy(c);
  return err;
}

const char *comm_version(void) {
  static char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int n = 0;
  if (MPI_Get_library_version(text, &n) != MPI_SUCCESS) return "unknown";
  text[strcspn(text, ",\n")] = 0;
  return text;
}
