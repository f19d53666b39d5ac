#!/bin/bash
# test_stop.sh — commands that are stopped by a signal end after the current pass of the network with code 75, and go on
# from what they have finished, also on another number of ranks, to the bits of an uninterrupted run.
#
# When a run is stopped is told by its lock, by a line of its log and by shares of the CPU time of the uninterrupted run,
# so that it does not depend on the processor, nor on what else runs.
# limit: 120
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg
WIDE='model: { width = 128; blocks = 4; heads = 2; cond_dim = 16; };'
prepare && deck "$D" && sed -i "s/^model:.*/$WIDE/" "$D" || exit 1
M=$("$PY" -c 'import h5py, sys; print(h5py.File(sys.argv[1])["vocab"].attrs["mask"])' "$T/train.h5") || exit 1
"$PY" tests/e2e/logits.py make "$T/in.h5" 600 32 300 "$M" || exit 1
ranks 1 train "$D" > "$T/log" && ranks 1 train "$D" run.dir="$T/judge" model.name=ar diffusion.objective=ar > "$T/log" ||
  exit 1

# Signals that a shell ignores in what it starts in the background reach the program; HUP=ignore is what nohup does. With
# PENDING=SIGNAL that signal waits for the program when it starts.
starter='import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_IGN if os.environ.get("HUP") == "ignore" else signal.SIG_DFL)
if "PENDING" in os.environ:
    number = signal.Signals["SIG" + os.environ["PENDING"]]
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    os.kill(os.getpid(), number)
os.execvp(sys.argv[1], sys.argv[1:])'

# launch LOG N ARGUMENT…: start mdlm on N ranks in the background; $pid
launch() {
  local with=()
  [ "$2" -gt 1 ] && with=(mpirun -n "$2")
  : > "$1"
  "$PY" -I -S -c "$starter" "${with[@]}" "$MDLM" "${@:3}" >> "$1" 2>&1 < /dev/null &
  pid=$!
  started+=("$pid")
}

# blocks PID SIGNAL-NUMBER: whether that process of mdlm holds the signal back, to look for it between passes
blocks() {
  [ "$(cat "/proc/$1/comm")" = mdlm ] &&
    [ $((0x$(sed -n 's/^SigBlk:[[:space:]]*//p' "/proc/$1/status") >> ($2 - 1) & 1)) = 1 ]
}
frees() { ! blocks "$@"; }

# part_of NAME: wait until $pid has used a seventh of the CPU time of the uninterrupted run NAME
part_of() { more "$pid" $(($(cat "$T/ticks-$1") / 7)); }

# timed NAME COMMAND…: run the command; its CPU time in units of 10 ms goes to $T/ticks-NAME
timed() {
  local TIMEFORMAT='%U %S'
  { time "${@:2}" > "$T/log" 2>&1; } 2> "$T/time" || fail "$(cat "$T/log")" || return 1
  awk '{ print int(100 * ($1 + $2)) }' "$T/time" | tee "$T/ticks-$1"
}

# ends_with CODE LOG: whether $pid ends with that code
ends_with() {
  local code=0
  ended "$pid" || code=$?
  cat "$2"
  [ "$code" = "$1" ] || fail "exit code $code"
}

# ---- eval, sample, score, logits: a command in one batch a sequence, so that a stop finds some of them finished

declare -A output=([eval]=eval.h5 [sample]=samples.h5 [score]=score.h5 [logits]=logits.h5)
declare -A units=([eval]=sequences [sample]=samples [score]=windows [logits]=sequences)
declare -A same_sets=([eval]='loss square tokens @nll @nll_low @nll_high @tokens' [sample]='tokens entropy text'
  [score]='loss tokens entropy @nll @nll_low @nll_high @entropy' [logits]='logits log_p')
declare -A keys=([eval]="eval.batch=1 eval.draws=16" [sample]="sample.batch=1 sample.count=30 sample.steps=40"
  [score]="score.batch=1 score.input=$T/train.h5 score.checkpoint=$T/judge/last.h5"
  [logits]="logits.batch=1 logits.input=$T/in.h5 logits.log_p=true")

arguments() { # COMMAND NAME: those that write $T/NAME; $line
  # shellcheck disable=SC2206
  line=("$1" "$D" "$1.output=$T/$2" ${keys[$1]})
}

# whole COMMAND: the uninterrupted run
whole() {
  arguments "$1" "whole-${output[$1]}"
  timed "$1" ranks 1 "${line[@]}" && ! test -e "$T/whole-${output[$1]}.part" && ! test -e "$T/whole-${output[$1]}.lock"
}

