#!/bin/bash
# compile_test.sh — the kernels of cuda/ compile for GPUs of both generations without a warning, and no register is spilled.
# timeout: 300
cd "$(dirname "$0")/../.." || exit 1
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2> /dev/null)
[ -n "$nvcc" ] || { echo "1..0 # SKIP nvcc is not installed"; exit 0; }
object=$(mktemp "${TMPDIR:-/tmp}/mdlm-nvcc-XXXXXX.o") test=0 failed=0
trap 'rm -f "$object"' EXIT
for source in cuda/*.cu; do
  for arch in 80 90; do
    test=$((test + 1))
    if out=$("$nvcc" -std=c++17 -Isrc -Icuda -Werror all-warnings -Xptxas -v -gencode "arch=compute_$arch,code=sm_$arch" \
      -c "$source" -o "$object" 2>&1) && grep -q ' 0 bytes spill stores' <<< "$out" &&
      ! grep 'spill' <<< "$out" | grep -qv ' 0 bytes spill stores, 0 bytes spill loads'; then
      echo "ok $test - $source, sm_$arch"
    else
      echo "not ok $test - $source, sm_$arch"
      sed 's/^/#   /' <<< "$out"
      failed=1
    fi
  done
done
echo "1..$test"
exit $failed
