/* backends — the list of backends: the CPU's, which are part of the program, and CUDA's, a shared library.
 *
 * The CUDA backend is loaded only when a deck selects it: cuBLASLt alone takes a third of a second and 200 MiB to load,
 * and a node without a GPU may not have it. */
#include "base/err.h"
#include "ops/ops.h"
#include <dlfcn.h>
#include <string.h>

extern const Ops ops_cpu_f32, ops_cpu_f64;

const Ops *const backends[] = {&ops_cpu_f32, &ops_cpu_f64, NULL};

int backend_symbol(const char *name, const void **p) {
  static void *library;
  *p = dlsym(RTLD_DEFAULT, name); /* the backend may be linked into the program */
  if (*p) return OK;
  if (!library) library = dlopen("libmdlm_cuda.so", RTLD_LAZY | RTLD_LOCAL);
  CHECK(
      library, ERR_USAGE,
      "device.name = cuda: cannot load the program's CUDA library: %s; build it on a machine with nvcc and NCCL (make "
      "info), put CUDA's own libraries on LD_LIBRARY_PATH, or use device.name = cpu",
      dlerror());
  *p = dlsym(library, name);
  CHECK(*p, ERR_USAGE, "device.name = cuda: libmdlm_cuda.so is of another version than this program: %s", dlerror());
  return OK;
}

int backend_find(const char *name, const Ops **ops) {
  char known[256] = "";
  for (int i = 0; backends[i]; i++) {
    if (strcmp(backends[i]->name, name) == 0) return *ops = backends[i], OK;
    strncat(known, " ", sizeof known - strlen(known) - 1);
    strncat(known, backends[i]->name, sizeof known - strlen(known) - 1);
  }
  CHECK(strcmp(name, "cuda") == 0, ERR_USAGE, "device.name = %s: there is no such backend; choose from:%s cuda", name,
        known);
  const size_t *sizes;
  TRY(backend_symbol("ops_cuda_sizes", (const void **)&sizes));
  CHECK(sizes[0] == sizeof(Ops) && sizes[1] == sizeof(Device), ERR_USAGE,
        "device.name = cuda: libmdlm_cuda.so is of another version than this program; make builds both");
  return backend_symbol("ops_cuda", (const void **)ops);
}
