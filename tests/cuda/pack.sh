#!/bin/bash
# pack.sh FOLDER — collects in FOLDER everything that check-cuda and bench-cuda need on a machine with CUDA but without
# mdlm's libraries, compilers or Open MPI: programs, the libraries they link to, Open MPI's plugins, decks, scripts,
# prepared data. CUDA's own libraries, the C library and Python are those of that machine. FOLDER/run.sh runs it there.
# Variables: BUILD (the programs), PY (the Python that prepares data), LIMIT (largest size in MiB).
set -eu
export LC_ALL=C.UTF-8
pack=${1:?pack.sh FOLDER} build=${BUILD:-build} limit=${LIMIT:-40}
cd "$(dirname "$0")/../.."
rm -rf "$pack"
mkdir -p "$pack"/{bin/gpu/tests,bin/tests/cuda,tests/cuda,tests/e2e,tests/golden,lib/openmpi3,lib/openmpi-text}

# ---- programs, where check.sh and bench.sh expect them
for it in mdlm bench bench_ops libmdlm_cuda.so tests/cuda/compare gpu/tests/test_*; do
  for program in "$build"/$it; do
    [[ -x $program && ($program != *.* || $program == *.so) ]] || continue
    strip -o "$pack/bin/${program#"$build"/}" "$program"
  done
done

# ---- libraries: those that the loader finds, except the C library and CUDA's
libraries() {
  ldd "$@" 2> /dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
    grep -vE '/(ld-linux|lib(c|m|mvec|dl|rt|pthread|resolv|util)\.so|lib(cuda|cudart|cublas|cublasLt|cudnn|nccl|nvrtc|nvJitLink)[._])'
}
libraries "$pack"/bin/mdlm "$pack"/bin/bench* "$pack"/bin/libmdlm_cuda.so "$pack"/bin/gpu/tests/* "$pack"/bin/tests/cuda/* |
  while read -r it; do cp -L "$it" "$pack/lib/"; done

# Open MPI's plugins, except those for networks, which need further libraries: a single rank does not use them.
plugins=$(ompi_info --path pkglibdir --parsable | cut -d: -f3)
for it in "$plugins"/mca_*.so; do
  for needed in $(libraries "$it"); do [ -e "$pack/lib/$(basename "$needed")" ] || continue 2; done
  cp "$it" "$pack/lib/openmpi3/"
done
chmod -R u+w "$pack/lib"
strip --strip-unneeded "$pack"/lib/*.so* "$pack"/lib/openmpi3/*.so
cp "$(ompi_info --path pkgdatadir --parsable | cut -d: -f3)"/help-*.txt "$pack/lib/openmpi-text/"
libc=$(objdump -T "$pack"/bin/* "$pack"/lib/*.so* 2> /dev/null | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
tar -C "$pack" -c bin lib | xz -T0 > "$pack/programs.tar.xz"
rm -r "${pack:?}"/{bin,lib}

# ---- decks, scripts, data
cp -r input "$pack/"
rm -rf "$pack"/input/mdlm_data* # Python is only needed here
cp tests/cuda/{check.sh,bench.sh,first.sh,stages.sh,sweep.sh,results.py} "$pack/tests/cuda/"
cp tests/e2e/{lib,mpi}.sh "$pack/tests/e2e/"
cp tests/golden/{networks,peer_torch}.py "$pack/tests/golden/"
cp tests/cuda/run_packed.sh "$pack/run.sh"
data=$(realpath "$pack")/data
DATA=$data input/smoke.sh --data > /dev/null
rm -f "$data"/demo/*.txt "$data"/smoke/text8
git describe --always --dirty > "$pack/VERSION" 2> /dev/null || echo unknown > "$pack/VERSION"

size=$(du -sm --apparent-size "$pack" | cut -f1)
echo "$pack: $size MiB; needs a C library of version ${libc#GLIBC_} or later"
[ "$size" -le "$limit" ] || { echo "pack.sh: $size MiB, more than the limit of $limit" >&2; exit 1; }
