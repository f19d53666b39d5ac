/* nccl_on_mpi — the NCCL calls that cuda/ makes, between the emulated devices of MPI ranks.
 *
 * It behaves like a non-blocking communicator. A call is in progress until ncclCommGetAsyncError has been polled a few
 * times; then its work is enqueued and completes at once. Another call before that, or ordering a stream after it,
 * aborts the process. Faults are requested on the ranks that have the variable:
 *   EMULATION_NCCL_FAULT=N  collective or group of sends number N never completes, which the communicator reports a
 *                           little later; 0: this rank cannot join
 */
#pragma once
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include "emulation/runtime_on_cpu.h"

#include <functional>
#include <vector>

typedef enum ncclResult_t {
  ncclSuccess = 0,
  ncclUnhandledCudaError = 1,
  ncclSystemError = 2,
  ncclInternalError = 3,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,
  ncclInProgress = 7
} ncclResult_t;
typedef enum ncclDataType_t { ncclFloat = 7 } ncclDataType_t;
typedef enum ncclRedOp_t { ncclSum = 0 } ncclRedOp_t;
typedef struct {
  char internal[128];
} ncclUniqueId;
typedef struct {
  int blocking;
} ncclConfig_t;
#define NCCL_CONFIG_INITIALIZER                                                                                        \
  { 1 }

typedef struct ncclComm {
  MPI_Comm mpi;
  MPI_Request joining;
  ncclUniqueId id;
  ncclResult_t state;
  int looks; /* polls until the work in progress is done or a fault is reported */
  bool faulty;
  cudaStream_t stream;
  std::function<void()> work;
} * ncclComm_t;

namespace emulation {
namespace nccl {
struct Transfer {
  bool send;
  void *p;
  size_t count;
  int peer;
};
inline long collectives;
inline int depth; /* of nested groups */
inline std::vector<Transfer> transfers;
inline ncclComm_t group_comm;
inline cudaStream_t group_stream;

inline void must(bool holds, const char *what) {
  if (holds) return;
  fprintf(stderr, "emulation: NCCL: %s\n", what);
  abort();
}
inline long fault() { return runtime::setting("EMULATION_NCCL_FAULT", -1); }

inline ncclResult_t ask(ncclComm_t c, cudaStream_t stream, std::function<void()> work) {
  must(c->state != ncclInProgress, "a call while the last one is in progress");
  if (c->state != ncclSuccess) return c->state;
  c->state = ncclInProgress;
  c->looks = 2;
  c->work = work;
  c->stream = stream;
  stream->enqueuing = true;
  return ncclInProgress;
}

/* Complete the join once all ranks have called, and check that they have the same id. */
inline void join(ncclComm_t c) {
  int there = 0;
  MPI_Test(&c->joining, &there, MPI_STATUS_IGNORE);
  if (!there) return;
  ncclUniqueId first = c->id;
  MPI_Bcast(&first, sizeof first, MPI_BYTE, 0, c->mpi);
  must(memcmp(&first, &c->id, sizeof first) == 0, "an id that differs from rank 0's");
  c->joining = MPI_REQUEST_NULL;
  c->state = ncclSuccess;
}

inline void carry_out(ncclComm_t c) {
  c->state = ncclSuccess;
  if (c->stream == nullptr) return;
  c->stream->enqueuing = false;
  if (++collectives == fault()) {
    c->faulty = runtime::stuck = c->stream->behind = true;
    c->looks = 3;
  }
  if (c->faulty) return;
  runtime::Open open;
  c->work();
}

inline bool within(const void *p, size_t count) {
  return runtime::on_device(p) && runtime::on_device((const float *)p + count - 1);
}

inline void exchange(MPI_Comm comm, const std::vector<Transfer> &list) {
  std::vector<MPI_Request> requests(list.size());
  for (size_t i = 0; i < list.size(); i++) {
    const Transfer &t = list[i];
    if (t.send)
      MPI_Isend(t.p, (int)t.count, MPI_FLOAT, t.peer, 0, comm, &requests[i]);
    else
      MPI_Irecv(t.p, (int)t.count, MPI_FLOAT, t.peer, 0, comm, &requests[i]);
  }
  MPI_Waitall((int)list.size(), requests.data(), MPI_STATUSES_IGNORE);
}

inline ncclResult_t transfer(Transfer t, ncclComm_t c, cudaStream_t stream) {
  must(depth > 0, "a send or receive outside a group");
  must(within(t.p, t.count), "memory that is not on the device");
  must(transfers.empty() || (group_comm == c && group_stream == stream), "a group of two communicators or streams");
  group_comm = c;
  group_stream = stream;
  transfers.push_back(t);
  return ncclSuccess;
}
} /* namespace nccl */
} /* namespace emulation */

