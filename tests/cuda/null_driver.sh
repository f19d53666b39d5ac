#!/bin/bash
# null_driver.sh STUB FOLDER — builds a CUDA driver that does nothing, FOLDER/libcuda.so.1, with every entry point of
# the toolkit's STUB (libcuda.so). Calls that load or describe a kernel succeed, all others fail. With it cuDNN can
# build its plans on a machine without a GPU; nothing can be run.
set -e
stub=$1 folder=$2
mkdir -p "$folder"
nm -D --defined-only "$stub" | awk '
  # the value that a call stores through its first argument
  BEGIN { out["cuLibraryLoadData"] = out["cuModuleLoadData"] = out["cuModuleLoadDataEx"] = "*(void **)p = (void *)16"
          out["cuLibraryGetKernel"] = out["cuLibraryGetModule"] = out["cuModuleGetFunction"] = out["cuKernelGetFunction"] = "*(void **)p = (void *)32"
          out["cuKernelGetAttribute"] = out["cuFuncGetAttribute"] = "*(int *)p = 64"
          out["cuOccupancyMaxActiveBlocksPerMultiprocessor"] = out["cuOccupancyMaxActiveClusters"] = "*(int *)p = 1"
          out["cuDriverGetVersion"] = "*(int *)p = 13000"
          out["cuLibraryUnload"] = out["cuModuleUnload"] = out["cuFuncSetAttribute"] = out["cuKernelSetAttribute"] = out["cuFuncSetCacheConfig"] = "(void)p" }
  $2 == "T" { if ($3 in out) printf "int %s(void *p) { %s; return 0; }\n", $3, out[$3]
              else printf "int %s(void) { return 34; } /* CUDA_ERROR_STUB_LIBRARY */\n", $3 }' > "$folder/driver.c"
"${CC:-gcc}" -std=c11 -w -O1 -fPIC -shared -Wl,-soname,libcuda.so.1 "$folder/driver.c" -o "$folder/libcuda.so.1"
