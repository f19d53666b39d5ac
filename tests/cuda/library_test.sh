#!/bin/bash
# library_test.sh — every program that may load the CUDA backend's library exports all symbols that the library needs
# from it, and the library's dependencies are found. The loader resolves all symbols; no program is run.
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
library=$(realpath "$build/libmdlm_cuda.so" 2> /dev/null)
[ -e "$library" ] || { echo "1..0 # SKIP the CUDA backend is not built"; exit 0; }
test=0 failed=0
for source in tests/ops/test_*.c tests/cuda/test_*.c; do programs+=("$build/gpu/tests/$(basename "$source" .c)"); done
for program in "$build"/{mdlm,bench,bench_ops} "${programs[@]}"; do
  test=$((test + 1))
  bound=$(LD_PRELOAD=$library LD_TRACE_LOADED_OBJECTS=1 LD_WARN=yes LD_BIND_NOW=yes "$program" 2>&1)
  if [[ $bound == *"$library"* ]] && ! grep -E 'undefined symbol|not found' <<< "$bound" | sed 's/^/# /' | grep .; then
    echo "ok $test - ${program#"$build"/}"
  else
    echo "not ok $test - ${program#"$build"/}: the CUDA backend's library cannot be loaded"
    failed=1
  fi
done
echo "1..$test"
exit $failed
