#!/bin/bash
# plans_test.sh — cuDNN builds plans for the attention of the full-size decks, without a GPU (plans.cu).
# limit: 300
cd "$(dirname "$0")/../.." || exit 1
skip() { echo "1..0 # SKIP $*"; exit 0; }
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
[ -x "$nvcc" ] || skip "nvcc is not installed"
home=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
first() { # FILE…: the first existing one
  local it
  for it in "$@"; do [ -e "$it" ] && echo "$it" && return; done
}
header=$(first "$home"/include/cudnn.h /usr/include/cudnn.h /usr/include/x86_64-linux-gnu/cudnn.h)
[ -n "$header" ] || skip "cuDNN is not installed"
version=$(sed -n 's/^#define CUDNN_\(MAJOR\|MINOR\) *\([0-9]*\).*/\2/p' "${header%/*}/cudnn_version.h" | awk '{ v = 100 * v + $1 } END { print v }')
[ "$version" -ge 911 ] || skip "cuDNN $version builds no plans without a GPU, 9.11 does"
stub=$(first "$home"/lib64/stubs/libcuda.so /usr/lib/x86_64-linux-gnu/stubs/libcuda.so)
[ -n "$stub" ] || skip "the toolkit's stub of libcuda is not installed"
folder=$(mktemp -d "${TMPDIR:-/tmp}/mdlm-plans-XXXXXX")
trap 'rm -rf "$folder"' EXIT
graph=${BUILD:-build}/cuda/attention_graph.o # of the build, if it has the CUDA backend
[ -e "$graph" ] || graph=cuda/attention_graph.cu
if ! { tests/cuda/null_driver.sh "$stub" "$folder" &&
  "$nvcc" -std=c++20 -DHAVE_CUDNN -Isrc -Icuda -Werror all-warnings tests/cuda/plans.cu "$graph" \
    "${BUILD:-build}/libmdlm.a" -o "$folder/plans" -L"$home/lib64" -lcudnn -Xlinker -rpath,"$home/lib64"; } \
  > "$folder/log" 2>&1; then
  echo 1..1
  echo "not ok 1 - plans.cu and the null driver are built"
  sed 's/^/#   /' "$folder/log"
  exit 1
fi
LD_LIBRARY_PATH="$folder:$home/lib64" "$folder/plans"
