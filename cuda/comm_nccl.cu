/* comm_nccl — collectives over the GPUs of several ranks, by NCCL on a stream of its own.
 *
 * Events order the two streams: each call makes NCCL's stream wait for the device's, and device_comm_wait makes the
 * device's wait for NCCL's. The communicator is non-blocking, and every wait polls its state, so a rank that never
 * joins and an asynchronous NCCL error both end in one line instead of a hang. After a failure the communicator is
 * aborted, which also cancels its pending work on the stream. */
#include "backend.h"
#include "base/clock.h"
#include "cuda.cuh"
#include "dist/device_comm.h"
#include <string.h>
#include <time.h>
#ifdef __CUDACC__
#include <nccl.h>
#else
#include "emulation/nccl_on_mpi.h"
#endif

static const double LEAVE_SECONDS = 10; /* for ncclCommFinalize; after that the communicator is aborted */

typedef struct Nccl {
  ncclComm_t comm; /* NULL: not created yet, or aborted */
  Cuda cuda;       /* of `side`; only its stream is used */
  Device side;     /* the device for kernels between sends */
  cudaEvent_t asked, done;
  bool pending; /* a collective was issued and not waited for */
} Nccl;

static Nccl *nccl_of(const DeviceComm *c) { return (Nccl *)c->impl; }
static cudaStream_t stream_of(const DeviceComm *c) { return nccl_of(c)->cuda.stream; }

/* ---- state and errors */
static void nap() {
  const struct timespec t = {0, 20000};
  nanosleep(&t, NULL);
}

static ncclResult_t state_of(const Nccl *n) {
  ncclResult_t state = ncclSuccess, asked = ncclCommGetAsyncError(n->comm, &state);
  return asked == ncclSuccess ? state : asked;
}

/* Raise the error and abort; ncclInProgress means a timeout. */
static int give_up(DeviceComm *c, ncclResult_t r, const char *what) {
  Nccl *n = nccl_of(c);
  char detail[256] = "";
  int err;
  if (r == ncclInProgress) {
    err = RAISE(ERR_COMM, "rank %d: %s: timed out after %g s waiting for other ranks", c->comm->rank, what,
                device_comm_patience);
  } else {
    const char *last = ncclGetLastError(n->comm);
    if (last) strncpy(detail, last, sizeof detail - 1);
    detail[strcspn(detail, "\n")] = 0;
    err = RAISE(ERR_COMM, "rank %d: %s: NCCL: %s%s%s", c->comm->rank, what, ncclGetErrorString(r), *detail ? ": " : "",
                detail);
  }
  if (n->comm) ncclCommAbort(n->comm);
  n->comm = NULL;
  return err;
}

/* Wait until the work of a NCCL call has been enqueued, which may require connecting to peers. The communicator's state
 * decides, since some versions return success for a call that is still in progress. */
static int settle(DeviceComm *c, ncclResult_t r, const char *what) {
  double start = clock_now();
  if (r == ncclSuccess && nccl_of(c)->comm) r = state_of(nccl_of(c));
  while (r == ncclInProgress && clock_now() - start < device_comm_patience) {
    r = state_of(nccl_of(c));
    if (r == ncclInProgress) nap();
  }
  return r == ncclSuccess ? OK : give_up(c, r, what);
}

/* ---- life */
static int make_parts(DeviceComm *c, ncclUniqueId *id) {
  Nccl *n = nccl_of(c);
  int least, greatest;
  TRY(cuda_check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "querying stream priorities"));
  /* communication, which all ranks wait for, takes precedence over one rank's kernels */
  TRY(cuda_check(cudaStreamCreateWithPriority(&n->cuda.stream, cudaStreamNonBlocking, greatest), "creating a stream"));
  TRY(cuda_check(cudaEventCreateWithFlags(&n->asked, cudaEventDisableTiming), "creating an event"));
  TRY(cuda_check(cudaEventCreateWithFlags(&n->done, cudaEventDisableTiming), "creating an event"));
  return c->comm->rank == 0 ? settle(c, ncclGetUniqueId(id), "creating a NCCL id") : OK;
}

/* NCCL refuses two ranks on one GPU, but gives the reason only in its log. Collective. */
static int check_gpus(DeviceComm *c) {
  const Cuda *cuda = cuda_of(c->dev);
  int other = -1;
  for (int r = 0; r < c->comm->size; r++) {
    unsigned char uuid[sizeof cuda->uuid];
    memcpy(uuid, cuda->uuid, sizeof uuid);
    TRY(comm_broadcast(c->comm, uuid, sizeof uuid, r));
    if (r != c->comm->rank && memcmp(uuid, cuda->uuid, sizeof uuid) == 0) other = r;
  }
  CHECK(other < 0, ERR_USAGE,
        "device.name = cuda: ranks %d and %d have the same GPU, %s; start at most one rank per GPU", c->comm->rank,
        other, cuda->name);
  return OK;
}

static int nccl_create(DeviceComm *c) {
  Nccl *n = new Nccl();
  ncclUniqueId id = {};
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  c->impl = n;
  n->side.impl = &n->cuda;
  TRY_ALL(c->comm, check_gpus(c));
  TRY_ALL(c->comm, make_parts(c, &id));
  TRY(comm_broadcast(c->comm, &id, sizeof id, 0));
  return settle(c, ncclCommInitRankConfig(&n->comm, c->comm->size, id, c->comm->rank, &config), "joining other ranks");
}

/* Finalize: flush this rank's outstanding work. False: an error or a timeout. */
static bool leave(Nccl *n) {
  double start = clock_now();
  ncclResult_t r = ncclCommFinalize(n->comm);
  while (r == ncclInProgress && clock_now() - start < LEAVE_SECONDS) {
    nap();
    r = state_of(n);
  }
  return r == ncclSuccess;
}

