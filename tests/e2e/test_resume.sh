#!/bin/bash
# test_resume.sh — a run that was killed, stopped or damaged and then resumed ends in the state of the uninterrupted
# run.
# limit: 300
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
SHORT=42  # steps
RANDOM=11 # fixed seed for the times of the kills
prepare && deck "$T/deck.cfg" || exit 1

train() { # NAME N STEPS [KEY=VALUE…]: train with the deck on N ranks in $T/NAME, up to STEPS
  ranks "$2" train "$T/deck.cfg" run.dir="$T/$1" train.micro_batch=1 train.valid_every=7 train.steps="$3" "${@:4}"
}

start_train() { # NAME N: the same in the background without an end, log in $T/NAME.log
  start "$T/$1.log" "$2" train "$T/deck.cfg" run.dir="$T/$1" train.micro_batch=1 train.valid_every=7 train.steps=1000000
}

# same_run A B: whether two runs ended in the same state with the same history, on disk and in the checkpoint
same_run() {
  same "$T/$1/last.h5" "$T/$2/last.h5" params ema adam_m adam_v @step @tokens @masked_tokens @valid_nll \
    and "$T/$1/best.h5" "$T/$2/best.h5" params ema @step \
    and "$T/$1/last.h5" "$T/$2/last.h5" metrics/train metrics/valid --rows \
    and "$T/$1/metrics.h5" "$T/$2/metrics.h5" train valid --rows
}

last_step() { # NAME: the last step in the log
  sed -n 's/^step \([0-9]*\)\/.*/\1/p' "$T/$1.log" | tail -n 1
}

saved_step() { # NAME [FILE]: that of its checkpoint
  "$MDLM" info "$T/$1/${2:-last.h5}" | sed -n 's/.*checkpoint at step \([0-9]*\),.*/\1/p'
}

did() { # NAME STEPS: whether the log shows at least that many steps
  [ "$(grep -c '^step [0-9]*/' "$T/$1.log")" -ge "$2" ]
}

# run_for NAME N STEPS: start or resume the run and wait until it has done that many steps, and a moment longer. $pid is
# the started process, $pids are the ranks.
run_for() {
  start_train "$1" "$2"
  pid=$!
  wait_for "$LIMIT" did "$1" "$3" || fail "not $3 steps" "$(tail "$T/$1.log")" || return 1
  sleep "0.0$((RANDOM % 4))$((RANDOM % 10))"
  read -r -a pids <<< "$(rank_pids "$pid" | tr '\n' ' ')"
  [ ${#pids[@]} = "$2" ] || fail "ranks: ${pids[*]}"
}

# killed NAME N WHO: kill all ranks, one of them or the launcher. The job must end, but not complete, and leave no
# process.
killed() {
  run_for "$1" "$2" $((1 + RANDOM % 8)) || return 1
  case $3 in
  all) kill -KILL "${pids[@]}" ;;
  one) kill -KILL "${pids[RANDOM % $2]}" ;;
  launcher) kill -KILL "$pid" ;;
  esac
  ended "$pid" && fail "exit code 0 after a kill" && return 1
  wait_for "$LIMIT" gone "${pids[@]}" || fail "a rank lives on" || return 1
  ! grep complete "$T/$1.log"
}

# terminated: on SIGTERM mpirun gives its ranks a second at most, whether they have saved or not, and uses its own exit
# code. The run must be resumable from the checkpoint that exists.
terminated() {
  local step
  OMPI_MCA_odls_base_sigkill_timeout=1 start_train terminated 2
  pid=$!
  wait_for "$LIMIT" test -e "$T/terminated/last.h5" || return 1
  kill -TERM "$pid"
  ended "$pid" && fail "exit code 0" && return 1
  step=$(saved_step terminated)
  train terminated 2 $((step + 1)) > "$T/out" && cat "$T/out" &&
    grep "^resuming from .*/last.h5 at step $step$" "$T/out"
}

rank_pid() { # RANK: its process id, one of $pids
  grep -lz "^OMPI_COMM_WORLD_RANK=$1\$" "${pids[@]/%//environ}" | cut -d/ -f1
}

