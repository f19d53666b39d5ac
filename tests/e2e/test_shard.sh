#!/bin/bash
# test_shard.sh — dist.shard_optimizer changes no bit of a run: on any number of ranks, resumed on other numbers and with
# or without it, killed in the middle of a save; and each rank holds its part of the state only.
# limit: 240
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
RANDOM=7 # fixed seed for the times of the kills
STATE=(params ema adam_m adam_v @step @tokens @masked_tokens @valid_nll)
prepare && deck "$T/deck.cfg" || exit 1
BATCH=(train.global_batch=24 train.micro_batch=2 train.valid_every=2)
ON=dist.shard_optimizer=true OFF=dist.shard_optimizer=false

train() { # NAME N KEY=VALUE…: train with the deck on N ranks in $T/NAME
  ranks "$2" train "$T/deck.cfg" run.dir="$T/$1" "${BATCH[@]}" "${@:3}"
}
# same_run A B: whether two runs ended in the same state, the same history and the same best checkpoint
same_run() {
  same "$T/$1/last.h5" "$T/$2/last.h5" "${STATE[@]}" && same "$T/$1/metrics.h5" "$T/$2/metrics.h5" train valid --rows &&
    same "$T/$1/best.h5" "$T/$2/best.h5" params ema adam_m adam_v @step
}
saved_step() { # FILE
  "$MDLM" info "$1" | sed -n 's/.*checkpoint at step \([0-9]*\),.*/\1/p'
}

tap "not divided, on 1 rank" train one 1
for n in 1 2 3 4 6; do
  tap "divided over $n" train "over$n" "$n" "$ON"
  tap "divided over $n: the bits of 1 rank" same_run one "over$n"
done

# ---- resuming

moved() {
  train moved 3 "$ON" train.steps=2 && train moved 2 "$OFF" train.steps=3 && train moved 4 "$ON" train.steps=5 &&
    train moved 1 "$ON"
}
same_moved() { same "$T/one/last.h5" "$T/moved/last.h5" params ema adam_m adam_v @step @tokens; }
tap "divided over 3, not divided on 2, divided over 4, on 1" moved
tap "resumed so: the bits of 1 rank" same_moved
quiet() { # KEY=VALUE…: what the resumed run says of the changed key
  rm -rf "$T/quiet" && train quiet 2 train.steps=2 "$@" && train quiet 2 train.steps=3 "$ON" "$@" > "$T/out" 2>&1
}
silent() { quiet && ! grep shard_optimizer "$T/out"; }
told() { quiet dist.reduce=fast && grep 'dist.shard_optimizer' "$T/out"; }
tap "a change of the key is not told, since it changes no bit" silent
tap "with dist.reduce = fast it is told" told

# ---- dist.reduce = fast: a sum of two numbers has one order

tap "fast on 2 ranks" train fast 2 dist.reduce=fast
tap "fast, divided over 2" train fast2 2 dist.reduce=fast "$ON"
tap "fast, divided over 2: the same bits" same_run fast fast2
tap "fast, divided over 3" train fast3 3 dist.reduce=fast "$ON"
tap "fast, divided over 3: close" same "$T/one/last.h5" "$T/fast3/last.h5" params ema --close 1e-3

# ---- stops and kills in a save: a network whose files take as long to write as several steps

