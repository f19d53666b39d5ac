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

# ended_by_watchdog NAME RANK: the job, one of whose ranks has just been stopped, ends in time and says why in one line
ended_by_watchdog() {
  local began=${EPOCHREALTIME/./} code=0 seconds
  ended "$pid" || code=$?
  seconds=$(((${EPOCHREALTIME/./} - began) / 1000000))
  cat "$T/$1.log"
  [ "$code" != 0 ] || fail "exit code 0" || return 1
  [ "$seconds" -le $((BEAT + 15)) ] || fail "it took $seconds s" || return 1
  wait_for 20 gone "${pids[@]}" || fail "a rank lives on" || return 1
  [ "$(grep -c 'mdlm: error' "$T/$1.log")" = 1 ] || fail "not one error" || return 1
  grep "mdlm: error on rank [0-9]*: rank $2 on $(hostname) has not answered for [0-9.]* s: it is stopped or lost" \
    "$T/$1.log"
}

# stops NAME N RANK: SIGSTOP to a rank of a training; the checkpoint stays, and the run resumes from it
stops() {
  launch "$1" "$2" train run.dir="$T/$1" train.micro_batch=1 train.steps=1000000 || return 1
  wait_for "$LIMIT" trained "$1" || fail "no checkpoint" || return 1
  kill -STOP "${pids[$3]}"
  ended_by_watchdog "$1" "$3" && grep "of step [0-9]" "$T/$1.log" || return 1
  step=$("$MDLM" info "$T/$1/last.h5" | sed -n 's/.*checkpoint at step \([0-9]*\),.*/\1/p')
  ranks "$2" train "$T/deck.cfg" run.dir="$T/$1" train.micro_batch=1 train.steps=$((step + 1)) > "$T/out" &&
    grep "^resuming from .*/last.h5 at step $step$" "$T/out"
}

# stops_in COMMAND RANK KEY=VALUE…: the same in a command that would take minutes
stops_in() {
  launch "$1$2" 2 "$1" run.dir="$T/trained" "${@:3}" || return 1
  sleep 2 # beyond start-up, on an idle machine; a rank that is stopped earlier ends the job, too
  kill -STOP "${pids[$2]}"
  ended_by_watchdog "$1$2" "$2"
}

# hang PID: suspend the main thread of a process, and no other, until the process ends; 77: not allowed here
hang() {
  "$PY" - "$1" << 'PYTHON'
import ctypes, os, sys
SEIZE, INTERRUPT = 0x4206, 0x4207
libc, pid = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
for request in SEIZE, INTERRUPT:
    if libc.ptrace(request, pid, None, None) != 0:
        sys.exit(77)
os.waitpid(pid, 0x40000000)  # until it stops
os.waitpid(pid, 0x40000000)  # until it ends
PYTHON
}

can_trace() { # whether hang works here
  local tracer code=0
  sleep 60 &
  started+=($!)
  hang $! &
  tracer=$!
  sleep 1
  kill -KILL "${started[-1]}"
  wait $tracer || code=$?
  [ $code != 77 ]
} 2> /dev/null

# hangs RANK: a rank that lives but computes no longer ends the job after dist.timeout
hangs() {
  local began
  rm -rf "$T/hangs"
  launch hangs 2 train run.dir="$T/hangs" train.micro_batch=1 train.steps=1000000 dist.timeout=3 || return 1
  wait_for "$LIMIT" trained hangs || fail "no checkpoint" || return 1
  began=${EPOCHREALTIME/./}
  hang "${pids[$1]}" &
  ended "$pid" && fail "exit code 0" && return 1
  cat "$T/hangs.log"
  [ $((${EPOCHREALTIME/./} - began)) -lt 30000000 ] || fail "it took too long" || return 1
  wait_for 20 gone "${pids[@]}" || fail "a rank lives on" || return 1
  [ "$(grep -c 'mdlm: error' "$T/hangs.log")" = 1 ] || fail "not one error" || return 1
  grep "mdlm: error on rank 0: no progress for dist.timeout = 3 s: .*of step [0-9]" "$T/hangs.log"
}

# suspended: all ranks stop for longer than a rank may be silent, and continue
suspended() {
  local code=0
  launch suspended 2 train run.dir="$T/suspended" train.micro_batch=1 train.steps=100 || return 1
  wait_for "$LIMIT" trained suspended || fail "no checkpoint" || return 1
  kill -STOP "${pids[@]}"
  sleep $((2 * BEAT))
  kill -CONT "${pids[@]}"
  ended "$pid" || code=$?
  cat "$T/suspended.log"
  [ "$code" = 0 ] && grep "^complete at step 100" "$T/suspended.log"
}

# paused: with the watchdog off a rank may stop for as long as it likes
paused() {
  local code=0
  launch paused 2 train run.dir="$T/paused" train.micro_batch=1 train.steps=100 dist.timeout=0 || return 1
  wait_for "$LIMIT" trained paused || fail "no checkpoint" || return 1
  kill -STOP "${pids[1]}"
  sleep $((2 * BEAT))
  kill -CONT "${pids[1]}"
  ended "$pid" || code=$?
  cat "$T/paused.log"
  [ "$code" = 0 ] && grep "^complete at step 100" "$T/paused.log"
}

# slow RANK: a rank that is stopped three quarters of the time is the slowest in the log and in the metrics
slow() {
  local code=0
  rm -rf "$T/slow"
  launch slow 2 train run.dir="$T/slow" train.steps=40 train.log_every=10 train.save_every=0 model.width=256 || return 1
  while kill -STOP "${pids[$1]}" && sleep 0.3 && kill -CONT "${pids[$1]}" && sleep 0.1; do :; done 2> /dev/null
  ended "$pid" || code=$?
  cat "$T/slow.log"
  [ "$code" = 0 ] || fail "exit code $code" || return 1
  grep "slowest is rank $1 on $(hostname) with" "$T/slow.log" || return 1
  "$PY" - "$T/slow/metrics.h5" "$1" << 'PYTHON'
import sys, h5py
with h5py.File(sys.argv[1]) as f:
    t = {name: f["train"][name][()] for name in ("step_median", "step_slowest", "slowest_rank")}
    print(t)
    rows = (t["step_slowest"] > 1.5 * t["step_median"]) & (t["slowest_rank"] == int(sys.argv[2]))
    sys.exit(0 if rows.sum() * 2 > len(rows) and (t["step_median"] > 0).all() else 1)
PYTHON
}

for case in "2 0" "2 1" "4 2"; do
  # shellcheck disable=SC2086
  tap "train (ranks, stopped: $case): the job ends and can be resumed" stops "stop${case/ /of}" $case
done
tap "a run to read from" ranks 1 train "$T/deck.cfg" run.dir="$T/trained"
for rank in 0 1; do
  tap "eval, rank $rank stopped: the job ends" stops_in eval $rank eval.draws=1000000
  tap "sample, rank $rank stopped: the job ends" stops_in sample $rank sample.count=1000 sample.steps=100000
done
tap "a job that is suspended as a whole goes on" suspended
tap "dist.timeout = 0: no watchdog" paused
for rank in 0 1; do
  if can_trace; then
    tap "rank $rank hangs: the job ends after dist.timeout" hangs $rank
  else
    tap_skip "rank $rank hangs: the job ends after dist.timeout" "this user may not trace processes"
  fi
done
for rank in 0 1; do tap "a slow rank $rank is named" slow $rank; done
finish
