#!/bin/bash
# test_profile.sh — mdlm profile: its bins add up to the bound of eval, the same bits on any number of ranks and after a
# stop, what each objective has, and bad input.
# limit: 120
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg
prepare && deck "$D" && ranks 1 train "$D" > "$T/log" || exit 1
ALL=(loss square tokens position frequency calibration residual @nll @ece @accuracy @confidence @prediction_entropy @tokens)
MASKS=(share distance)

# adds_up NAME [KEY=VALUE…]: train as these keys say, then eval and profile with the same rows and masks
adds_up() {
  local name=$1 run=(run.dir="$T/$1" "${@:2}")
  ranks 1 train "$D" "${run[@]}" > "$T/log" 2>&1 && ranks 1 eval "$D" "${run[@]}" eval.draws=3 > "$T/eval" &&
    ranks 1 profile "$D" "${run[@]}" eval.draws=3 > "$T/profile" || fail "$(cat "$T/log" "$T/eval" "$T/profile")" || return 1
  [[ $(tail -n 1 "$T/profile") == "$(tail -n 1 "$T/eval") accuracy="* ]] || fail "$(tail -n 1 "$T/eval" "$T/profile")" || return 1
  "$PY" tests/e2e/profile.py "$T/$name/eval.h5" "$T/$name/profile.h5" 3 "$([ "$name" = dimamba ] && echo 2 || echo 4)"
}
tap "subs: the bins add up to the bound of eval" adds_up subs
tap "subs, times, some of the rows" adds_up subs-time eval.estimator=time eval.sequences=40 eval.seed=9
tap "d3pm, which has two passes" adds_up d3pm diffusion.objective=d3pm diffusion.T=20
tap "sedd, whose output are scores" adds_up sedd diffusion.objective=sedd
tap "ar, without masks" adds_up ar model.name=ar diffusion.objective=ar
tap "dimamba" adds_up dimamba model.name=dimamba

# ---- ranks: many sequences, so that a group has several
LARGE=(eval.data="$T/train.h5" eval.batch=8)
whole() { ranks 1 profile "$D" "${LARGE[@]}" profile.output="$T/whole.h5"; }
tap "profile of the training data" whole
on_ranks() {
  ranks "$1" profile "$D" "${LARGE[@]}" profile.output="$T/on$1.h5" && same "$T/whole.h5" "$T/on$1.h5" "${ALL[@]}" "${MASKS[@]}"
}
for n in 2 3; do tap "the same bits on $n ranks" on_ranks $n; done
other_batch() {
  ranks 1 profile "$D" "${LARGE[@]}" eval.batch=5 profile.output="$T/batch.h5" &&
    same --close 1e-6 "$T/whole.h5" "$T/batch.h5" share/loss position/nll distance/entropy frequency/tokens
}
tap "the same up to rounding in other batches" other_batch

# ---- stop and go on
LONG=(eval.draws=24 eval.batch=1 profile.output="$T/stopped.h5")
stops() {
  local pid code=0
  start "$T/log" 1 profile "$D" "${LONG[@]}" eval.draws=100000
  pid=$!
  wait_for "$LIMIT" said "$T/log" '^profiling' && more "$pid" 5 && kill -TERM "$pid"
  ended "$pid" || code=$?
  cat "$T/log"
  [ "$code" = 75 ] && said "$T/log" '^stopped by SIGTERM: none of' && ! test -e "$T/stopped.h5"
}
tap "a stop within the first group: nothing is kept" stops
stops_later() {
  local pid code=0
  start "$T/log" 1 profile "$D" "${LARGE[@]}" "${LONG[@]}"
  pid=$!
  wait_for "$LIMIT" said "$T/log" '^profiling' && more "$pid" "$1" && kill -TERM "$pid"
  ended "$pid" || code=$?
  cat "$T/log"
  [ "$code" = 75 ] && said "$T/log" '^stopped by SIGTERM: [1-9][0-9]* of [0-9]+ sequences are kept in .*stopped.h5.part' &&
    test -e "$T/stopped.h5.part" && ! test -e "$T/stopped.h5"
}
goes_on() {
  ranks "$1" profile "$D" "${LARGE[@]}" "${LONG[@]}" > "$T/log" && said "$T/log" 'groups of sequences are in ' &&
    ranks 1 profile "$D" "${LARGE[@]}" "${LONG[@]}" profile.output="$T/straight.h5" > "$T/log" &&
    ! test -e "$T/stopped.h5.part" && same "$T/straight.h5" "$T/stopped.h5" "${ALL[@]}" "${MASKS[@]}" @variance_rows @variance_draws
}
tap "SIGTERM: what is finished is kept" stops_later 10
tap "it goes on to the end on 3 ranks: the same bits" goes_on 3

# ---- info
describes() {
  ranks 1 info "$T/whole.h5" > "$T/log" && cat "$T/log"
  for it in '^  nll ' '^  share of masked tokens' '^    0.9 to 1.0 ' '^    none is visible ' '^  calibration error' '^  rms of the residual stream' '^  whole:'; do
    grep -qE "$it" "$T/log" || fail "no line $it" || return 1
  done
  ranks 1 info "$T/ar/profile.h5" > "$T/log" && ! grep -E 'masked tokens|visible' "$T/log" && grep -E '^  calibration error' "$T/log"
}
tap "info shows the tables" describes

# ---- bad input
RANKS="1 2" KEEP=$T/run LOOSE=()
bad "no checkpoint" 'nowhere holds no checkpoint' profile "$D" run.dir="$T/nowhere"
bad "no data" 'set eval.data or data.valid' profile "$D" data.valid=
RANKS=1
bad "an output that is another file" 'last.h5 exists and is not a mdlm-profile file' profile "$D" profile.output="$T/run/last.h5"
bad "nowhere to write" 'none/profile.h5' profile "$D" profile.output="$T/none/profile.h5"
bad "the estimator does not fit" 'estimator = count needs' profile "$D" run.dir="$T/sedd" diffusion.objective=sedd eval.estimator=count
"$PY" tests/e2e/spoil.py "$T/train.h5" "$T/run/last.h5" "$T/bad" || exit 1
bad "weights with NaN" 'ckpt_nan.h5.*nan|output is NaN' profile "$D" eval.checkpoint="$T/bad/ckpt_nan.h5"
head -c $(($(stat -c %s "$T/whole.h5") / 2)) "$T/whole.h5" > "$T/half.h5"
bad "info of one that is cut short" 'half.h5' info "$T/half.h5"
"$PY" -c 'import h5py, shutil, sys
shutil.copy(sys.argv[1], sys.argv[2])
with h5py.File(sys.argv[2], "r+") as f:
    del f["share/nll"]' "$T/whole.h5" "$T/less.h5"
bad "info of one that lacks a data set" 'less.h5.*share/nll' info "$T/less.h5"
finish
