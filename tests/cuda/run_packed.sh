#!/bin/bash
# run.sh [check [PART…] | bench [PART…]] — runs what pack.sh has packed on a machine with a GPU: the checks, then the
# measurements, or only one of them, or parts of one (check.sh and bench.sh say which there are).
# Leaves in $OUT (default: the folder out beside this script) gpu.json, run.log, and the lines that gpu.json is made of.
# Variables: OUT; PYTHON (python3; for gpu.json, and with torch for the peer); DEVICE=cpu to try this script.
# shellcheck disable=SC2046
set -u
export LC_ALL=C.UTF-8
pack=$(realpath "$(dirname "$0")")
OUT=${OUT:-$pack/out} PYTHON=${PYTHON:-python3}
mkdir -p "$OUT" || exit 1
OUT=$(realpath "$OUT") # also in the scripts' folder
exec > >(tee "$OUT/run.log") 2>&1
cd "$pack" || exit 1
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
tar -xJf programs.tar.xz -C "$temporary" 2> /dev/null || "$PYTHON" -m tarfile -e programs.tar.xz "$temporary" || exit 1
bin=$temporary/bin

# ---- where CUDA's libraries are: the loader's own places, a toolkit, or the packages that pip installs with torch
places() {
  ls -d "${CUDA_HOME:-/usr/local/cuda}"/lib64 /usr/local/cuda*/lib64 /usr/local/cuda*/targets/x86_64-linux/lib 2> /dev/null
  "$PYTHON" - 2> /dev/null << 'PYTHON'
import glob, site, sys
for root in dict.fromkeys(site.getsitepackages() + [site.getusersitepackages()] + sys.path):
    print(*glob.glob(f"{root}/nvidia/*/lib") + glob.glob(f"{root}/torch/lib"), sep="\n")
PYTHON
}
lacking() { LD_LIBRARY_PATH=$1 ldd "$bin/libmdlm_cuda.so" | awk '/not found/ { print $1 }'; }
path=$temporary/lib
for it in $(places); do # a place counts if it has something that is still lacking
  for library in $(lacking "$path"); do
    [ -e "$it/$library" ] && path=$path:$it && break
  done
done
echo "mdlm $(cat VERSION); libraries from $path"
if [ -n "$(lacking "$path")" ] && [ "${DEVICE:-cuda}" = cuda ]; then
  echo "run.sh: this machine lacks" $(lacking "$path") "of CUDA"
  exit 1
fi

# ---- Open MPI from the pack; without a launcher a rank is alone
export OPAL_PREFIX=$temporary OMPI_MCA_mca_base_component_path=$temporary/lib/openmpi3
export OPAL_PKGDATADIR=$temporary/lib/openmpi-text
export OMPI_MCA_ess_singleton_isolated=1 OMPI_MCA_btl=self,vader OMPI_MCA_pml=ob1
export BUILD=$bin MODE=gpu DATA=$pack/data OUT=$OUT/gpu.json PYTHON
export LD_LIBRARY_PATH=$path
printf '#!/bin/bash\nexec env -u LD_LIBRARY_PATH %q "$@"\n' "$(command -v "$PYTHON")" > "$temporary/python" # it has its own
chmod +x "$temporary/python"
PYTHON=$temporary/python

check() {
  mkdir -p "$OUT.lines"
  tests/cuda/check.sh "$@" | tee "$OUT.lines/check"
  return "${PIPESTATUS[0]}"
}
case ${1:-all} in
check) check "${@:2}" || failed=1 ;;
bench) tests/cuda/bench.sh "${@:2}" || failed=1 ;;
all)
  check || failed=1
  tests/cuda/bench.sh || failed=1
  ;;
*)
  echo "usage: run.sh [check [PART…] | bench [PART…]]"
  exit 2
  ;;
esac
"$PYTHON" tests/cuda/results.py "$OUT.lines" --out "$OUT" > /dev/null || failed=1
exit "${failed:-0}"
