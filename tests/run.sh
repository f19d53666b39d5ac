#!/bin/bash
# run.sh [WORD…] — run the tests (those whose step's name contains a WORD); end with "N passed, N failed, N skipped".
#
# Steps: the rules, each C test program, those of tests/mpi on 1, 2 and 4 ranks, each tests/*/test_*.sh and *_test.sh,
# pytest over tests/python, the unit and ops programs again under the sanitizers, the unit programs under valgrind.
# A test program prints TAP on stdout; "# skip: …" before a skipped test is its reason; "# timeout: N" in a script allows
# it N seconds. A crash, a missing test, a time-out or silence is a failure.
# Variables: BUILD (where the programs are), PY (the Python of the environment), FAST=1 (no sanitizers, no valgrind).
set -u
export LC_ALL=C.UTF-8 # numbers with points, messages in English
cd "$(dirname "$0")/.." || exit 1
export BUILD=${BUILD:-build} PY=${PY:-.venv/bin/python} CMOCKA_MESSAGE_OUTPUT=TAP
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 # a container's user is root
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
export UBSAN_OPTIONS=print_stacktrace=1 ASAN_OPTIONS=allocator_may_return_null=1
cores=$(nproc)
filters=("$@")
passed=0 failed=0 skipped=0 reasons=()
out=$(mktemp -d "${TMPDIR:-/tmp}/mdlm-tests-XXXXXX")
trap 'rm -rf "$out"' EXIT