WIDE=(model.width=256 model.heads=4 train.global_batch=8 train.micro_batch=4 data.valid= train.valid_every=0 train.save_every=2)
did() { [ "$(grep -c '^step [0-9]*/' "$T/$1.log")" -ge "$2" ]; }
midway() { [ -n "$(find "$T/$1" -name '*.h5.tmp' -size +20k)" ]; }
begin() { # NAME: a divided run on two ranks in the background
  start "$T/$1.log" 2 train "$T/deck.cfg" run.dir="$T/$1" "${BATCH[@]}" "${WIDE[@]}" "$ON" train.steps=1000000
}
valid_files() { # NAME: whether every checkpoint of the run is whole
  local it
  for it in "$T/$1"/*.h5; do "$MDLM" info "$it" || fail "$it is damaged" || return 1; done
}
killed() { # NAME: SIGKILL of a rank in the middle of a write
  local pid pids
  begin "$1"
  pid=$!
  wait_for "$LIMIT" did "$1" 3 && wait_for "$LIMIT" midway "$1" || fail "no write was seen" || return 1
  sleep "0.0$((RANDOM % 3))$((RANDOM % 10))"
  read -r -a pids <<< "$(rank_pids "$pid" | tr '\n' ' ')"
  kill -KILL "${pids[RANDOM % 2]}"
  ended "$pid" && fail "exit code 0 after a kill" && return 1
  wait_for 20 gone "${pids[@]}" || fail "a rank lives on" || return 1
  valid_files "$1"
}
stopped() { # NAME: a STOP file ends the run with its state saved
  begin "$1"
  local pid=$!
  wait_for "$LIMIT" did "$1" 3 || return 1
  touch "$T/$1/STOP"
  exits 75 ended "$pid" && valid_files "$1"
}
goes_on() { # NAME: not divided on 1 rank for two more steps, beside a run without an end
  local step
  step=$(($(saved_step "$T/$1/last.h5") + 2))
  train "$1" 1 "${WIDE[@]}" train.steps="$step" && train "$1-whole" 1 "${WIDE[@]}" train.steps="$step" &&
    same "$T/$1/last.h5" "$T/$1-whole/last.h5" params ema adam_m adam_v @step @tokens
}
for name in killed1 killed2 stopped; do
  tap "$name: every checkpoint is whole" "${name%[0-9]}" "$name"
  tap "$name: goes on elsewhere with the bits of a whole run" goes_on $name
done

# ---- memory: AdamW's moments, then the average

LARGE=(model.width=512 model.heads=4 model.blocks=1 train.global_batch=12 train.micro_batch=1) # enough MiB to divide
memory() { # N KEY=VALUE…: what a rank holds, in MiB, "AdamW EMA"
  ranks "$1" check "$T/deck.cfg" run.dir="$T/none" "${BATCH[@]}" "${LARGE[@]}" "${@:2}" |
    sed -n 's/^memory of a rank.* AdamW \([0-9]*\), EMA \([0-9]*\),.*/\1 \2/p'
}
divided_memory() {
  local whole m e
  read -r -a whole <<< "$(memory 2 "$OFF")"
  echo "whole: ${whole[*]}"
  for n in 2 3; do
    read -r m e <<< "$(memory "$n" "$ON")"
    echo "over $n: $m $e"
    [ $((m * n - whole[0])) -le "$n" ] && [ $((whole[0] - m * n)) -le "$n" ] && [ "$m" -gt 0 ] &&
      [ $((e * n - whole[1])) -le "$n" ] && [ $((whole[1] - e * n)) -le "$n" ] || return 1
  done
}
tap "mdlm check: state divided by the number of ranks" divided_memory
planned() { # the memory that a plan predicts for 4 ranks of a node, beside that of 1
  ranks 1 check "$T/deck.cfg" run.dir="$T/none" "${BATCH[@]}" "${LARGE[@]}" plan.ranks=4 plan.per_node=8 "$1" |
    tee "$T/out" | awk '/^ +[14] +1 / { m[$1] = $7 } END { print m[1] - m[4] }'
}
predicted() {
  local off on adam ema
  off=$(planned "$OFF") on=$(planned "$ON") && cat "$T/out"
  read -r adam ema <<< "$(memory 1 "$OFF")"
  echo "saved: $off MiB without, $on MiB with the key; state $adam + $ema MiB"
  [ $((4 * (on - off) - 3 * (adam + ema))) -le 12 ] && [ $((3 * (adam + ema) - 4 * (on - off))) -le 12 ]
}
tap "mdlm check: a plan predicts the memory that is saved" predicted
finish
