#!/bin/bash
# test_watchdog.sh — a rank that is stopped ends the job within dist.heartbeat, with one line that names it; a job that
# is suspended as a whole goes on; a rank that is slow is named in the log and in the metrics.
# limit: 120
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
BEAT=3 # seconds; the default is 30
prepare && deck "$T/deck.cfg" || exit 1

# launch NAME N COMMAND [KEY=VALUE…]: the command in the background; $pid is mpirun, $pids are the ranks in order
launch() {
  start "$T/$1.log" "$2" "$3" "$T/deck.cfg" dist.heartbeat="$BEAT" "${@:4}"
  pid=$!
  wait_for "$LIMIT" all_there "$2" || fail "the ranks do not start"
}

all_there() { # N
  local rank of=()
  read -r -a of <<< "$(rank_pids "$pid" | tr '\n' ' ')"
  [ ${#of[@]} = "$1" ] || return 1
  pids=()
  for ((rank = 0; rank < $1; rank++)); do
    pids[rank]=$(cd /proc && grep -lz "^OMPI_COMM_WORLD_RANK=$rank\$" "${of[@]/%//environ}" | cut -d/ -f1)
  done
}

trained() { # NAME: whether there is a checkpoint and the run goes on
  test -e "$T/$1/previous.h5"
}

# one_error NAME PATTERN: the job ends, with this error and no other, and no rank lives on. Without the watchdog it would
# wait for longer than LIMIT.
one_error() {
  ended "$pid" && fail "exit code 0" && return 1
  cat "$T/$1.log"
  wait_for "$LIMIT" gone "${pids[@]}" || fail "a rank lives on" || return 1
  [ "$(grep -c 'mdlm: error' "$T/$1.log")" = 1 ] || fail "not one error" || return 1
  grep "mdlm: error on rank $2" "$T/$1.log"
}

# ended_by_watchdog NAME RANK: the job, one of whose ranks has just been stopped, ends and names that rank
ended_by_watchdog() {
  one_error "$1" "[0-9]*: rank $2 on $(hostname) has not answered for [0-9.]* s: it is stopped or lost"
}

# stops RANK: SIGSTOP to a rank of a training on 3 ranks; the checkpoint stays, and the run resumes from it
stops() {
  local step name=stop$1 batch=(train.global_batch=6 train.micro_batch=1)
  launch "$name" 3 train run.dir="$T/$name" "${batch[@]}" train.steps=1000000 || return 1
  wait_for "$LIMIT" trained "$name" || fail "no checkpoint" || return 1
  kill -STOP "${pids[$1]}"
  ended_by_watchdog "$name" "$1" && grep "of step [0-9]" "$T/$name.log" || return 1
  step=$("$MDLM" info "$T/$name/last.h5" | sed -n 's/.*checkpoint at step \([0-9]*\),.*/\1/p')
  ranks 1 train "$T/deck.cfg" run.dir="$T/$name" "${batch[@]}" train.steps=$((step + 1)) > "$T/out" &&
    grep "^resuming from .*/last.h5 at step $step$" "$T/out"
}

# stops_in COMMAND RANK KEY=VALUE…: the same in a command that would take hours. Its output is locked once the watchdogs
# run.
stops_in() {
  launch "$1" 2 "$1" run.dir="$T/trained" "$1.output=$T/$1.h5" "${@:3}" || return 1
  wait_for "$LIMIT" test -e "$T/$1.h5.lock" && more "${pids[$2]}" 30 || fail "it does not start" || return 1
  kill -STOP "${pids[$2]}"
  ended_by_watchdog "$1" "$2"
}

# hang PID [CODE]: suspend the main thread of a process, and no other, run CODE of Python, and wait until the process ends;
# 77: not permitted here
hang() {
  "$PY" - "$@" << 'PYTHON'
import ctypes, errno, os, signal, sys
SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
libc, pid = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
for request in SEIZE, INTERRUPT:
    if libc.ptrace(request, pid, None, None) != 0:
        print("ptrace:", os.strerror(ctypes.get_errno()))
        sys.exit(77 if ctypes.get_errno() == errno.EPERM else 1)
os.waitpid(pid, WALL)  # until it stops
exec("".join(sys.argv[2:]))
os.waitpid(pid, WALL)  # until it ends
PYTHON
}

may_trace() { # whether hang is permitted
  local code=0
  sleep "$LIMIT" &
  started+=($!)
  hang $! 'os.kill(pid, signal.SIGKILL)' > /dev/null || code=$?
  [ $code != 77 ]
} 2> /dev/null

# hangs RANK: a rank that lives but computes no longer ends the job after dist.timeout
hangs() {
  launch "hangs$1" 2 train run.dir="$T/hangs$1" train.micro_batch=1 train.steps=1000000 dist.timeout=3 || return 1
  wait_for "$LIMIT" trained "hangs$1" || fail "no checkpoint" || return 1
  hang "${pids[$1]}" &
  one_error "hangs$1" "0: no progress for dist.timeout = 3 s: .*of step [0-9]"
}

# finishes NAME STEP: the run goes beyond the step, stops when it is told to, and logs no error
finishes() {
  wait_for "$LIMIT" beyond "$1" "$2" || fail "it does not go on: $(cat "$T/$1.log")" || return 1
  touch "$T/$1/STOP"
  exits 75 ended "$pid" && ! grep 'mdlm: error' "$T/$1.log"
}
last_step() { sed -n 's/^step \([0-9]*\)\/.*/\1/p' "$T/$1.log" | tail -n 1; } # NAME
beyond() { [ "$(last_step "$1")" -gt "$2" ]; } # NAME STEP

# pauses NAME "RANK…" [KEY=VALUE…]: these ranks stop for longer than a rank may be silent, and continue
pauses() {
  local it these=()
  launch "$1" 2 train run.dir="$T/$1" train.micro_batch=1 train.steps=1000000 "${@:3}" || return 1
  wait_for "$LIMIT" trained "$1" || fail "no checkpoint" || return 1
  for it in $2; do these+=("${pids[it]}"); done
  kill -STOP "${these[@]}"
  sleep $((BEAT + 2))
  kill -CONT "${these[@]}"
  finishes "$1" "$(last_step "$1")"
}

# named RANK: stop the rank of the run `slow` for longer than a second, again and again until the log names it. A stop
# while it waits for the other rank does not count.
named() {
  local step deadline=$((SECONDS + LIMIT))
  until grep "slowest is rank $1 on $(hostname) with" "$T/slow.log"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    kill -STOP "${pids[$1]}" && sleep 1.2 && kill -CONT "${pids[$1]}" || return 1
    step=$(last_step slow)
    wait_for "$LIMIT" beyond slow "$step" || return 1
  done
}

# slow: a rank that is stopped for a while is named as the slowest, in the log and in the metrics
slow() {
  BEAT=$LIMIT launch slow 2 train run.dir="$T/slow" train.steps=1000000 train.log_every=10 train.save_every=0 || return 1
  wait_for "$LIMIT" beyond slow 0 || fail "it does not start" || return 1
  named 0 && named 1 && finishes slow 0 || return 1
  "$PY" - "$T/slow/metrics.h5" << 'PYTHON'
import sys, h5py
with h5py.File(sys.argv[1]) as f:
    t = {name: f["train"][name][()] for name in ("step_median", "step_slowest", "slowest_rank")}
uneven = t["slowest_rank"][t["step_slowest"] > 1.5 * t["step_median"]]
print(t, uneven)
sys.exit(0 if {0, 1} <= set(uneven) and (t["step_median"] > 0).all() else 1)
PYTHON
}

for rank in 0 2; do tap "train on 3 ranks, rank $rank stopped: the job ends and can be resumed" stops $rank; done
tap "a run to read from" ranks 1 train "$T/deck.cfg" run.dir="$T/trained"
tap "eval, rank 0 stopped: the job ends" stops_in eval 0 eval.draws=1000000
tap "sample, rank 1 stopped: the job ends" stops_in sample 1 sample.count=1000 sample.steps=100000
tap "a job that is suspended as a whole goes on" pauses suspended "0 1"
tap "dist.timeout = 0: no watchdog" pauses paused 1 dist.timeout=0
if may_trace; then
  for rank in 0 1; do tap "rank $rank hangs: the job ends after dist.timeout" hangs $rank; done
else
  tap_skip "a rank that hangs" "this user may not trace processes"
fi
tap "a slow rank is named" slow
finish