# stopped NAME N SIGNAL WHOM: a signal ends the run with code 75 and a saved state
stopped() {
  local code=0
  run_for "$1" "$2" $((1 + RANDOM % 4)) || return 1
  case $4 in
  rank?) kill -"$3" "$(cd /proc && rank_pid "${4#rank}")" ;;
  process) kill -"$3" "$pid" ;; # mpirun passes SIGUSR1 on to the ranks
  file) touch "$T/$1/STOP" ;;
  esac
  ended "$pid" || code=$?
  rm -f "$T/$1/STOP"
  cat "$T/$1.log"
  [ "$code" = 75 ] || fail "exit code $code" || return 1
  grep -q "stopped by.*$3 at step $(last_step "$1");" "$T/$1.log" ||
    fail "the log does not say why it stopped" || return 1
  [ "$(saved_step "$1")" = "$(last_step "$1")" ]
}

# storm: thousands of signals while a step is computed. A handler must not run in the middle of a matrix product, whose
# kernels may use the stack pointer for other purposes. The saved state must equal that of a run with as many steps and
# without signals.
storm() {
  local wide=(model.width=64 train.global_batch=512) code=0
  start "$T/storm.log" 1 train "$T/deck.cfg" run.dir="$T/storm" train.micro_batch=8 train.save_every=0 \
    train.steps=1000 "${wide[@]}"
  pid=$!
  wait_for "$LIMIT" did storm 1 || return 1
  while kill -USR1 "$pid"; do :; done 2> /dev/null
  ended "$pid" || code=$?
  cat "$T/storm.log"
  [ "$code" = 75 ] || fail "exit code $code" || return 1
  train calm 1 "$(last_step storm)" train.micro_batch=8 train.save_every=0 "${wide[@]}" &&
    same "$T/storm/last.h5" "$T/calm/last.h5" params ema adam_m adam_v @step
}

spoil() { # FILE flip|cut: flip a bit in the middle, or cut off the second half
  local size at
  size=$(stat -c %s "$1") at=$((size / 2))
  case $2 in
  flip) "$PY" -c 'import sys; f = open(sys.argv[1], "r+b"); n = int(sys.argv[2]); f.seek(n); b = f.read(1)[0]; f.seek(n)
f.write(bytes([b ^ 4]))' "$1" "$at" ;;
  cut) truncate -s "$at" "$1" ;;
  esac
}

# fall_back NAME N HOW: a copy of $T/part with a damaged last.h5 resumes from previous.h5, prints a warning and ends in
# the same state. That is the save before the last one: at step 18, or where validations take long at 21, before the last
# validation.
fall_back() {
  local step
  step=$(saved_step part previous.h5)
  [ "$step" = 18 ] || [ "$step" = 21 ] || fail "previous.h5 is at step $step" || return 1
  cp -r "$T/part" "$T/$1" && spoil "$T/$1/last.h5" "$3"
  train "$1" "$2" "$SHORT" > "$T/$1.out" 2> "$T/$1.err" || fail "$(cat "$T/$1.err")" || return 1
  grep "^warning: .*$T/$1/last.h5" "$T/$1.err" || fail "no warning: $(cat "$T/$1.err")" || return 1
  grep "^resuming from $T/$1/previous.h5 at step $step$" "$T/$1.out" || fail "$(cat "$T/$1.out")" || return 1
  same_run short "$1"
}

# no_way_back N: with both checkpoints damaged there is an error that names the file, and no file is changed
no_way_back() {
  rm -rf "$T/both"
  cp -r "$T/part" "$T/both" && spoil "$T/both/last.h5" flip && spoil "$T/both/previous.h5" cut
  sums "$T/both" > "$T/before"
  train both "$1" "$SHORT" 2> "$T/both.err" && fail "exit code 0" && return 1
  sums "$T/both" | cmp - "$T/before" || return 1
  cat "$T/both.err"
  [ "$(grep -c '^mdlm: error.*/previous.h5' "$T/both.err")" -le "$1" ] &&
    grep -q '^mdlm: error.*/previous.h5' "$T/both.err"
}

refuses() { # PATTERN NAME N STEPS KEY=VALUE
  exits 2 train "${@:2}" 2> "$T/refused" > /dev/null || return 1
  cat "$T/refused"
  [ "$(grep -c 'mdlm: error' "$T/refused")" = 1 ] && grep -q "mdlm: error.*$1" "$T/refused"
}

# grown NAME N: a copy of $T/part goes on with a batch of 12 instead of 8
grown() { train "$1" "$2" 25 train.global_batch=12; }

