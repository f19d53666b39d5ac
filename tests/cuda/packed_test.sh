#!/bin/bash
# packed_test.sh — the library path of a pack's run.sh: programs find the pack's libraries first, then those on the
# machine's LD_LIBRARY_PATH, which may be the only place with libcuda. Python gets the machine's path unchanged.
cd "$(dirname "$0")/../.." || exit 1
T=$(mktemp -d "${TMPDIR:-/tmp}/mdlm-pack-XXXXXX")
trap 'rm -rf "$T"' EXIT
mkdir -p "$T"/pack/tests/cuda "$T"/programs/{bin,lib} "$T/inherited"
cp "$(type -P true)" "$T/programs/bin/libmdlm_cuda.so"
tar -C "$T/programs" -cJf "$T/pack/programs.tar.xz" bin lib
cp tests/cuda/run_packed.sh "$T/pack/run.sh"
echo test > "$T/pack/VERSION"
# shellcheck disable=SC2016
printf '#!/bin/bash\necho "programs $LD_LIBRARY_PATH"\n"$PYTHON" -c '"'"'import os; print("python", os.environ.get("LD_LIBRARY_PATH"))'"'"'\n' \
  > "$T/pack/tests/cuda/check.sh"
chmod +x "$T/pack/tests/cuda/check.sh"
echo pass > "$T/pack/tests/cuda/results.py"

test=0 failed=0
# finds TITLE PATTERN [NAME=VALUE]: whether the pack's check, run with that variable, prints a matching line
finds() {
  test=$((test + 1))
  if env -u LD_LIBRARY_PATH "${@:3}" DEVICE=cpu "$T/pack/run.sh" check > "$T/out" 2>&1 && grep -qE "$2" "$T/out"; then
    echo "ok $test - $1"
  else
    echo "not ok $test - $1"
    sed 's/^/#   /' "$T/out"
    failed=1
  fi
}
finds "programs: the pack's libraries first, then the machine's" "^programs /[^:]*/lib:(.*:)?$T/inherited:" LD_LIBRARY_PATH="$T/inherited"
finds "programs: the driver's folders" '^programs .*:/usr/local/nvidia/lib64:' LD_LIBRARY_PATH="$T/inherited"
finds "Python: the machine's path" "^python $T/inherited\$" LD_LIBRARY_PATH="$T/inherited"
finds "Python: no path where the machine has none" '^python None$' DEVICE=cpu
echo "1..$test"
exit $failed
