#!/bin/bash
# probe.sh CC PY HDF5-LIBS — print every probe and its result, one per line. Called by `make info`.
set -u
export LC_ALL=C.UTF-8
CC=${1:-mpicc} PY=${2:-.venv/bin/python} HDF5_LIBS=${3:-}

line() { printf '%-14s %s\n' "$1:" "${2:-not found}"; }
first() { "$@" 2>/dev/null | head -n 1; }
module() { pkg-config --modversion "$1" 2>/dev/null; }
have() { command -v "$1" > /dev/null 2>&1 && echo found; }

# macro HEADER NAME…: the values of integer macros, joined by dots
macro() {
  local header=$1
  shift
  { echo "#include <$header>"; echo "probe $*"; } | $CC -E -P -xc - 2>/dev/null | awk '/^probe/ { out = $2; for (i = 3; i <= NF; i++) out = out "." $i } END { if (out ~ /^[0-9.]+$/) print out }'
}

cpu_features() {
  local f found=""
  for f in avx2 fma avx512f avx512_bf16 amx_bf16; do
    grep -qw "$f" /proc/cpuinfo 2>/dev/null && found+=" $f" || found+=" no-$f"
  done
  echo "${found# }"
}

packages() {
  "$PY" - 2>/dev/null <<'END'
from importlib import metadata
found = []
for name in "mdlm-data mdlm-analysis numpy h5py tokenizers xxhash matplotlib pytest ruff torch safetensors".split():
    try:
        found.append(f"{name} {metadata.version(name)}")
    except metadata.PackageNotFoundError:
        found.append(f"no {name}")
print(", ".join(found))
END
}

# cuda_macro HEADER NAME…: the same for a header of the CUDA toolkit
cuda_macro() { [ -n "${NVCC:-}" ] && CPATH="$CUDA_HOME/include" macro "$@"; }

cuda_backend() {
  [ -n "${HAS_CUDA:-}" ] && { echo "made, for sm_${CUDA_ARCHS// / sm_}"; return; }
  [ -n "${NVCC:-}" ] && echo "left out: cublasLt.h or nccl.h is missing" || echo "left out: no nvcc${CUDA_HOME:+ in $CUDA_HOME/bin}, or CUDA=0"
}

gpus() {
  command -v nvidia-smi > /dev/null || { echo "none, no driver"; return; }
  nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2> /dev/null | sort | uniq -c | awk '{ $1 = $1 " x"; print }' | paste -sd';'
}

hdf5_flavour() {
  case $HDF5_LIBS in
    *openmpi*) echo "parallel (Open MPI)" ;;
    *mpich*) echo "parallel (MPICH)" ;;
    *serial*) echo "serial" ;;
    *) echo "$HDF5_LIBS" ;;
  esac
}

hdf5=$(module hdf5-openmpi || module hdf5)
dnnl=$(macro oneapi/dnnl/dnnl_version.h DNNL_VERSION_MAJOR DNNL_VERSION_MINOR DNNL_VERSION_PATCH)
openmp=$(echo probe _OPENMP | $CC -fopenmp -E -P -xc - 2>/dev/null | awk '/^probe 2/ { print $2 }')

line "git" "$(git describe --always --dirty --abbrev=12 2>/dev/null || echo "no revision")"
line "compiler" "$CC: $(first "$CC" --version)"
line "make" "$(first make --version)"
line "MPI" "$(first mpirun --version)"
line "HDF5" "${hdf5:+$hdf5, $(hdf5_flavour)}"
line "libconfig" "$(module libconfig)"
line "oneDNN" "$dnnl"
line "xxHash" "$(module libxxhash)"
line "OpenMP" "$openmp"
line "CPU" "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1)"
line "CPU features" "$(cpu_features)"
line "cores" "$(nproc)"
line "memory" "$(awk '/^MemTotal/ { t = $2 } /^MemAvailable/ { a = $2 } END { if (t) printf "%.1f GiB, %.1f GiB available", t / 1048576, a / 1048576 }' /proc/meminfo 2>/dev/null)"
line "CUDA" "${NVCC:+$("$NVCC" --version | sed -n 's/.*release [0-9.]*, V\([0-9.]*\).*/nvcc \1/p') in $CUDA_HOME}"
line "cuBLASLt" "$(cuda_macro cublas_api.h CUBLAS_VER_MAJOR CUBLAS_VER_MINOR CUBLAS_VER_PATCH)"
line "NCCL" "$(cuda_macro nccl.h NCCL_MAJOR NCCL_MINOR NCCL_PATCH)"
line "cuDNN" "$(cuda_macro cudnn_version.h CUDNN_MAJOR CUDNN_MINOR CUDNN_PATCHLEVEL)"
line "CUDA backend" "$(cuda_backend)"
line "GPU" "$(gpus)"
line "Python" "$(first "$PY" --version)"
line "packages" "$(packages)"
line "cmocka" "$(module cmocka)"
line "valgrind" "$(first valgrind --version)"
line "h5dump" "$(first h5dump --version)"
line "clang-format" "$(first clang-format --version)"
line "shellcheck" "$(shellcheck --version 2> /dev/null | sed -n 's/^version: //p')"
line "Slurm" "$(command -v sinfo > /dev/null && { sinfo --version 2> /dev/null || echo "found, not configured"; })"
line "bible" "$(have bible)"
