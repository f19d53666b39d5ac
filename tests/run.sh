#!/bin/bash
# run.sh [WORD…] — run the tests (those whose step's name contains a WORD); end with "N passed, N failed, N skipped".
#
# Steps: the rules; each C test program, those of tests/mpi on 1 to 6 ranks; each tests/*/test_*.sh and *_test.sh;
# pytest on tests/python; the unit programs again under the sanitizers; with LONG=1 the ops programs too, and the unit
# programs under valgrind.
# A test program prints TAP on stdout; "# skip: …" before a skipped test is its reason. A crash, a missing test, no
# output and running out of time are failures. Each process of a step has a limit of CPU seconds, which do not depend on
# other load ("# limit: N" in a script); the limit of elapsed time is much larger and only stops hangs. Steps run in
# parallel, one per core, and are listed as they end with the CPU seconds (user and system) of all their processes.
# Variables: BUILD (where the programs are), PY (the Python of the environment), FAST=1 (no sanitizers),
# LONG=1 (more draws, ranks and orders of emulated threads, and builds for other processors). See tests/README.md.
set -u
export LC_ALL=C.UTF-8 # numbers with decimal points, messages in English
cd "$(dirname "$0")/.." || exit 1
[ $((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1])) -ge 501 ] || { echo "run.sh needs bash 5.1"; exit 1; }
export BUILD=${BUILD:-build} PY=${PY:-.venv/bin/python} CMOCKA_MESSAGE_OUTPUT=TAP
# shellcheck source=tests/e2e/mpi.sh
. tests/e2e/mpi.sh
export UBSAN_OPTIONS=print_stacktrace=1 ASAN_OPTIONS=allocator_may_return_null=1
cores=$(nproc) most=$((cores < 8 ? cores : 8)) # most: the number of lanes
filters=("$@")
passed=0 failed=0 skipped=0 reasons=() failures=() seconds=() # CPU seconds of the steps
out=$(mktemp -d "${TMPDIR:-/tmp}/mdlm-tests-XXXXXX")
export PREPARED=$out/prepared # e2e/lib.sh
trap 'kill "${!under_way[@]}" 2> /dev/null; rm -rf "$out"' EXIT
trap 'echo "interrupted"; exit 1' INT TERM