# stops COMMAND SIGNAL FILE [FROM]: stopped after a part of its work, it keeps what is finished beside $T/FILE; it goes
# on from $T/FROM.part
stops() {
  arguments "$1" "$3"
  [ -z "${4:-}" ] || cp "$T/$4.part" "$T/$3.part" || return 1
  launch "$T/log" 1 "${line[@]}"
  wait_for "$LIMIT" test -e "$T/$3.lock" && part_of "$1" || fail "it does not start: $(cat "$T/log")" || return 1
  kill "-$2" "$pid"
  ends_with 75 "$T/log" || return 1
  [ -z "${4:-}" ] || said "$T/log" "^[0-9]+ of [0-9]+ ${units[$1]} are in $T/$3.part$" || return 1
  said "$T/log" "^stopped by SIG$2: [1-9][0-9]* of [0-9]+ ${units[$1]} are kept in $T/$3.part; run the same command" &&
    test -e "$T/$3.part" && ! test -e "$T/$3" && ! test -e "$T/$3.tmp" && ! test -e "$T/$3.lock"
}

# goes_on COMMAND FILE N: the same command ends on N ranks with the results of the uninterrupted run
goes_on() {
  arguments "$1" "on$3-$2"
  cp "$T/$2.part" "$T/on$3-$2.part" || return 1
  ranks "$3" "${line[@]}" > "$T/log" 2>&1 || fail "$(cat "$T/log")" || return 1
  cat "$T/log"
  said "$T/log" "^[1-9][0-9]* of [0-9]+ ${units[$1]} are in " && ! test -e "$T/on$3-$2.part" || return 1
  # shellcheck disable=SC2086
  same "$T/whole-${output[$1]}" "$T/on$3-$2" ${same_sets[$1]}
}

declare -A on=([eval]="1 3" [sample]=2 [score]=3 [logits]=1)
for it in eval sample score logits; do
  tap "$it, uninterrupted" whole $it
  tap "$it: SIGTERM" stops $it TERM term-$it.h5
  [ $it = eval ] && signals="USR1 INT HUP" || signals=HUP
  for signal in $signals; do tap "$it goes on: SIG$signal" stops $it "$signal" "$signal-$it.h5" "term-$it.h5"; done
  for n in ${on[$it]}; do tap "$it goes on to the end on $n rank(s): the same bits" goes_on $it HUP-$it.h5 "$n"; done
done

# Killed while it goes on, logits still has what it had before.
logits_killed() {
  arguments logits killed.h5
  cp "$T/term-logits.h5.part" "$T/killed.h5.part" && launch "$T/log" 1 "${line[@]}"
  wait_for "$LIMIT" said "$T/log" 'sequences are in' && part_of logits && kill -KILL "$pid" && ! ended "$pid" || return 1
  cp "$T/killed.h5.part" "$T/again.h5.part" && goes_on logits again.h5 1
}
tap "logits, killed while it goes on: what was finished before is there" logits_killed

nohup_stays() {
  arguments eval nohup.h5
  HUP=ignore launch "$T/log" 1 "${line[@]}" eval.draws=2
  wait_for "$LIMIT" blocks "$pid" 15 && kill -HUP "$pid" && frees "$pid" 1 && ends_with 0 "$T/log"
}
tap "a SIGHUP that is ignored, as under nohup, stops nothing" nohup_stays

# of_rank RANK: its process, one of $pids
of_rank() { (cd /proc && grep -lz "^OMPI_COMM_WORLD_RANK=$1\$" "${pids[@]/%//environ}" | cut -d/ -f1); }

# Rank 0 has seen the first Ctrl-C and waits for rank 1, which does not run.
second_interrupt() {
  local first second pids
  arguments eval twice.h5
  launch "$T/log" 2 "${line[@]}" eval.draws=1000000
  wait_for "$LIMIT" said "$T/log" '^evaluating' || return 1
  read -r -a pids <<< "$(rank_pids "$pid" | tr '\n' ' ')"
  first=$(of_rank 0) second=$(of_rank 1)
  more "$first" 30 && more "$second" 30 && kill -STOP "$second" || return 1 # both are inside a sequence
  blocks "$first" 2 && kill -INT "$first" && wait_for "$LIMIT" frees "$first" 2 || fail "the first one is not seen" || return 1
  gone "$first" && fail "the first one has ended it" && return 1
  kill -INT "$first"
  wait_for "$LIMIT" gone "$first" || fail "it lives on" || return 1
  ! ended "$pid"
}
tap "a second Ctrl-C ends the process at once" second_interrupt

