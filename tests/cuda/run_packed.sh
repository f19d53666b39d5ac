#!/bin/bash
# run.sh [check [PART…] | bench [PART…] | first CALL] — runs the contents of a pack (pack.sh) on a machine with a GPU: the
# checks, then the measurements, or only one of them, or parts of one (listed in check.sh and bench.sh); or call 1 or 2 of the
# first contact with a GPU (first.sh).
# Writes to $OUT (default: the folder out beside this script) gpu.json, run.log, and the lines that gpu.json is made from;
# first writes the files of first.sh.
# Variables: OUT; PYTHON (python3; for gpu.json, and with torch for the peer); DEVICE=cpu to try this script; of first, those of
# first.sh.
# shellcheck disable=SC2046
set -u
export LC_ALL=C.UTF-8
pack=$(realpath "$(dirname "$0")")
OUT=${OUT:-$pack/out} PYTHON=${PYTHON:-python3}
mkdir -p "$OUT" || exit 1
OUT=$(realpath "$OUT") # valid after the cd below
out=$OUT
: > "$out/run.log"
exec > >(tee -a "$out/run.log") 2>&1 # first.sh appends to the same file
log=$!
cd "$pack" || exit 1
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"; exec >&- 2>&-; wait $log' EXIT
tar -xJf programs.tar.xz -C "$temporary" 2> /dev/null || "$PYTHON" -m tarfile -e programs.tar.xz "$temporary" || exit 1
bin=$temporary/bin

# ---- CUDA's libraries: on the loader's own path, in a toolkit, or in the packages that pip installs with torch. The
# machine's LD_LIBRARY_PATH and the usual folders of the driver come last: libcuda may be found only there.
inherited=${LD_LIBRARY_PATH:-}
driver=/usr/local/nvidia/lib64:/usr/lib/x86_64-linux-gnu/nvidia/current:/usr/lib64/nvidia:/usr/lib/wsl/lib
places() {
  ls -d "${CUDA_HOME:-/usr/local/cuda}"/lib64 /usr/local/cuda*/lib64 /usr/local/cuda*/targets/x86_64-linux/lib 2> /dev/null
  "$PYTHON" - 2> /dev/null << 'PYTHON'
import glob, site, sys
for root in dict.fromkeys(site.getsitepackages() + [site.getusersitepackages()] + sys.path):
    print(*glob.glob(f"{root}/nvidia/*/lib") + glob.glob(f"{root}/torch/lib"), sep="\n")
PYTHON
}
full() { echo "$1${inherited:+:$inherited}:$driver"; }
lacking() { LD_LIBRARY_PATH=$(full "$1") ldd "$bin/libmdlm_cuda.so" | awk '/not found/ { print $1 }'; }
path=$temporary/lib
for it in $(places); do # add a folder if it has a library that is still missing
  for library in $(lacking "$path"); do
    [ -e "$it/$library" ] && path=$path:$it && break
  done
done
path=$(full "$path")
echo "mdlm $(cat VERSION); libraries from $path"
if [ -n "$(lacking "$path")" ] && [ "${DEVICE:-cuda}" = cuda ]; then
  echo "run.sh: this machine lacks" $(lacking "$path") "of CUDA"
  exit 1
fi

# ---- Open MPI from the pack; one rank, without a launcher
export OPAL_PREFIX=$temporary OMPI_MCA_mca_base_component_path=$temporary/lib/openmpi3
export OPAL_PKGDATADIR=$temporary/lib/openmpi-text
export OMPI_MCA_ess_singleton_isolated=1 OMPI_MCA_btl=self,vader OMPI_MCA_pml=ob1
export BUILD=$bin MODE=gpu DATA=$pack/data OUT=$OUT/gpu.json PYTHON
export LD_LIBRARY_PATH=$path
# Python brings its own libraries and gets the machine's path
printf '#!/bin/bash\n[ -n %q ] && export LD_LIBRARY_PATH=%q || unset LD_LIBRARY_PATH\nexec %q "$@"\n' "$inherited" "$inherited" \
  "$(command -v "$PYTHON")" > "$temporary/python"
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
first)
  tests/cuda/first.sh "${2:-}" "$out"
  exit
  ;;
all)
  check || failed=1
  tests/cuda/bench.sh || failed=1
  ;;
*)
  echo "usage: run.sh [check [PART…] | bench [PART…] | first CALL]"
  exit 2
  ;;
esac
"$PYTHON" tests/cuda/results.py "$OUT.lines" --out "$OUT" > /dev/null || failed=1
exit "${failed:-0}"