static void nccl_destroy(DeviceComm *c) {
  Nccl *n = nccl_of(c);
  if (n == NULL) return;
  if (n->comm && !n->pending && leave(n))
    ncclCommDestroy(n->comm);
  else if (n->comm)
    ncclCommAbort(n->comm);
  if (n->asked) cudaEventDestroy(n->asked);
  if (n->done) cudaEventDestroy(n->done);
  if (n->cuda.stream) cudaStreamDestroy(n->cuda.stream);
  delete n;
  c->impl = NULL;
}

/* ---- calls */
static int begin(DeviceComm *c) {
  Nccl *n = nccl_of(c);
  CHECK(n->comm, ERR_COMM, "rank %d: the communicator has been aborted after an earlier error", c->comm->rank);
  n->pending = true;
  TRY(cuda_check(cudaEventRecord(n->asked, cuda_of(c->dev)->stream), "ordering streams"));
  return cuda_check(cudaStreamWaitEvent(stream_of(c), n->asked, 0), "ordering streams");
}

/* In buckets, so that errors are noticed and other kernels are scheduled between them. */
static int nccl_all_reduce(DeviceComm *c, Tensor x) {
  float *p = (float *)x.data;
  size_t n = (size_t)x.dims[0], bucket = device_comm_bucket > sizeof *p ? device_comm_bucket / sizeof *p : 1;
  TRY(begin(c));
  for (size_t at = 0; at < n; at += bucket) {
    size_t k = n - at < bucket ? n - at : bucket;
    TRY(settle(c, ncclAllReduce(p + at, p + at, k, ncclFloat, ncclSum, nccl_of(c)->comm, stream_of(c)), "all-reduce"));
  }
  return OK;
}

/* Send and receive in one group; the partner does the mirror image. */
static int swap(void *arg, int partner, const char *out, size_t n_out, char *in, size_t n_in) {
  DeviceComm *c = (DeviceComm *)arg;
  ncclComm_t comm = nccl_of(c)->comm;
  if (n_out == 0 && n_in == 0) return OK;
  ncclResult_t start = ncclGroupStart(), sent = ncclSuccess, received = ncclSuccess;
  if (n_out > 0) sent = ncclSend(out, n_out, ncclFloat, partner, comm, stream_of(c));
  if (n_in > 0) received = ncclRecv(in, n_in, ncclFloat, partner, comm, stream_of(c));
  ncclResult_t end = ncclGroupEnd();
  const ncclResult_t results[] = {start, sent, received};
  for (ncclResult_t r : results)
    if (r != ncclSuccess && r != ncclInProgress) end = r;
  return settle(c, end, "send and receive");
}

static int add(void *arg, char *x, const char *y, size_t n) {
  DeviceComm *c = (DeviceComm *)arg;
  return cuda_add(&nccl_of(c)->side, tensor_1d(x, DT_F32, (int64_t)n), tensor_1d((char *)y, DT_F32, (int64_t)n));
}

static int nccl_tree(DeviceComm *c, const Tree *t, TreePhases phases, void *const *arrays, Tensor scratch, int64_t n) {
  const TreeCarrier carrier = {c, sizeof(float), swap, add};
  TRY(begin(c));
  return tree_run(t, phases, &carrier, arrays, scratch.data, (size_t)n);
}

static int nccl_reduce_scatter(DeviceComm *c, Tensor x) {
  float *p = (float *)x.data;
  size_t part = (size_t)(x.dims[0] / c->comm->size);
  TRY(begin(c));
  if (part == 0) return OK;
  return settle(
      c,
      ncclReduceScatter(p, p + (size_t)c->comm->rank * part, part, ncclFloat, ncclSum, nccl_of(c)->comm, stream_of(c)),
      "reduce-scatter");
}

static int nccl_all_gather(DeviceComm *c, Tensor x) {
  float *p = (float *)x.data;
  size_t part = (size_t)(x.dims[0] / c->comm->size);
  TRY(begin(c));
  if (part == 0) return OK;
  return settle(c, ncclAllGather(p + (size_t)c->comm->rank * part, p, part, ncclFloat, nccl_of(c)->comm, stream_of(c)),
                "all-gather");
}

/* The host waits as well and polls for errors, which would otherwise leave the GPU waiting forever. */
static int nccl_wait(DeviceComm *c) {
  Nccl *n = nccl_of(c);
  if (!n->pending) return OK;
  CHECK(n->comm, ERR_COMM, "rank %d: the communicator has been aborted after an earlier error", c->comm->rank);
  TRY(cuda_check(cudaEventRecord(n->done, stream_of(c)), "ordering streams"));
  TRY(cuda_check(cudaStreamWaitEvent(cuda_of(c->dev)->stream, n->done, 0), "ordering streams"));
  for (cudaError_t e = cudaErrorNotReady; e != cudaSuccess;) {
    ncclResult_t r = state_of(n);
    if (r != ncclSuccess && r != ncclInProgress) return give_up(c, r, "waiting for collectives");
    e = cudaEventQuery(n->done);
    if (e != cudaSuccess && e != cudaErrorNotReady) return cuda_check(e, "waiting for collectives");
    if (e == cudaErrorNotReady) {
      cudaGetLastError(); /* clear it: not ready is not an error */
      nap();
    }
  }
  n->pending = false;
  return OK;
}

extern "C" const DeviceCommTable comm_nccl;
const DeviceCommTable comm_nccl = {
    .name = "nccl",
    .create = nccl_create,
    .all_reduce = nccl_all_reduce,
    .tree = nccl_tree,
    .reduce_scatter = nccl_reduce_scatter,
    .all_gather = nccl_all_gather,
    .wait = nccl_wait,
    .destroy = nccl_destroy,
};