LARGE=eval.data=$T/train.h5 # several times as many sequences

# mpirun passes SIGTERM on after 3 s, and kills after 3 more: slurm/README.md.
mpirun_stops() {
  arguments eval term.h5
  OMPI_MCA_odls_base_sigkill_timeout=3 launch "$T/log" 2 "${line[@]}" "$LARGE" eval.draws=100
  wait_for "$LIMIT" said "$T/log" '^evaluating' && kill -TERM "$pid" || return 1
  ended "$pid" && fail "exit code 0" && return 1
  cat "$T/log"
  said "$T/log" "^stopped by SIGTERM: [1-9][0-9]* of [0-9]* sequences are kept" && test -e "$T/term.h5.part"
}
tap "SIGTERM to mpirun, which waits: what is finished is kept" mpirun_stops

another_computation() {
  arguments eval other.h5
  cp "$T/term-eval.h5.part" "$T/other.h5.part"
  ranks 1 "${line[@]}" eval.draws=2 > "$T/log" 2>&1 || fail "$(cat "$T/log")" || return 1
  cat "$T/log"
  said "$T/log" 'warning: .*other.h5.part is of another computation: eval.draws = 16, here eval.draws = 2; all is' &&
    ! test -e "$T/other.h5.part"
}
tap "unfinished work of another computation: a warning names the difference" another_computation

cut_short() {
  arguments "$1" "cut-$1.h5"
  head -c $(($(stat -c %s "$T/term-$1.h5.part") / 2)) "$T/term-$1.h5.part" > "$T/cut-$1.h5.part"
  ranks 1 "${line[@]}" > "$T/log" 2>&1 || fail "$(cat "$T/log")" || return 1
  cat "$T/log"
  # shellcheck disable=SC2086
  said "$T/log" "warning: .*cut-$1.h5.part.*all is computed anew" && ! test -e "$T/cut-$1.h5.part" &&
    same "$T/whole-${output[$1]}" "$T/cut-$1.h5" ${same_sets[$1]}
}
for it in eval logits; do tap "$it: unfinished work that is cut short is computed anew" cut_short $it; done

# A second job on 1 or on 2 ranks is refused while the first is there, which is not disturbed.
two_jobs() {
  local code n
  arguments eval both.h5
  launch "$T/log" 1 "${line[@]}" "$LARGE"
  wait_for "$LIMIT" said "$T/log" '^evaluating' && kill -STOP "$pid" || return 1
  for n in 1 2; do
    code=0
    ranks "$n" "${line[@]}" > "$T/second" 2>&1 || code=$?
    cat "$T/second"
    [ "$code" = 10 ] || [ "$n $code" = "2 1" ] || fail "exit code $code" || return 1 # either rank's
    said "$T/second" "error.*both.h5 is being written by another job .*process $pid" || return 1
  done
  kill -CONT "$pid" && part_of eval && kill -TERM "$pid"
  ends_with 75 "$T/log" && ! test -e "$T/both.h5.lock"
}
tap "a second job on the same output is refused" two_jobs

# ---- train

# train_line NAME [KEY=VALUE…]: the arguments of a run in $T/NAME whose steps have many micro-batches and whose validation
# is long; $line
train_line() {
  line=(train "$D" run.dir="$T/$1" data.valid="$T/train.h5" train.steps=2 train.global_batch=48 train.micro_batch=1
    train.valid_every=1 train.save_every=1 "${@:2}")
}

train() { # NAME N [KEY=VALUE…]: to the end
  train_line "$1" "${@:3}"
  ranks "$2" "${line[@]}" > "$T/$1.log" 2>&1 || fail "$(cat "$T/$1.log")"
}

same_run() { # NAME
  same "$T/calm/last.h5" "$T/$1/last.h5" params ema adam_m adam_v @step @tokens @masked_tokens @valid_nll \
    and "$T/calm/best.h5" "$T/$1/best.h5" params ema @step @valid_nll \
    and "$T/calm/last.h5" "$T/$1/last.h5" metrics/train metrics/valid --rows \
    and "$T/calm/metrics.h5" "$T/$1/metrics.h5" train valid --rows
}

at_step() { "$MDLM" info "$T/$1/${3:-last.h5}" | grep "checkpoint at step $2,"; } # NAME STEP [FILE]

