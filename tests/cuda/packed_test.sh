#!/bin/bash
# packed_test.sh — the library path of a pack's run.sh: programs find the pack's libraries first and still those that the
# machine has on LD_LIBRARY_PATH (libcuda may be there alone); Python gets the machine's path unchanged. And what `first` runs.
# shellcheck disable=SC2016
cd "$(dirname "$0")/../.." || exit 1
T=$(mktemp -d "${TMPDIR:-/tmp}/mdlm-pack-XXXXXX")
trap 'rm -rf "$T"' EXIT
mkdir -p "$T"/pack/tests/cuda "$T"/programs/{bin,lib} "$T/inherited"
cp "$(type -P true)" "$T/programs/bin/libmdlm_cuda.so"
tar -C "$T/programs" -cJf "$T/pack/programs.tar.xz" bin lib
cp tests/cuda/run_packed.sh "$T/pack/run.sh"
echo test > "$T/pack/VERSION"
printf '#!/bin/bash\necho "programs $LD_LIBRARY_PATH"\n"$PYTHON" -c '"'"'import os; print("python", os.environ.get("LD_LIBRARY_PATH"))'"'"'\n' \
  > "$T/pack/tests/cuda/check.sh"
printf '#!/bin/bash\necho "first $* $LD_LIBRARY_PATH" >> "$2/run.log"; exit 3\n' > "$T/pack/tests/cuda/first.sh"
chmod +x "$T"/pack/tests/cuda/{check,first}.sh
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
test=$((test + 1))
DEVICE=cpu OUT=$T/results "$T/pack/run.sh" first 2 > "$T/said" 2>&1
if [ $? = 3 ] && grep -q "^first 2 $T/results /.*/lib:" "$T/results/run.log" && grep -q '^mdlm test; libraries' "$T/results/run.log" && [ "$(ls "$T/results")" = run.log ]; then
  echo "ok $test - first: its exit code and files, and all output in one log"
else
  echo "not ok $test - first: its exit code and files, and all output in one log"
  sed 's/^/#   /' "$T/said" "$T/results/run.log"
  failed=1
fi
echo "1..$test"
exit $failed