wanted() { # NAME: whether the filters let it through
  local f
  [ ${#filters[@]} = 0 ] && return 0
  for f in "${filters[@]}"; do [[ $1 == *"$f"* ]] && return 0; done
  return 1
}

# count NAME CODE: read the TAP in $out/log and set p, f, s; add a failure where the TAP does not tell the whole story
count() {
  local name=$1 code=$2 results
  results=$(awk '
    /^1\.\.[0-9]+/ { planned = substr($1, 4) + 0; has_plan = 1
                     if (planned == 0 && /# *[Ss][Kk][Ii][Pp]/) { s++; planned = 1; sub(/.*# *[Ss][Kk][Ii][Pp] */, ""); print "why", $0 } }
    /^# skip: /    { why = substr($0, 9) }
    /^(not )?ok([ \t]|$)/ {
      if (/# *[Ss][Kk][Ii][Pp]/) { s++; sub(/.*# *[Ss][Kk][Ii][Pp] */, ""); print "why", why == "" ? $0 : $0 ": " why }
      else if (/^ok/) p++
      else f++
      why = "" }
    END { missing = planned - p - f - s
          if (!has_plan || p + f + s == 0) missing = 1
          print "counts", p + 0, f + (missing > 0 ? missing : 0), s + 0 }' "$out/log")
  read -r _ p f s <<< "$(grep '^counts' <<< "$results")"
  [ "$code" != 0 ] && [ "$f" = 0 ] && f=1
  while read -r _ line; do reasons+=("$name: $line"); done < <(grep '^why' <<< "$results")
}

# report NAME CODE SECONDS: one line, the output of a failure, the sums; uses p, f, s
report() {
  printf '%-34s %4d passed %3d failed %3d skipped %6.1f s\n' "$1" "$p" "$f" "$s" "$3"
  if [ "$f" -gt 0 ]; then
    [ "$2" = 124 ] && echo "    | ran out of time"
    [ "$2" != 0 ] && echo "    | exit code $2"
    tail -n 60 "$out"/log "$out"/rank* 2>/dev/null | sed 's/^/    | /'
  fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# step NAME SECONDS COMMAND…: run it with a time limit and count its TAP
step() {
  local name=$1 limit=$2 code start=$EPOCHREALTIME
  shift 2
  wanted "$name" || return 0
  rm -f "$out"/rank*
  { timeout -k 10 "$limit" "$@" > "$out/log" 2>&1 < /dev/null; } 2> /dev/null # the shell's own word on a crash
  code=$?
  count "$name" $code
  report "$name" $code "$(awk "BEGIN { print $EPOCHREALTIME - $start }")"
}

# plain NAME SECONDS COMMAND…: a step that prints no TAP and passes by its exit code
plain() {
  local name=$1 limit=$2
  shift 2
  step "$name" "$limit" bash -c 'echo 1..1; "$@" && echo "ok 1" || { echo "not ok 1"; exit 1; }' _ "$@"
}

skip() { # NAME REASON
  wanted "$1" || return 0
  p=0 f=0 s=1
  reasons+=("$1: $2")
  report "$1" 0 0
}

# programs FOLDER…: the names FOLDER/test_x of the C tests there, from the sources: one that was not built must fail
programs() {
  local d source
  for d in "$@"; do
    for source in tests/"$d"/test_*.c; do [ -e "$source" ] && echo "$d/$(basename "$source" .c)"; done
  done
}

run_python() {
  local start=$EPOCHREALTIME code xml=$out/python.xml n
  [ -d tests/python ] || return 0
  wanted python || return 0
  [ -x "$PY" ] || { skip python "no Python environment in ${PY%/bin/*}; make setup makes it"; return; }
  rm -f "$out"/rank* "$xml"
  timeout -k 10 300 "$PY" -m pytest -q -rs -p no:cacheprovider --junitxml="$xml" tests/python > "$out/log" 2>&1 < /dev/null
  code=$?
  attribute() { grep -o "<testsuite [^>]*" "$xml" 2>/dev/null | grep -o " $1=\"[0-9]*\"" | tr -dc 0-9; }
  n=$(attribute tests) f=$(($(attribute failures) + $(attribute errors) + 0)) s=$(attribute skipped)
  s=${s:-0} p=$((${n:-0} - f - s))
  [ "$f" = 0 ] && { [ $code != 0 ] || [ "${n:-0}" = 0 ]; } && f=1
  while read -r line; do reasons+=("python: $line"); done < <(grep '^SKIPPED' "$out/log")
  report python $code "$(awk "BEGIN { print $EPOCHREALTIME - $start }")"
}

# again NAME MAKE-VARIABLES LAUNCHER FOLDER…: build the programs of the folders in $BUILD-NAME and run them by LAUNCHER
again() {
  local name=$1 variables=$2 launcher=$3 list=() all=("${filters[@]}") t
  shift 3
  for t in $(programs "$@"); do wanted "$name/$t" && list+=("$t"); done
  [ ${#list[@]} = 0 ] && return 0
  filters=() # the build is needed by whichever were wanted
  eval "plain '$name/build' 900 make -s -j$cores CUDA=0 BUILD='$BUILD-$name' $variables $(printf " '$BUILD-$name/tests/%s'" "${list[@]}")" # $variables has quotes
  filters=("${all[@]}")
  for t in "${list[@]}"; do
    # shellcheck disable=SC2086
    step "$name/$t" 300 $launcher "$BUILD-$name/tests/$t"
  done
}

plain rules 60 make -s rules
for t in $(programs unit ops grad golden); do OMP_NUM_THREADS=$cores step "$t" 180 "$BUILD/tests/$t"; done

# The tests of ops once more, a whole step and the sampler's law, on the CUDA backend emulated on the CPU: in two orders of
# its threads. Then whole runs.
step emulation/test_emulation 60 "$BUILD/emulated/tests/test_emulation"
for t in $(programs ops cuda); do
  for seed in 0 1; do
    OMP_NUM_THREADS=1 EMULATION_SEED=$seed step "emulated/${t#*/} $seed" 300 "$BUILD/emulated/tests/${t#*/}"
  done
done
OMP_NUM_THREADS=1 step emulated/test_sampler_ancestral 300 "$BUILD/emulated/tests/test_sampler_ancestral"
OMP_NUM_THREADS=1 step emulated/test_sampler_ar 300 "$BUILD/emulated/tests/test_sampler_ar"
MODE=emulated step emulated/check 600 tests/cuda/check.sh curves resume uses ranks errors

# on_ranks NAME PROGRAM: rank 0 speaks TAP; the others' output is kept for the case that something fails
export RANK_LOG=$out/rank
on_ranks() {
  local n
  for n in 1 2 4; do
    OMP_NUM_THREADS=1 step "$1 -n $n" 180 mpirun -n $n bash -c \
      '[ "$OMPI_COMM_WORLD_RANK" = 0 ] && exec "$0"; exec "$0" > "$RANK_LOG$OMPI_COMM_WORLD_RANK" 2>&1' "$BUILD/$2"
  done
}
for t in $(programs mpi); do on_ranks "$t" "tests/$t"; done
for t in test_device_comm test_reduce; do on_ranks emulated/$t emulated/tests/$t; done

for t in tests/*/test_*.sh tests/*/*_test.sh; do
  [ -x "$t" ] || continue
  limit=$(sed -n 's/^# timeout: *\([0-9]*\).*/\1/p' "$t" | head -1)
  name=${t#tests/}
  OMP_NUM_THREADS=1 step "${name%.sh}" "${limit:-180}" "$t"
done

run_python

if [ "${FAST:-}" = 1 ]; then
  skip asan "FAST=1"
  skip valgrind "FAST=1"
else
  export OMP_NUM_THREADS=2
  again asan 'SANITIZE=address,undefined CFLAGS="-O1 -g -fno-sanitize-recover=all"' "" unit ops
  # x86-64-v3: valgrind 3.19 does not know AVX-512
  if command -v valgrind > /dev/null; then
    again valgrind 'ARCH=x86-64-v3 CFLAGS="-O1 -g"' \
      "valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite" unit
  else
    skip valgrind "valgrind is not installed"
  fi
fi

[ ${#reasons[@]} -gt 0 ] && printf 'skipped: %s\n' "${reasons[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ $((passed + skipped)) -gt 0 ]
