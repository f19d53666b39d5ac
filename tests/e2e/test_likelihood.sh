#!/bin/bash
# test_likelihood.sh — likelihoods without draws: of rows under a named order (eval.estimator = chain).
# limit: 90
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg
prepare && deck "$D" "eval: { batch = 5; sequences = 23; };" || exit 1
ranks 1 train "$D" > "$T/log" || exit 1

# ---- rows
chain=(eval.estimator=chain)
last_line() { ranks "$1" eval "$D" "${@:2}" 2> "$T/err" | tail -n 1; } # RANKS [KEY=VALUE…]
says() { grep -E "$1" <<< "$2"; }                                      # PATTERN TEXT

named() {
  local one
  one=$(last_line 1 "${chain[@]}" eval.output="$T/one.h5") && says ' estimator=chain draws=0 T=0 order=confidence commit=top_k ' "$one" &&
    says ' order=left_to_right commit=top_k ' "$(last_line 1 "${chain[@]}" eval.order=left_to_right eval.output="$T/left.h5")" &&
    says ' order=entropy commit=entropy_bound ' \
      "$(last_line 1 "${chain[@]}" eval.order=entropy eval.commit=entropy_bound eval.output="$T/bound.h5")" &&
    ranks 1 info "$T/left.h5" > "$T/log" && grep -E 'estimator_options +order=left_to_right commit=top_k' "$T/log"
}
tap "the result names estimator, order and rule" named
exact() { # no draws: neither their number nor the seed changes a bit; the interval of the rows is a point
  last_line 1 "${chain[@]}" eval.draws=3 eval.seed=9 eval.output="$T/seed.h5" > "$T/log" &&
    same "$T/one.h5" "$T/seed.h5" loss tokens square && ranks 1 info "$T/seed.h5" > "$T/log" && ! grep 'ci95 of the rows' "$T/log" &&
    "$PY" -c 'import sys, h5py; f = h5py.File(sys.argv[1]); assert f.attrs["draws"] == 0 and not f["square"][()].any()' "$T/one.h5"
}
tap "it has no draws" exact
on_ranks() {
  last_line 3 "${chain[@]}" eval.batch=4 eval.output="$T/three.h5" > "$T/log" &&
    same "$T/one.h5" "$T/three.h5" loss tokens @nll @nll_low @nll_high
}
tap "the same bits on 1 and 3 ranks, in batches of 5 and 4" on_ranks
stopped() {
  start "$T/log" 1 eval "$D" "${chain[@]}" eval.batch=1 eval.sequences=0 eval.data="$T/train.h5" eval.output="$T/stop.h5"
  local pid=$! code=0
  wait_for "$LIMIT" said "$T/log" '^evaluating' && more "$pid" 20 && kill -TERM "$pid" && ended "$pid" || code=$?
  cat "$T/log"
  [ "$code" = 75 ] && said "$T/log" '^stopped by SIGTERM: [1-9][0-9]* of ' && test -e "$T/stop.h5.part" || return 1
  ranks 2 eval "$D" "${chain[@]}" eval.sequences=0 eval.data="$T/train.h5" eval.output="$T/stop.h5" > "$T/log" &&
    said "$T/log" '^[1-9][0-9]* of [0-9]+ sequences are in ' || return 1
  ranks 1 eval "$D" "${chain[@]}" eval.sequences=0 eval.data="$T/train.h5" eval.output="$T/whole.h5" > "$T/log" &&
    same "$T/whole.h5" "$T/stop.h5" loss tokens @nll
}
tap "stopped, it goes on from the finished rows, to the same bits" stopped
orders_compared() { # exact values of the same rows may be compared whatever the order
  ranks 1 compare "$T/one.h5" "$T/left.h5" > "$T/log" && grep '^difference=' "$T/log"
}
tap "compare takes two orders" orders_compared
cells() { find "$T/sweep/cells" -name '*.h5' | wc -l; }
swept() {
  local key=("$D" sweep.dir="$T/sweep" "sweep.estimators=count,chain")
  ranks 2 sweep "${key[@]}" sweep.draws=1,2 sweep.seeds=1,2 > "$T/log" && grep -E ' chain +- ' "$T/log" && [ "$(cells)" = 5 ] || return 1
  ranks 1 sweep "${key[@]}" eval.order=left_to_right > "$T/log" && [ "$(cells)" = 7 ] || fail "$(cells) cells" || return 1
  for it in "$T"/sweep/cells/*.h5; do same "$it" "$T/left.h5" loss tokens > "$T/out" && return 0; done
  fail "no cell has the values of eval"
}
tap "a sweep has one cell an order, with the values of eval" swept

KEEP=$T/run LOOSE=()
RANKS="1 2"
bad "profile needs draws" 'eval.estimator = chain draws none' profile "$D" "${chain[@]}"
bad "a rule that compares no probability" 'eval.commit = threshold compares scores' eval "$D" "${chain[@]}" eval.commit=threshold eval.order=entropy
finish
