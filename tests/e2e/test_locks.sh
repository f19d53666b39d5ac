#!/bin/bash
# test_locks.sh — a file system without locks: one warning, an exclusive file keeps a second job out, what a killed job
# leaves is replaced or named, and every command reads and writes HDF5.
# shellcheck source=tests/e2e/lib.sh disable=SC2317,SC2119,SC2120
. "$(dirname "$0")/lib.sh"
PY=$(realpath -s "$PY")
export PYTHONPATH=$PWD/input:$PWD/analysis

# Every lock fails, as on Lustre without -o flock (ENOSYS) or NFS without its lock daemon (ENOLCK).
cat > "$T/nolocks.c" << 'C'
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>
int flock(int fd, int how) { return (void)fd, (void)how, errno = ENOLCK, -1; }
int fcntl(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  void *argument = va_arg(list, void *);
  va_end(list);
  if (command == F_SETLK || command == F_SETLKW) return errno = ENOSYS, -1;
  return (int)syscall(SYS_fcntl, fd, command, argument);
}
int fcntl64(int fd, int command, ...) __attribute__((alias("fcntl")));
C
mpicc -shared -fPIC -o "$T/nolocks.so" "$T/nolocks.c" || exit 1
printf '#!/bin/bash\nLD_PRELOAD=%s exec %s "$@"\n' "$T/nolocks.so" "$MDLM" > "$T/mdlm" && chmod +x "$T/mdlm"
MDLM=$T/mdlm D=$T/deck.cfg HELD=$T/run/lock.held
deck "$D"

bare() { LD_PRELOAD=$T/nolocks.so "$@"; }

prepares() {
  text 200 > "$T/text" && bare "$PY" -m mdlm_data.prepare "$T/text" --tokenizer bpe:280 --length 32 --valid-documents 20 --quiet \
    --out-train "$T/train.h5" --out-valid "$T/valid.h5"
}

# warned LOG: whether it has one warning, about a lock
warned() {
  cat "$1"
  [ "$(grep -c warning: "$1")" = 1 ] &&
    grep "^warning: .*/lock: its file system has no locks (Function not implemented): the file .*/lock.held is the lock" "$1"
}

trains() {
  ranks 2 train "$D" > "$T/log" 2>&1 && warned "$T/log" && ! [ -e "$HELD" ] && [ -s "$T/run/last.h5" ]
}

other_commands() {
  ranks 1 eval "$D" && ranks 1 sample "$D" && ranks 1 sweep "$D" sweep.seeds=1,2 && ! ls "$T"/run/*.held "$T"/run/*/*/*.held
}

python_commands() (
  cd "$T" || exit 1
  echo 'so ____{3} it' > holes.txt && bare "$PY" -m mdlm_data.prompt holes.txt --data train.h5 --out prompts.h5 &&
    bare "$PY" -m mdlm_data.retokenize run/samples.h5 --tokenizer text8 --out letters.h5 &&
    bare "$PY" -m mdlm_analysis.convert export run/last.h5 weights.safetensors &&
    bare "$PY" -m mdlm_analysis.plot run
)

checks() { # the pre-flight says so, too, and leaves nothing
  ranks 2 check "$D" run.dir="$T/new/run" 2> "$T/err" && cat "$T/err" && ! [ -e "$T/new" ] &&
    grep "^warning: locks: run.dir = $T/new/run: its file system has none (Function not implemented): .*HDF5_USE_FILE_LOCKING=FALSE" "$T/err"
}

# A second job is refused while the first runs. The first one is killed; the third replaces what it left, and resumes.
second_and_third() {
  local code=0 pid
  start "$T/first" 1 train "$D" train.steps=1000000
  pid=$!
  wait_for 60 grep '^step' "$T/first" || fail "$(cat "$T/first")" || return 1
  exits 10 ranks 1 train "$D" train.steps=1000000 > "$T/second" 2>&1
  code=$?
  kill -KILL "$pid"
  ended "$pid"
  cat "$T/second"
  [ "$code" = 0 ] && grep "^mdlm: error: run.dir = .* is in use by another job (host $(hostname), process [0-9]*, since 20.*; if it has ended, remove $HELD): wait" "$T/second" &&
    [ -e "$HELD" ] && ranks 1 train "$D" train.steps="$(($(saved_step) + 2))" > "$T/third" 2>&1 || return 1
  cat "$T/third"
  grep "^warning: $HELD: replaced: the job that held it has ended (host" "$T/third" && grep "^resuming" "$T/third" &&
    ! [ -e "$HELD" ]
}
saved_step() { "$MDLM" info "$T/run/last.h5" | sed -n 's/.*checkpoint at step \([0-9]*\),.*/\1/p'; }

# left HOST JOB RESTARTS: what a job leaves that is killed there
left() { printf 'host %s, process 1, since yesterday\nstart 1 job %s restarts %s\n' "$@" > "$HELD"; }
more() { ranks 1 train "$D" train.steps="$(($(saved_step) + 1))"; } # ends at once

elsewhere() { # a job on another host may still run; the user removes the file
  left far-away none 0 && exits 10 more 2> "$T/err" && cat "$T/err" && grep "process 1, since yesterday; if it has ended, remove $HELD" "$T/err" &&
    rm "$HELD" && more
}

requeued() { # an earlier start of the same Slurm job has ended, wherever it was
  left far-away 77 1 && SLURM_JOB_ID=77 SLURM_RESTART_COUNT=1 exits 10 more &&
    SLURM_JOB_ID=77 SLURM_RESTART_COUNT=2 more 2> "$T/err" && grep "replaced: .*far-away" "$T/err"
}

cut_off() { # a job killed between creation and first write
  : > "$HELD" && exits 10 more 2> "$T/err" && grep "(unknown; if it has ended, remove $HELD)" "$T/err" && rm "$HELD"
}

tap "mdlm-prepare" prepares
tap "check tells what to set" checks
tap "train on 2 ranks warns once and leaves no lock" trains
tap "eval, sample and sweep" other_commands
tap "prompt, retokenize, convert and plot" python_commands
tap "a second job is refused; after a kill the next one resumes" second_and_third
tap "what a job left on another host is named" elsewhere
tap "what an earlier start of the Slurm job left is replaced" requeued
tap "an empty lock is named" cut_off
finish