# counted NAME N: with that number of sequences in its checkpoint, or none if N is "none", as in those of old versions
counted() {
  cp -r "$T/part" "$T/$1" && "$PY" - "$T/$1/last.h5" "$2" << 'PYTHON'
import sys
import h5py
with h5py.File(sys.argv[1], "r+") as f:
    assert f.attrs["sequences"] == 21 * 8
    del f.attrs["sequences"]
    if sys.argv[2] != "none":
        f.attrs["sequences"] = int(sys.argv[2])
PYTHON
}

sequences() { # NAME: in its checkpoint
  "$PY" -c 'import h5py, sys; print(h5py.File(sys.argv[1])["/"].attrs["sequences"])' "$T/$1/last.h5"
}

# The stream of data goes on where it stood, whatever the batch was. If the position were the step times the batch (252),
# rows would be skipped.
goes_on() {
  cp -r "$T/part" "$T/grown" && grown grown 2 && [ "$(sequences grown)" = $((21 * 8 + 4 * 12)) ]
}
same_data() { # NAME N: whether a run that resumes from N sequences ends as `grown` did
  counted "$1" "$2" && grown "$1" 3 && same_run grown "$1"
}
skips_data() { ! same_data skipped $((21 * 12)); }

says_complete() {
  cp "$T/short/last.h5" "$T/last" && train short "$1" "$SHORT" > "$T/out" || return 1
  cat "$T/out"
  grep -q "^complete at step $SHORT" "$T/out" && ! grep -q '^step' "$T/out" && cmp "$T/short/last.h5" "$T/last"
}

tap "the short run, uninterrupted" train short 1 "$SHORT"

# SIGKILL at random times, with changing numbers of ranks; with LONG=1 so many that the run begins again several times
rounds=("1 all" "2 all" "2 one" "4 one" "2 launcher" "1 all")
if [ "${LONG:-}" = 1 ]; then
  for _ in {1..48}; do rounds+=("$((1 << RANDOM % 3)) $([ $((RANDOM % 2)) = 0 ] && echo all || echo one)"); done
fi
for kill in "${rounds[@]}"; do
  # shellcheck disable=SC2086
  tap "killed (ranks, whom: $kill): the job ends" killed killed $kill
done
# stops with a saved state
for stop in "1 TERM process" "2 USR1 process" "2 USR1 rank1" "2 TERM rank0" "2 STOP file"; do
  # shellcheck disable=SC2086
  tap "stop (ranks, by, sent to: $stop): exit code 75, state saved" stopped stopped $stop
done

# Both go on for some steps; how many they have done depends on the processor.
kills=$(saved_step killed) stops=$(saved_step stopped)
LONG=$(((kills > stops ? kills : stops) + 10))
tap "a run without interruption" train long 1 "$LONG"
tap "the killed run completes" train killed 2 "$LONG"
tap "same weights bit for bit, same metrics, no row twice" same_run long killed
tap "the stopped run completes" train stopped 1 "$LONG"
tap "same weights bit for bit, same metrics" same_run long stopped

tap "save on 2 ranks" train part 2 21
for n in 1 4; do
  cp -r "$T/part" "$T/on$n"
  tap "resume on $n rank(s)" train "on$n" "$n" "$SHORT"
  tap "resumed on $n rank(s): the same run" same_run short "on$n"
done

tap "another train.global_batch: the data go on where they stood" goes_on
tap "a checkpoint without the number of sequences: its step and batch tell it" same_data old none
tap "another position in the data: another run" skips_data

tap "SIGTERM to mpirun: the job ends and can be resumed" terminated
tap "thousands of signals do not change the results" storm

tap "last.h5 with a flipped bit: resumes from previous.h5" fall_back flipped 1 flip
tap "last.h5 cut short: resumes from previous.h5, on 2 ranks" fall_back cut 2 cut
cp -r "$T/part" "$T/missing" && rm "$T/missing/last.h5"
tap "last.h5 missing: the run resumes" train missing 1 "$SHORT"
tap "last.h5 missing: the same state, from previous.h5" same_run short missing
for n in 1 2; do tap "both damaged, $n ranks: an error, no file changed" no_way_back $n; done

for n in 1 2; do
  tap "resuming a complete run prints that and changes nothing, $n ranks" says_complete $n
  tap "run.resume = never refuses a run, $n ranks" refuses 'run.dir = .*never' part $n "$SHORT" run.resume=never
  tap "run.resume = must refuses an empty directory, $n ranks" \
    refuses 'run.dir = .*must' empty $n "$SHORT" run.resume=must
done
tap "run.resume = never starts a run" train fresh 1 3 run.resume=never
tap "run.resume = must resumes a run" train part 1 24 run.resume=must
finish