wanted() { # NAME: whether the filters select it
  local f
  [ ${#filters[@]} = 0 ] && return 0
  for f in "${filters[@]}"; do [[ $1 == *"$f"* ]] && return 0; done
  return 1
}

# count FOLDER NAME CODE: read the TAP of the step and set p, f, s; incomplete TAP counts as a failure
count() {
  local name=$2 code=$3 results
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
          print "counts", p + 0, f + (missing > 0 ? missing : 0), s + 0 }' "$1/log")
  read -r _ p f s <<< "$(grep '^counts' <<< "$results")"
  [ "$code" != 0 ] && [ "$f" = 0 ] && f=1
  while read -r _ line; do reasons+=("$name: $line"); done < <(grep '^why' <<< "$results")
}

# report FOLDER NAME CODE SECONDS: print one line, and the output if it failed; add p, f, s to the sums
report() {
  printf '%-34s %4d passed %3d failed %3d skipped %6.1f CPU s\n' "$2" "$p" "$f" "$s" "$4"
  if [ "$f" -gt 0 ]; then
    out_of_time "$1" "$3"
    [ "$3" != 0 ] && echo "    | exit code $3"
    tail -n 60 "$1"/log "$1"/rank* 2>/dev/null | sed 's/^/    | /'
    not_passed "$1" "$2" "$3"
  fi
  seconds+=("$4")
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# not_passed FOLDER NAME CODE: remember its failed tests with the first lines of what each printed, or, without such, the
# last lines of its output
not_passed() {
  local lines
  lines=$(grep -a -A 4 '^not ok' "$1/log" | grep -avE '^(ok|--)')
  [ -n "$lines" ] || lines=$(tail -qn 4 "$1"/log "$1"/rank* 2> /dev/null)
  failures+=("$2, exit code $3"$'\n'"$(cut -c 1-200 <<< "$lines" | sed 's/^/    /')")
}

# out_of_time FOLDER CODE: print a line if one of the limits ended the step
out_of_time() {
  if [ "$2" = 124 ]; then
    echo "    | hung: stopped by the limit of elapsed time"
  elif [ "$2" = 152 ] || grep -qs 'CPU time limit exceeded' "$1"/log "$1"/rank*; then # 128 + SIGXCPU
    echo "    | ran out of time: a process used up its CPU seconds"
  fi
}

# measured FOLDER SECONDS COMMAND…: run the command with that many CPU seconds per process; its output and times go to
# FOLDER
measured() (
  folder=$1 limit=$2
  shift 2
  trap 'kill "$process"' TERM
  ulimit -S -t "$limit"
  export OMPI_MCA_orte_tmpdir_base=$folder # private: programs that start and end at the same time race for a shared one
  RANK_LOG=$folder/rank timeout -k 10 $((300 + 4 * limit)) "$@" > "$folder/log" 2>&1 < /dev/null &
  process=$!
  wait "$process"
  code=$?
  times > "$folder/times" # those of this shell, then those of its children
  exit $code
)

cpu_seconds() { # FOLDER: user and system time of the step that ran there; nothing if it was killed
  awk 'NR == 2 { gsub("s", ""); for (i = 1; i <= 2; i++) { split($i, t, "m"); sum += 60 * t[1] + t[2] } print sum }' "$1/times" 2> /dev/null
}

# step NAME SECONDS COMMAND…: start a step with a limit of CPU time as soon as a lane is free
lanes=1 steps=0 # steps at a time; steps started so far
declare -A under_way=() # process id: folder and name of its step
step() {
  local name=$1 limit=$2 folder=$out/$steps
  shift 2
  wanted "$name" || return 0
  settle $((lanes - 1))
  steps=$((steps + 1))
  mkdir "$folder"
  measured "$folder" "$limit" "$@" &
  under_way[$!]="$folder $name"
  [ "$lanes" != 1 ] || settle 0
}

# settle N: wait until at most N steps are running, and count the TAP of those that ended
settle() {
  local process code folder name
  while [ ${#under_way[@]} -gt "$1" ]; do
    wait -n -p process "${!under_way[@]}" 2> /dev/null # hides the shell's message on a crash
    code=$?
    read -r folder name <<< "${under_way[$process]}"
    unset "under_way[$process]"
    count "$folder" "$name" $code
    report "$folder" "$name" $code "$(cpu_seconds "$folder")"
    rm -rf "$folder"
  done
}

# in_lanes N: from now on run N steps at a time; with one lane a step waits for all others
in_lanes() { lanes=$1; }

# after NAME: wait until that step has ended
after() {
  while [[ "${under_way[*]} " == *" $1 "* ]]; do settle $((${#under_way[@]} - 1)); done
}

# plain NAME SECONDS COMMAND…: a step without TAP, which passes if the exit code is 0
plain() {
  local name=$1 limit=$2
  shift 2
  # shellcheck disable=SC2016 # the inner shell expands $@
  step "$name" "$limit" bash -c 'echo 1..1; "$@" && echo "ok 1" || { echo "not ok 1"; exit 1; }' _ "$@"
}

skip() { # NAME REASON
  wanted "$1" || return 0
  p=0 f=0 s=1
  reasons+=("$1: $2")
  report "" "$1" 0 0
}

# programs FOLDER…: the names FOLDER/test_x of the C tests, taken from the sources, so that a program that was not built
# fails
programs() {
  local d source
  for d in "$@"; do
    for source in tests/"$d"/test_*.c; do [ -e "$source" ] && echo "$d/$(basename "$source" .c)"; done
  done
}

# python_tap FOLDER: pytest's results as TAP
python_tap() {
  local code=0 xml
  xml=$(mktemp)
  "$PY" -m pytest -q -p no:cacheprovider --junitxml="$xml" "$1" || code=$?
  "$PY" - "$xml" << 'PYTHON' || code=$?
import sys, xml.etree.ElementTree as tree
cases = list(tree.parse(sys.argv[1]).iter("testcase"))
print(f"1..{len(cases)}")
for n, case in enumerate(cases, 1):
    skipped, bad = case.find("skipped"), case.find("failure") is not None or case.find("error") is not None
    print(f"{'not ' * bad}ok {n} - {case.get('name')}" + ("" if skipped is None else f" # SKIP {skipped.get('message')}"))
PYTHON
  rm "$xml"
  return $code
}
export -f python_tap

# build_again NAME MAKE-VARIABLES FOLDER…: start the step NAME/build, which builds the programs of the folders in
# $BUILD-NAME. Sets `list` to the selected programs.
build_again() {
  local name=$1 variables=$2 all=("${filters[@]}") t
  shift 2
  list=()
  for t in $(programs "$@"); do
    wanted "$name/$t" && list+=("$t")
  done
  [ ${#list[@]} = 0 ] && return 0
  filters=() # the build must not be filtered out
  # eval, because $variables has quotes
  eval "plain '$name/build' 900 make -s -j$cores CUDA=0 WERROR=1 BUILD='$BUILD-$name' $variables $(printf " '$BUILD-$name/tests/%s'" "${list[@]}")"
  filters=("${all[@]}")
}

# again NAME LAUNCHER PROGRAM…: run the programs that build_again builds, with LAUNCHER
again() {
  local name=$1 launcher=$2 t
  after "$name/build"
  # shellcheck disable=SC2086
  for t in "${@:3}"; do step "$name/$t" 300 $launcher "$BUILD-$name/tests/$t"; done
}

plain rules 60 make -s rules
in_lanes "$most"
export OMP_WAIT_POLICY=passive # the steps share the cores
for t in $(programs unit ops grad golden); do OMP_NUM_THREADS=$cores step "$t" 180 "$BUILD/tests/$t"; done

# bf16 products as on a processor without AVX512_BF16; oneDNN before 2.7 reads the second variable
ONEDNN_MAX_CPU_ISA=AVX2 DNNL_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=$cores \
  step "ops/test_dense, bf16 as f32" 180 "$BUILD/tests/ops/test_dense"

# The tests of ops, of a whole step and of the samplers' distributions on the CUDA backend emulated on the CPU. Every
# case runs in two orders of the emulated threads. Also whole runs.
in_lanes "$most"
export OMP_NUM_THREADS=1
MODE=emulated step emulated/check 600 tests/cuda/check.sh curves resume uses ranks errors # the longest first
for t in test_sampler_ancestral test_sampler_ar test_sampler_cached; do step "emulated/$t" 300 "$BUILD/emulated/tests/$t"; done
step emulation/test_emulation 60 "$BUILD/emulated/tests/test_emulation"
for t in $(programs ops); do step "emulated/${t#*/}" 300 "$BUILD/emulated/tests/${t#*/}"; done
step emulated/test_attention_cudnn 300 "$BUILD/emulated/tests/test_attention_cudnn"
for t in $(programs cuda); do EMULATION_SEED=1 step "emulated/${t#*/}" 300 "$BUILD/emulated/tests/${t#*/}"; done
if [ "${LONG:-}" = 1 ]; then # what takes minutes, and two more orders
  for t in test_blocks test_guidance; do step "emulated/$t" 600 "$BUILD/emulated/tests/$t"; done
  for t in $(programs ops cuda); do EMULATION_SEED=2 step "emulated/${t#*/} 2" 300 "$BUILD/emulated/tests/${t#*/}"; done
fi

# on_ranks NAME PROGRAM N…: run on each number of ranks; rank 0 prints TAP, the output of the others is kept for failures
on_ranks() {
  local n
  for n in "${@:3}"; do
    # shellcheck disable=SC2016 # each rank expands its variables
    step "$1 -n $n" 180 mpirun -n "$n" bash -c \
      '[ "$OMPI_COMM_WORLD_RANK" = 0 ] && exec "$0"; exec "$0" > "$RANK_LOG$OMPI_COMM_WORLD_RANK" 2>&1' "$2"
  done
}
ranks="1 2 3 4 6" shard="1 2 3" emulated_reduce=3 emulated_shard=2 # those of shard take long
[ "${LONG:-}" != 1 ] || ranks="1 2 3 4 5 6 8" shard=$ranks emulated_reduce="1 2 3 4" emulated_shard=$emulated_reduce
# shellcheck disable=SC2086
for t in $(programs mpi); do
  case $t in
    mpi/test_items) on_ranks "$t" "$BUILD/tests/$t" 1 2 3 4 ;; # more ranks finish its items before it can stop them
    mpi/test_shard) on_ranks "$t" "$BUILD/tests/$t" $shard ;;
    *) on_ranks "$t" "$BUILD/tests/$t" $ranks ;;
  esac
done
on_ranks emulated/test_device_comm "$BUILD/emulated/tests/test_device_comm" 1 2 3 4
# shellcheck disable=SC2086
on_ranks emulated/test_reduce "$BUILD/emulated/tests/test_reduce" $emulated_reduce
# shellcheck disable=SC2086
on_ranks emulated/test_shard "$BUILD/emulated/tests/test_shard" $emulated_shard

# Python and the scripts, those with the largest time limit first; two lanes more, because scripts wait for a part of their
# time. The build with sanitizers goes on beside them.
in_lanes $((most + 2))
watched=()
if [ "${FAST:-}" != 1 ]; then
  list=()
  # shellcheck disable=SC2046
  build_again asan 'SANITIZE=address,undefined CFLAGS="-O1 -g1 -fno-sanitize-recover=all" TEST_O=-O0' unit $([ "${LONG:-}" != 1 ] || echo ops)
  watched=("${list[@]}")
fi
if [ -x "$PY" ]; then
  step python 600 bash -c 'python_tap tests/python'
else
  skip python "no Python environment in ${PY%/bin/*}; make setup makes it"
fi
while read -r limit t; do
  name=${t#tests/}
  step "${name%.sh}" "$limit" "$t"
done < <(for t in tests/*/test_*.sh tests/*/*_test.sh; do
  [ -x "$t" ] || continue
  limit=$(sed -n 's/^# limit: *\([0-9]*\).*/\1/p' "$t" | head -1)
  echo "${limit:-180} $t"
done | sort -k 1,1nr -k 2)

if [ "${FAST:-}" = 1 ]; then
  skip asan "FAST=1"
  skip valgrind "FAST=1"
else
  export OMP_NUM_THREADS=2
  in_lanes "$most"
  again asan "" "${watched[@]}"
  if [ "${LONG:-}" != 1 ]; then
    skip asan/ops "make check-long runs it; the tests of ops have guard zones of their own"
    skip valgrind "make check-long runs it; asan has run the same programs here"
  elif command -v valgrind > /dev/null; then # x86-64-v3: valgrind 3.19 does not support AVX-512
    build_again valgrind 'ARCH=x86-64-v3 CFLAGS="-O1 -g"' unit
    again valgrind "valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite" "${list[@]}"
  else
    skip valgrind "valgrind is not installed"
  fi
fi

# in_threads NAME FOLDER PROGRAM…: run the programs in FOLDER with one thread and with two
in_threads() {
  local name=$1 folder=$2 t threads
  shift 2
  for threads in 1 2; do
    export OMP_NUM_THREADS=$threads
    in_lanes "$most"
    for t; do [[ $t == mpi/* ]] || step "$name/$t, $threads" 300 "$folder/tests/$t"; done
    in_lanes 1
    for t; do [[ $t != mpi/* ]] || on_ranks "$name/$t, $threads" "$folder/tests/$t" 1 2 4; done
  done
}

# as_on ARCH FLAG ISA: run the C programs as on an older processor: compiled for ARCH, with oneDNN limited to ISA.
# Skipped if this processor lacks FLAG.
as_on() {
  local list
  if ! grep -qw "$2" /proc/cpuinfo; then
    skip "$1" "this processor has no $2"
    return
  fi
  build_again "$1" "ARCH=$1" unit ops grad golden mpi
  after "$1/build"
  # oneDNN before 2.7 reads the second variable
  LONG=0 ONEDNN_MAX_CPU_ISA=$3 DNNL_MAX_CPU_ISA=$3 in_threads "$1" "$BUILD-$1" "${list[@]}"
}

if [ "${LONG:-}" = 1 ]; then
  as_on x86-64-v2 sse4_2 SSE41
  as_on x86-64-v3 avx2 AVX2
  mapfile -t list < <(programs unit ops grad golden mpi)
  LONG=0 in_threads native "$BUILD" "${list[@]}"
fi

settle 0
[ ${#reasons[@]} -gt 0 ] && printf 'skipped: %s\n' "${reasons[@]}"
[ ${#failures[@]} -gt 0 ] && printf 'failed: %s\n' "${failures[@]}"
printf '%s\n' "${seconds[@]}" | awk '{ sum += $1 } END { printf "%.0f CPU seconds\n", sum }'
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ $((passed + skipped)) -gt 0 ]
