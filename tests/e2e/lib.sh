# lib.sh — shared by the end-to-end tests: TAP, a temporary directory, tiny data and a deck, runs under a time limit.
# shellcheck shell=bash disable=SC2034
#
# Sourced by tests/e2e/test_*.sh and tests/cuda/check.sh. Afterwards the working directory is the repository's root, $T
# is an empty directory that is removed at the end, $MDLM is the program ($PROGRAM, or that of $BUILD), and $PY is the
# Python of the environment. A script that needs no Python sets PY=none. A script ends with `finish`.
set -u
export LC_ALL=C.UTF-8 OMP_NUM_THREADS=1
# when a rank has failed, mpirun kills the others at once instead of after a second
export OMPI_MCA_odls_base_sigkill_timeout=0
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
# shellcheck source=tests/e2e/mpi.sh
. tests/e2e/mpi.sh
MDLM=$(realpath "${PROGRAM:-${BUILD:-build}/mdlm}")
PY=${PY:-.venv/bin/python}
LIMIT=300 # seconds until a run counts as hung, even on a busy machine
[ "$PY" = none ] || [ -x "$PY" ] || { echo "1..0 # SKIP no Python environment in ${PY%/bin/*}; make setup makes it"; exit 0; }
[ -x "$MDLM" ] || { echo "1..1"; echo "not ok 1 - there is no program $MDLM; make builds it"; exit 1; }
T=$(mktemp -d "${TMPDIR:-/tmp}/mdlm-e2e-XXXXXX")
# private: programs that start and end at the same time race for a shared one
OMPI_MCA_orte_tmpdir_base=$(mktemp -d "${TMPDIR:-/tmp}/mdlm-ompi-XXXXXX")
export OMPI_MCA_orte_tmpdir_base

tests=0 failures=0 started=() mounts=()

# Remove the processes and mounts that a script leaves behind, then the directory.
clean_up() {
  local it
  for it in "${started[@]}"; do kill -KILL "$it"; done
  for it in "${mounts[@]}"; do umount "$it"; done
  rm -rf "$T" "$OMPI_MCA_orte_tmpdir_base"
} 2> /dev/null
trap clean_up EXIT
trap 'exit 1' INT TERM

# tap NAME COMMAND…: one test, which passes if the command succeeds; otherwise the command's output is shown
tap() {
  local name=$1
  shift
  tests=$((tests + 1))
  if "$@" > "$T/tap" 2>&1; then
    echo "ok $tests - $name"
  else
    failures=$((failures + 1))
    echo "not ok $tests - $name"
    head -n 60 "$T/tap" | sed 's/^/#   /'
  fi
}

# tap_skip NAME REASON: a skipped test
tap_skip() {
  tests=$((tests + 1))
  echo "ok $tests - $1 # SKIP $2"
}

finish() {
  echo "1..$tests"
  [ "$failures" = 0 ]
  exit
}

# fail WORD…: print the reason and return false
fail() {
  echo "$*"
  return 1
}

# ranks N ARGUMENT…: run mdlm with these arguments on N ranks
ranks() {
  local launch=()
  [ "$1" -gt 1 ] && launch=(mpirun -n "$1")
  timeout -k 5 "$LIMIT" "${launch[@]}" "$MDLM" "${@:2}" < /dev/null
}

# last_line N ARGUMENT…: print the last line that mdlm prints on N ranks; fails if mdlm fails, which a pipe to tail hides
last_line() {
  ranks "$@" > "$T/printed" || return
  tail -n 1 "$T/printed"
}

# exits CODE COMMAND…: whether the command ends with that code
exits() {
  local code=0
  "${@:2}" || code=$?
  [ "$code" = "$1" ] || fail "exit code $code, expected $1: ${*:2}"
}

exec {NAP}<> <(:) # nothing ever arrives there, so that reading from it passes the time without a process