/* ---- creating and destroying communicators */
inline const char *ncclGetErrorString(ncclResult_t r) {
  static const char *const text[] = {"no error",       "unhandled cuda error",      "unhandled system error",
                                     "internal error", "invalid argument",          "invalid usage",
                                     "remote error",   "NCCL operation in progress"};
  return text[r];
}
inline const char *ncclGetLastError(ncclComm_t) { return "a requested fault\nsecond line"; }
inline ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
  snprintf(id->internal, sizeof id->internal, "emulated %p", (void *)id);
  return ncclSuccess;
}
inline ncclResult_t ncclCommInitRankConfig(ncclComm_t *c, int size, ncclUniqueId id, int rank, ncclConfig_t *config) {
  int ranks = 0, me = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  MPI_Comm_rank(MPI_COMM_WORLD, &me);
  emulation::nccl::must(size == ranks && rank == me && config->blocking == 0, "other ranks than MPI's, or blocking");
  if (emulation::nccl::fault() == 0) return ncclSystemError;
  *c = new ncclComm();
  (*c)->id = id;
  (*c)->state = ncclInProgress;
  MPI_Comm_idup(MPI_COMM_WORLD, &(*c)->mpi, &(*c)->joining);
  return ncclInProgress;
}
inline ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *state) {
  if (c->joining != MPI_REQUEST_NULL && c->state == ncclInProgress)
    emulation::nccl::join(c);
  else if (c->state == ncclInProgress && --c->looks <= 0)
    emulation::nccl::carry_out(c);
  else if (c->faulty && c->state == ncclSuccess && --c->looks <= 0)
    c->state = ncclRemoteError;
  *state = c->state;
  return ncclSuccess;
}
inline ncclResult_t ncclCommFinalize(ncclComm_t c) {
  emulation::nccl::must(c->state == ncclSuccess && !c->faulty, "ncclCommFinalize with work in progress");
  c->state = ncclInProgress;
  c->looks = 2;
  c->stream = nullptr;
  return ncclInProgress;
}
inline ncclResult_t ncclCommDestroy(ncclComm_t c) {
  emulation::nccl::must(c->state == ncclSuccess, "ncclCommDestroy with work in progress");
  MPI_Comm_free(&c->mpi);
  delete c;
  return ncclSuccess;
}
inline ncclResult_t ncclCommAbort(ncclComm_t c) {
  emulation::runtime::stuck = false;
  if (c->stream) c->stream->enqueuing = false;
  delete c;
  return ncclSuccess;
}

/* ---- collectives */
inline ncclResult_t ncclGroupStart() { return emulation::nccl::depth++, ncclSuccess; }
inline ncclResult_t ncclGroupEnd() {
  using namespace emulation::nccl;
  if (--depth > 0 || transfers.empty()) return ncclSuccess;
  std::vector<Transfer> list;
  list.swap(transfers);
  MPI_Comm mpi = group_comm->mpi;
  ncclResult_t r = ask(group_comm, group_stream, [=] { exchange(mpi, list); });
  return r == ncclInProgress ? ncclSuccess : r; /* as in some versions; only the communicator's state shows it */
}
inline ncclResult_t ncclSend(const void *p, size_t count, ncclDataType_t, int peer, ncclComm_t c, cudaStream_t s) {
  return emulation::nccl::transfer({true, const_cast<void *>(p), count, peer}, c, s);
}
inline ncclResult_t ncclRecv(void *p, size_t count, ncclDataType_t, int peer, ncclComm_t c, cudaStream_t s) {
  return emulation::nccl::transfer({false, p, count, peer}, c, s);
}
inline ncclResult_t ncclAllReduce(const void *in, void *out, size_t count, ncclDataType_t, ncclRedOp_t, ncclComm_t c,
                                  cudaStream_t s) {
  emulation::nccl::must(in == out && emulation::nccl::within(out, count),
                        "an all-reduce that is not in place on the device");
  return emulation::nccl::ask(c, s, [=] { MPI_Allreduce(MPI_IN_PLACE, out, (int)count, MPI_FLOAT, MPI_SUM, c->mpi); });
}
inline ncclResult_t ncclReduceScatter(const void *in, void *out, size_t count, ncclDataType_t, ncclRedOp_t,
                                      ncclComm_t c, cudaStream_t s) {
  int rank = 0, size = 0;
  MPI_Comm_rank(c->mpi, &rank);
  MPI_Comm_size(c->mpi, &size);
  emulation::nccl::must((const float *)in + (size_t)rank * count == out &&
                            emulation::nccl::within(in, (size_t)size * count),
                        "a reduce-scatter that is not in place on the device");
  return emulation::nccl::ask(c, s, [=] {
    std::vector<float> part(count);
    MPI_Reduce_scatter_block(in, part.data(), (int)count, MPI_FLOAT, MPI_SUM, c->mpi);
    memcpy(out, part.data(), count * sizeof(float));
  });
}
inline ncclResult_t ncclAllGather(const void *in, void *out, size_t count, ncclDataType_t, ncclComm_t c,
                                  cudaStream_t s) {
  int rank = 0, size = 0;
  MPI_Comm_rank(c->mpi, &rank);
  MPI_Comm_size(c->mpi, &size);
  emulation::nccl::must((const float *)out + (size_t)rank * count == in &&
                            emulation::nccl::within(out, (size_t)size * count),
                        "an all-gather that is not in place on the device");
  return emulation::nccl::ask(c, s,
                              [=] { MPI_Allgather(MPI_IN_PLACE, 0, MPI_FLOAT, out, (int)count, MPI_FLOAT, c->mpi); });
}