# stops_train NAME SIGNAL STEP [PATTERN]: stopped a moment after that line, or, without a pattern, as soon as it can be,
# at that step
stops_train() {
  train_line "$1"
  if [ -z "${4:-}" ]; then
    PENDING=$2 launch "$T/$1.log" 1 "${line[@]}"
  else
    launch "$T/$1.log" 1 "${line[@]}"
    moment_after "$1" "$4" && kill "-$2" "$pid" || return 1
  fi
  ends_with 75 "$T/$1.log" && said "$T/$1.log" "^stopped by SIG$2 at step $3; " && at_step "$1" "$3"
}

# moment_after NAME PATTERN: wait for the line, and for a fraction of the time of a step or a validation
moment_after() {
  wait_for "$LIMIT" said "$T/$1.log" "$2" || fail "no line $2: $(cat "$T/$1.log")" || return 1
  more "$pid" $(($(cat "$T/ticks-calm") / 20))
}

# complete NAME N VALIDATIONS: the same command ends, after so many validations, in the state of the uninterrupted run
complete() {
  train "$1" "$2" || return 1
  cat "$T/$1.log"
  [ "$(grep -c 'validation nll .*sequences' "$T/$1.log")" = "$3" ] && said "$T/$1.log" '^complete at step 2; best' &&
    same_run "$1"
}

# complete_again NAME N: once more it changes nothing
complete_again() {
  sums "$T/$1" metrics.h5 deck.cfg > "$T/before"
  train "$1" "$2" && ! grep 'validation nll .*sequences' "$T/$1.log" &&
    sums "$T/$1" metrics.h5 deck.cfg | diff "$T/before" - && same_run "$1"
}

# in_last_validation: stopped there, after a step that follows a validation which is not repeated
in_last_validation() { stops_train last INT 2 '^step 2/' && ! grep '^step 1  validation' "$T/last.log"; }

tap "train, uninterrupted" timed calm train calm 1
tap "train: SIGINT before the first step" stops_train inside INT 0
tap "train: SIGTERM inside the first step" stops_train inside TERM 0 '^run '
cp -r "$T/inside" "$T/valid"
tap "it goes on on 2 ranks to the same run" complete inside 2 2
tap "once more it changes nothing" complete_again inside 2
tap "train: SIGUSR1 in a validation, which is given up" stops_train valid USR1 1 '^step 1/'
cp -r "$T/valid" "$T/last"
tap "it goes on on 4 ranks to the same run" complete valid 4 2
tap "train: SIGHUP inside the second step" stops_train last HUP 1 '^step 1  validation'
tap "train: SIGINT in the last validation" in_last_validation
tap "it goes on to that validation and is complete" complete last 1 1

# Without checkpoints between, the state before a long validation is saved.
killed_in_validation() {
  train_line killed train.save_every=0
  launch "$T/killed.log" 1 "${line[@]}"
  wait_for "$LIMIT" said "$T/killed.log" '^step 1/' && wait_for "$LIMIT" test -e "$T/killed/last.h5" || return 1
  kill -KILL "$pid" && ! ended "$pid" && at_step killed 1 && complete killed 1 2
}
tap "train: killed in a long validation, it loses nothing" killed_in_validation

# A state that is saved before the last validation, and again after it, is also in previous.h5.
saved_before() { # NAME STEP KEY=VALUE…: before the last validation, at that step
  train "$1" 1 train.steps="$2" train.save_every=0 "${@:3}" && cat "$T/$1.log" && at_step "$1" "$2" &&
    at_step "$1" "$2" previous.h5
}
tap "train: the state is saved before the second long validation, too" saved_before valids 2 train.global_batch=1 \
  train.log_every=2
counts_steps() { # of one row of two steps with a validation between; step_median is the mean on one rank
  "$PY" - "$T/valids/metrics.h5" << 'PYTHON'
import sys, h5py
with h5py.File(sys.argv[1]) as f:
    tokens, rate, step = (f["train"][name][()] for name in ("tokens", "tokens_per_s", "step_median"))
    print(tokens, rate, step)
    sys.exit(0 if len(step) == 1 and tokens[0] / rate[0] >= 2 * step[0] else 1)
PYTHON
}
tap "train: tokens per second count the steps before a validation, too" counts_steps
tap "train: the time between saves is train.save_minutes at most" saved_before minutes 1 train.save_minutes=1e-9 \
  train.valid_sequences=1
finish