# wait_for SECONDS COMMAND…: wait until the command succeeds, at most that long
wait_for() {
  local deadline=$((${EPOCHREALTIME/./} + $1 * 1000000))
  until "${@:2}" > /dev/null 2>&1; do
    [ "${EPOCHREALTIME/./}" -lt $deadline ] || return 1
    read -r -t 0.01 -u "$NAP" || :
  done
}

# start LOG N ARGUMENT…: the same in the background; $! is mpirun, or mdlm itself for one rank
start() {
  local launch=()
  [ "$2" -gt 1 ] && launch=(mpirun -n "$2")
  : > "$1" # now, because the process below starts later and an old log must not be taken for its own
  "${launch[@]}" "$MDLM" "${@:3}" >> "$1" 2>&1 < /dev/null &
  started+=($!)
}

# rank_pids PID: the process ids of the ranks of a run that `start` started
rank_pids() {
  if [ "$(cat /proc/"$1"/comm)" = mdlm ]; then echo "$1"; return; fi
  grep -ls "^PPid:[[:space:]]*$1$" /proc/[0-9]*/status | cut -d/ -f3
}

said() { # LOG PATTERN: whether a line matches; without a process, too
  local line
  while IFS= read -r line; do [[ $line =~ $2 ]] && return 0; done < "$1"
  return 1
}

# more PID TICKS: wait until the process has used that much more CPU time, in units of 10 ms, whatever else runs
more() {
  local f
  read -r -a f < "/proc/$1/stat" && wait_for "$LIMIT" used "$1" $((f[13] + f[14] + $2))
}
used() { # PID TICKS: whether it has used that much since its start, or has ended
  local f
  read -r -a f < "/proc/$1/stat" || return 0
  [ "${f[2]}" = Z ] || [ $((f[13] + f[14])) -ge "$2" ]
}

gone() { # PID…: whether all of these have ended
  local it
  for it in "$@"; do kill -0 "$it" 2> /dev/null && return 1; done
  return 0
}

# ended PID: wait for a run that `start` started; returns its exit code, or 124 if it does not end
ended() {
  local it kept=() code
  wait_for "$LIMIT" gone "$1" || fail "process $1 does not end" || return 124
  wait "$1"
  code=$?
  for it in "${started[@]}"; do [ "$it" = "$1" ] || kept+=("$it"); done
  started=("${kept[@]}")
  return $code
}

# train_killed FOLDER ARGUMENT…: start `mdlm train` on one rank, saving in every step, and kill it once FOLDER has two checkpoints
train_killed() {
  start "$T/log" 1 train "${@:2}" run.dir="$1" train.save_every=1
  local pid=$!
  wait_for "$LIMIT" test -e "$1/previous.h5" || return 1
  kill -KILL "$pid"
  ended "$pid"
  [ $? = 137 ] || fail "it was not killed"
}

# files FOLDER PATTERNS WORD…: apply find's WORDs to its files, except those that match a pattern of the list PATTERNS
files() {
  local skip=() names it
  read -ra names <<< "lock $2"
  for it in "${names[@]}"; do skip+=(! -name "$it"); done
  (cd "$1" && find . -type f "${skip[@]}" "${@:3}" | sort -k 2)
}
sums() { files "$1" "${*:2}" -exec sha256sum {} +; } # FOLDER [PATTERN…]: checksums of its files, except those
# the same with inode, size and time of the last write, which any write changes: for many files
stamps() { files "$1" "${*:2}" -printf '%i-%s-%T@ %p\n'; }

# one_line FILE PATTERN N: whether stderr, in FILE, has an error line of at least one of N ranks, at most one per rank,
# and all match
one_line() {
  local lines
  cat "$1"
  lines=$(grep -a '^mdlm: error' "$1")
  [ -n "$lines" ] || fail "there is no error line" || return 1
  [ "$(wc -l <<< "$lines")" -le "$3" ] || fail "too many error lines" || return 1
  [ -z "$(grep -o '^mdlm: error[^:]*' <<< "$lines" | sort | uniq -d)" ] || fail "a rank speaks twice" || return 1
  ! grep -vE "$2" <<< "$lines" || fail "a line without: $2" || return 1
  ! grep -aiE 'HDF5-DIAG|segmentation|signal:|bug in mdlm|Sanitizer' "$1"
}

