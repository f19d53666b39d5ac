/* plans — cuDNN has a plan for the attention of every full-size deck, forward and backward, on both GPU generations. No
 * GPU is needed: cuDNN gets the description of one and a driver that does nothing (null_driver.sh). The results of the
 * plans are not tested here. */
#include "attention_graph.h"
#include "base/err.h"
#include <stdio.h>
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
} devices[] = {{"sm_80", DEVICE("NVIDIA A100", 800, 108, 166912, 85000000000, 41943040)},
               {"sm_90", DEVICE("NVIDIA H200", 900, 132, 232448, 150000000000, 62914560)}};

/* Micro-batches of the decks at the sizes tiny, small and medium, whose heads all have 64 columns, and other shapes. */
static const struct {
  int64_t B, H, L;
  bool causal;
} shapes[] = {{64, 8, 128, false},  {64, 12, 128, false}, {32, 12, 256, false},
              {8, 12, 1024, false}, {8, 16, 1024, false}, {64, 12, 128, true},
              {8, 12, 1024, true},  {8, 16, 1024, true},  {1, 12, 1024, false}};

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
  for (size_t d = 0; d < sizeof devices / sizeof *devices; d++) {
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
    if (gpu) check_refusal(devices[d].name, gpu);
    if (gpu) cudnnBackendDestroyDescriptor(gpu);
  }
  printf("1..%d\n", test);
  return failed != 0;
}
