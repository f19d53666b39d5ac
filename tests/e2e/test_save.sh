#!/bin/bash
# test_save.sh — checkpoints that a thread writes while training goes on: kills in the middle of a write, files that
# cannot be written for a while, numbered checkpoints, saves by time; and that one rank of a node reads on resume.
# limit: 300
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
RANDOM=5 # fixed seed for the times of the kills
STATE=(params ema adam_m adam_v @step @tokens @masked_tokens)
prepare && deck "$T/deck.cfg" || exit 1

job() { # NAME KEY=VALUE…: arguments of a run in $T/NAME
  echo train "$T/deck.cfg" run.dir="$T/$1" train.micro_batch=4 data.valid= "${@:2}"
}
train() { # NAME N KEY=VALUE…: train on N ranks
  # shellcheck disable=SC2046
  ranks "$2" $(job "$1" "${@:3}")
}
begin() { # NAME KEY=VALUE…: train on one rank in the background, log in $T/NAME.log
  # shellcheck disable=SC2046
  start "$T/$1.log" 1 $(job "$@")
}
same_state() { # FILE FILE
  same "$1" "$2" "${STATE[@]}" and "$1" "$2" metrics/train --rows
}
saved_step() { # FILE
  "$MDLM" info "$1" | sed -n 's/.*checkpoint at step \([0-9]*\),.*/\1/p'
}
valid_files() { # NAME: whether every checkpoint of the run is whole
  local it
  for it in "$T/$1"/*.h5; do "$MDLM" info "$it" || fail "$it is damaged" || return 1; done
}

# ---- numbered checkpoints

tap "numbered checkpoints" train numbered 1 train.keep_every=2 train.save_every=0
numbers() { [ "$(cd "$T/numbered" && echo step-*)" = "step-0000002.h5 step-0000004.h5 step-0000006.h5" ]; }
tap "one every so many steps" numbers
for n in 2 4; do
  tap "a run of $n steps" train short$n 1 train.steps=$n
  tap "the numbered checkpoint of step $n is its last one" \
    same_state "$T/numbered/step-000000$n.h5" "$T/short$n/last.h5"
done
tap "eval of a numbered checkpoint" ranks 1 eval "$T/deck.cfg" eval.checkpoint="$T/numbered/step-0000002.h5" \
  eval.output="$T/eval.h5"
from_number() {
  mkdir "$T/branch" && cp "$T/numbered/step-0000002.h5" "$T/branch/last.h5" && train branch 1 &&
    same_state "$T/branch/last.h5" "$T/numbered/last.h5"
}
tap "a run goes on from a numbered checkpoint" from_number
never() { # numbered checkpoints alone are a run, too
  mkdir "$T/never" && cp "$T/numbered/step-0000004.h5" "$T/never"
  train never 1 run.resume=never > "$T/out" 2> "$T/err"
  one_line "$T/err" 'run.dir = .*never holds a checkpoint' 1 && [ ! -e "$T/never/last.h5" ]
}
tap "run.resume = never refuses numbered checkpoints" never

# ---- saves by time

by_time() {
  begin timed train.save_every=0 train.save_minutes=0.001 train.steps=1000000
  local pid=$! first
  wait_for "$LIMIT" test -e "$T/timed/last.h5" || fail "no checkpoint" || return 1
  first=$(saved_step "$T/timed/last.h5")
  wait_for "$LIMIT" test -e "$T/timed/previous.h5" || fail "no second checkpoint" || return 1
  touch "$T/timed/STOP"
  exits 75 ended "$pid" && [ "$first" -gt 0 ] && [ "$(saved_step "$T/timed/last.h5")" -gt "$first" ]
}
tap "saves by time" by_time

# ---- a stop at the end of a step, the only place for it if a step is one micro-batch

once() { # NAME SAVE_EVERY FILE: stopped when FILE is there, it saves its last step once, so not in previous.h5, too
  local pid last
  begin "$1" train.save_every="$2" train.keep_every=3 train.micro_batch=8 train.steps=1000000 train.log_every=1000000
  pid=$!
  wait_for "$LIMIT" test -e "$T/$1/$3" && touch "$T/$1/STOP" && exits 75 ended "$pid" || return 1
  last=$(saved_step "$T/$1/last.h5")
  grep "at step $last; the state is saved" "$T/$1.log" || return 1
  [ ! -e "$T/$1/previous.h5" ] || [ "$(saved_step "$T/$1/previous.h5")" -lt "$last" ] || fail "saved twice"
}
tap "a stop saves the state once" once unsaved 0 step-0000003.h5
tap "a stop at a step that is saved anyway saves it once" once saved 1 previous.h5

# ---- kills: a network whose files take as long to write as several steps

WIDE=(model.width=256 model.heads=4 train.steps=12 train.save_every=2 train.keep_every=3)
tap "a run without a kill" train whole 1 "${WIDE[@]}"
tap "it leaves no draft" test -z "$(find "$T/whole" -name '*.tmp')"
did() { [ "$(grep -c '^step [0-9]*/' "$T/$1.log")" -ge "$2" ]; }
midway() { [ -n "$(find "$T/$1" -name '*.h5.tmp' -size +20k)" ]; }
killed() { # NAME: SIGKILL in the middle of a write, at a random moment of it
  local pid steps=$((3 + RANDOM % 6))
  begin "$1" "${WIDE[@]}" train.steps=1000000
  pid=$!
  wait_for "$LIMIT" did "$1" "$steps" && wait_for "$LIMIT" midway "$1" || fail "no write was seen" || return 1
  sleep "0.0$((RANDOM % 3))$((RANDOM % 10))"
  kill -KILL "$pid"
  ended "$pid"
  valid_files "$1"
}
goes_on() { # NAME: the killed run, resumed to the step of a run without a kill
  local step
  step=$(($(saved_step "$T/$1/last.h5") + 2))
  train "$1" 1 "${WIDE[@]}" train.steps="$step" train.keep_every=0 && train "$1-whole" 1 "${WIDE[@]}" train.steps="$step" &&
    same_state "$T/$1/last.h5" "$T/$1-whole/last.h5"
}
for n in 1 2 3; do
  tap "kill $n: every checkpoint is whole" killed killed$n
  tap "kill $n: resumed, the same state as without" goes_on killed$n
done

# ---- files above the size limit, which is raised later

LIMITED=("${WIDE[@]}" train.log_every=1000000)
begin_limited() { # NAME KEY=VALUE…
  : > "$T/$1.log"
  (
    ulimit -S -f 200
    # shellcheck disable=SC2046
    exec "$MDLM" $(job "$@") >> "$T/$1.log" 2>&1 < /dev/null
  ) &
  started+=($!)
}
room_again() {
  begin_limited room "${LIMITED[@]}" train.steps=1000000 train.keep_every=0
  local pid=$!
  wait_for "$LIMIT" grep -q '^warning: step 2 is not saved in last.h5: cannot write .*last.h5.tmp: File too large' \
    "$T/room.log" || fail "no warning" "$(cat "$T/room.log")" || return 1
  [ ! -e "$T/room/last.h5" ] || fail "there is a checkpoint" || return 1
  prlimit --pid "$pid" --fsize=unlimited: && wait_for "$LIMIT" test -e "$T/room/last.h5" || return 1
  touch "$T/room/STOP"
  exits 75 ended "$pid" && valid_files room && ! grep '^mdlm: error' "$T/room.log"
}
tap "a checkpoint that fails is written at the next save" room_again
last_fails() {
  local code=0
  begin_limited fails "${LIMITED[@]}" train.keep_every=0 || return 1
  ended $! || code=$?
  [ "$code" = 4 ] || fail "exit code $code" || return 1
  grep -q '^warning: step' "$T/fails.log" && one_line "$T/fails.log" 'cannot write .*/last.h5.tmp: File too large' 1
}
tap "a run whose last save fails ends with an error" last_fails
twice() {
  local code=0
  begin_limited twice "${LIMITED[@]}" train.save_every=0 train.steps=1000000 || return 1
  ended $! || code=$?
  [ "$code" = 4 ] || fail "exit code $code" || return 1
  one_line "$T/twice.log" 'step 3: cannot write .*/step-0000003.h5.tmp: File too large' 1
}
tap "a numbered checkpoint that fails twice ends the run" twice
diverges() { # no save comes after the last one
  local code=0 step log=$T/diverges.log
  begin_limited diverges "${LIMITED[@]}" train.save_every=1 train.keep_every=0 train.steps=100 train.warmup=0 \
    train.lr=1e3 train.weight_decay=10 || return 1
  ended $! || code=$?
  [ "$code" = 9 ] || fail "exit code $code" || return 1
  one_line "$log" 'step [0-9]+: the (loss|gradient.s norm) is' 1 || return 1
  step=$(sed -n 's/^mdlm: error: step \([0-9]*\):.*/\1/p' "$log")
  [ "$(grep -c "^warning: step $step is not saved in last.h5: .*: File too large$" "$log")" = 1 ] || fail "no warning"
}
tap "a run that ends by another error tells of the checkpoint that failed" diverges

# ---- resuming

# one_reader: rank 0 starts in a folder with the run, the other rank in one without
one_reader() {
  mkdir "$T/here" "$T/there" && cp -r "$T/short4" "$T/here/run" || return 1
  # shellcheck disable=SC2016 # each rank expands its variables
  (cd "$T" && timeout "$LIMIT" mpirun -n 2 bash -c \
    '[ "$OMPI_COMM_WORLD_RANK" = 0 ] && cd here || cd there; exec "$@"' _ \
    "$MDLM" train "$T/deck.cfg" run.dir=run train.micro_batch=4 data.valid=) &&
    same_state "$T/here/run/last.h5" "$T/numbered/last.h5" && [ -z "$(ls "$T/there")" ]
}
tap "one rank of a node reads the checkpoint for all" one_reader
finish