# refused N PATTERN ARGUMENT…: whether mdlm fails on N ranks as it should and leaves every file in $KEEP unchanged
refused() {
  local n=$1 pattern=$2 code=0
  shift 2
  stamps "$KEEP" "${LOOSE[@]}" > "$T/before"
  ranks "$n" "$@" > "$T/out" 2> "$T/err" || code=$?
  one_line "$T/err" "$pattern" "$n" || return 1
  [ "$code" -gt 0 ] && [ "$code" -lt 124 ] || fail "exit code $code: $*" || return 1
  stamps "$KEEP" "${LOOSE[@]}" | diff "$T/before" - || fail "files have changed"
}

# bad NAME PATTERN ARGUMENT…: test a case on each number of ranks in $RANKS
bad() {
  local n
  for n in $RANKS; do tap "$1, $n rank$([ "$n" = 1 ] || echo s)" refused "$n" "${@:2}"; done
}

# text LINES: a corpus of sentences of made-up words, always the same
text() {
  "$PY" - "$1" << 'PYTHON'
import random, sys
r = random.Random(7)
words = ["".join(r.choice("abcdefghijklmnop") for _ in range(r.randint(2, 7))) for _ in range(150)]
for _ in range(int(sys.argv[1])):
    print(" ".join(r.choice(words) for _ in range(r.randint(4, 20))))
PYTHON
}

# prepare: put that corpus and what mdlm-prepare makes of it, train.h5 and valid.h5, into $T. The scripts of one run.sh
# share the files: the first ones leave them in the folder $PREPARED, the others copy them.
prepare() {
  local made prepared_files=(text train.h5 valid.h5)
  if [ -n "${PREPARED:-}" ] && cp "${prepared_files[@]/#/$PREPARED/}" "$T" 2> /dev/null; then return; fi
  text 400 > "$T/text" || return 1
  "$PY" -m mdlm_data.prepare "$T/text" --tokenizer bpe:300 --length 32 --valid-documents 40 --quiet \
    --out-train "$T/train.h5" --out-valid "$T/valid.h5" || return 1
  [ -n "${PREPARED:-}" ] || return 0
  made=$(mktemp -d "$PREPARED-XXXXXX") && cp "${prepared_files[@]/#/$T/}" "$made" || return 1
  mv -T "$made" "$PREPARED" 2> /dev/null || rm -r "$made" # another script was first
}

# deck FILE [TEXT]: write a deck for a run of a few seconds in $T/run, with TEXT appended
deck() {
  cat > "$1" << DECK
run: { dir = "$T/run"; };
data: { train = "$T/train.h5"; valid = "$T/valid.h5"; };
model: { width = 32; blocks = 2; heads = 2; cond_dim = 16; };
train: {
  steps = 6; global_batch = 8; micro_batch = 2; lr = 1e-2; warmup = 3; ema = 0.9;
  log_every = 1; valid_every = 0; save_every = 3;
};
sample: { count = 5; batch = 5; steps = 16; };
device: { threads = 1; };
${2:-}
DECK
}

# same ARGUMENT…: compare checkpoints, metrics or other outputs; see same.py. One process answers all of a script, because
# Python starts for longer than it compares.
same() {
  local line IFS=$'\t'
  if [ -z "${ANSWERS:-}" ]; then
    coproc COMPARER { exec "$PY" tests/e2e/same.py --serve 2>&1; }
    started+=("$COMPARER_PID")
    exec {QUESTIONS}>&"${COMPARER[1]}" {ANSWERS}<&"${COMPARER[0]}"
  fi
  printf '%s\n' "$*" >&"$QUESTIONS"
  while IFS= read -r line <&"$ANSWERS"; do
    [[ $line != "end "* ]] || return "${line#end }"
    printf '%s\n' "$line"
  done
  fail "same.py has ended"
}
