/* plans — cuDNN has a plan for the attention of every full-size deck, forward and backward, on sm_90, and with LONG=1 on
 * sm_80. No GPU is needed: cuDNN gets the description of one and a driver that does nothing (null_driver.sh). The
 * results of the plans are not tested here. */
#include "attention_graph.h"
#include "base/err.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In cuDNN's own JSON format. */
#define DEVICE(name, version, processors, per_block, memory, l2)                                                       \
  "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,"                  \
  "\"multiProcessorCount\":" #processors ",\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"                         \
  "\"maxSharedMemoryPerBlockOptin\":" #per_block ",\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536," \
  "\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048"                                           \
  ",\"pciDeviceId\":0,\"isTccDriver\":0,\"supportCoopLaunch\":1,\"totalGlobalMem\":" #memory                           \
  ",\"smClockRateKHz\":1410000,\"memClockRateKHz\":1512000,\"l2CacheSize\":" #l2                                       \
  ",\"cudaDeviceId\":0,\"deviceVer\":" #version ",\"driverVer\":13000,\"deviceName\":\"" name "\"}"

static const struct {
  const char *name, *text;
} devices[] = {{"sm_90", DEVICE("NVIDIA H200", 900, 132, 232448, 150000000000, 62914560)},
               {"sm_80", DEVICE("NVIDIA A100", 800, 108, 166912, 85000000000, 41943040)}};

/* Micro-batches of the decks at the sizes tiny, small and medium, whose heads all have 64 columns, and other shapes. */
static const struct {
  int64_t B, H, L;
  bool causal;
} shapes[] = {{64, 8, 128, false},  {64, 12, 128, false}, {32, 12, 256, false},
              {8, 12, 1024, false}, {8, 16, 1024, false}, {64, 12, 128, true},
              {8, 12, 1024, true},  {8, 16, 1024, true},  {1, 12, 1024, false}};

/* Micro-batches for a GPU, and the slices of their deterministic backward. */
static const struct {
  int64_t B, H, L, slice;
} sliced[] = {{64, 12, 1024, 8}, {512, 12, 128, 512}, {64, 16, 1024, 6}, {64, 12, 1000, 8}, {3, 12, 8192, 1}};

static int test, failed;

static Descriptor describe(const char *text) {
  Descriptor d = NULL;
  if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d) ||
      cudnnBackendSetAttribute(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(text) + 1,
                               text) ||
      cudnnBackendFinalize(d))
    return NULL;
  return d;
}

static void check(const char *device, Descriptor gpu, GraphKey k) {
  Graph g;
  int err = graph_build(&g, k, NULL, gpu);
  printf("%s %d - %s B=%d H=%d L=%d K=%d%s %s%s\n", err ? "not ok" : "ok", ++test, device, (int)k.B, (int)k.H, (int)k.L,
         (int)k.K, k.causal ? " causal" : "", k.backward ? "backward" : "forward",
         k.deterministic ? ", deterministic" : "");
  if (err) printf("#   %s\n", err_message());
  if (!err) printf("#   workspace %.2f MiB, %d operations\n", (double)g.workspace / 1048576, g.operation_count);
  failed += err != OK;
  err_clear();
  graph_destroy(&g);
}

/* The bytes of the plan's workspace, or −1. */
static int64_t workspace(Descriptor gpu, GraphKey k) {
  Graph g;
  int64_t bytes = graph_build(&g, k, NULL, gpu) == OK ? g.workspace : -1;
  err_clear();
  graph_destroy(&g);
  return bytes;
}

/* A deterministic backward runs in slices of n sequences, and the plans of a slice and of the rest keep at most
 * GRAPH_SLICE_BYTES of dS, unless a single sequence needs more. */
enum { EXTRA = 4096 /* bytes of workspace for other uses */ };

static void check_slices(const char *device, Descriptor gpu, GraphKey k, int64_t n) {
  GraphKey slice = k, rest = k;
  slice.B = graph_slice(k), rest.B = k.B % slice.B;
  int64_t whole = workspace(gpu, k), part = workspace(gpu, slice), last = rest.B > 0 ? workspace(gpu, rest) : 0;
  bool good = slice.B == n && part >= 0 && last >= 0 && (n == 1 || part - EXTRA <= GRAPH_SLICE_BYTES) && last <= part &&
              part <= whole;
  printf("%s %d - %s B=%d H=%d L=%d backward in slices of %d and %d\n", good ? "ok" : "not ok", ++test, device,
         (int)k.B, (int)k.H, (int)k.L, (int)slice.B, (int)rest.B);
  printf("#   workspace %lld bytes, in slices %lld and %lld\n", (long long)whole, (long long)part, (long long)last);
  failed += !good;
}

/* A shape without a kernel must be reported as an error, so that attention.cu computes it. */
static void check_refusal(const char *device, Descriptor gpu) {
  GraphKey odd = {1, 1, 128, 7, false, false, false};
  Graph g;
  bool good = graph_build(&g, odd, NULL, gpu) == ERR_DEVICE && strstr(err_message(), "cuDNN refuses");
  printf("%s %d - %s heads of 7 columns are refused\n#   %s\n", good ? "ok" : "not ok", ++test, device, err_message());
  failed += !good;
  err_clear();
  graph_destroy(&g);
}

int main(void) {
  printf("# cuDNN %zu\n", cudnnGetVersion());
  const char *all = getenv("LONG");
  size_t count = all && strcmp(all, "1") == 0 ? sizeof devices / sizeof *devices : 1;
  for (size_t d = 0; d < count; d++) {
    Descriptor gpu = describe(devices[d].text);
    if (gpu == NULL) printf("not ok %d - cuDNN accepts the description of %s\n", ++test, devices[d].name), failed++;
    for (size_t i = 0; gpu && i < sizeof shapes / sizeof *shapes; i++) {
      GraphKey k = {shapes[i].B, shapes[i].H, shapes[i].L, 64, shapes[i].causal, false, false};
      check(devices[d].name, gpu, k);
      k.backward = true;
      check(devices[d].name, gpu, k);
      k.deterministic = true;
      check(devices[d].name, gpu, k);
    }
    for (size_t i = 0; gpu && i < sizeof sliced / sizeof *sliced; i++) {
      GraphKey k = {sliced[i].B, sliced[i].H, sliced[i].L, 64, false, true, true};
      check_slices(devices[d].name, gpu, k, sliced[i].slice);
    }
    if (gpu) check_refusal(devices[d].name, gpu);
    if (gpu) cudnnBackendDestroyDescriptor(gpu);
  }
  printf("1..%d\n", test);
  return failed != 0;
}
