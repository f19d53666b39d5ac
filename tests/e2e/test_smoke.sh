#!/bin/bash
# test_smoke.sh — all decks: the small ones train, sample and evaluate, with the same weights on 1 and 2 ranks. The
# full-size ones have valid and consistent values, which a step at a small size shows.
# limit: 300
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
text 600 > "$T/text"
DATA=$T/data
decks() { for deck in "$1"/*.cfg; do basename "$deck" .cfg; done; }

smoke() { # RANKS: run all small decks, as `make smoke` does but with one thread, in $T/runs$RANKS
  KEYS=device.threads=1 BUILD=$(dirname "$MDLM") PY=$PY CORPUS=$T/text DATA=$DATA RUNS=$T/runs$1 RANKS=$1 input/smoke.sh > "$T/smoke$1"
}
all_done() { # RANKS
  local n
  n=$(decks input/smoke | wc -l)
  cat "$T/smoke$1"
  grep -x "smoke: $n of $n decks trained, sampled and evaluated" "$T/smoke$1"
}
evaluated() { # NAME: one line, the same bound on both numbers of ranks
  local line1 line2
  for n in 1 2; do grep "^$1 " "$T/smoke$n" || fail "no line of $1 on $n rank(s)" || return 1; done > "$T/lines"
  cat "$T/lines"
  line1=$(sed -n '1s/.*nll=/nll=/p' "$T/lines") line2=$(sed -n '2s/.*nll=/nll=/p' "$T/lines")
  [ -n "$line1" ] && [ "$line1" = "$line2" ]
}
same_results() { # NAME: weights and samples on both numbers of ranks
  same "$T/runs1/$1/last.h5" "$T/runs2/$1/last.h5" params ema adam_m adam_v @step @tokens @masked_tokens \
    and "$T/runs1/$1/samples.h5" "$T/runs2/$1/samples.h5" tokens
}

tap "smoke.sh on 1 rank" smoke 1
tap "smoke.sh on 2 ranks" smoke 2
for n in 1 2; do tap "every deck trains, samples and evaluates, $n rank(s)" all_done $n; done
for name in $(decks input/smoke); do
  tap "$name: same weights and samples on 1 and 2 ranks" same_results "$name"
  tap "$name: same bound on 1 and 2 ranks" evaluated "$name"
done

# a run with data.crop resumes with the same crops, also on another number of ranks and of threads
resumed() {
  local keys=(run.dir="$T/resumed" data.train="$DATA/smoke/text8_train.h5" data.valid="$DATA/smoke/text8_valid.h5")
  ranks 2 train input/smoke/text8_mdlm.cfg "${keys[@]}" train.steps=7 &&
    ranks 1 train input/smoke/text8_mdlm.cfg "${keys[@]}" || return 1
  same "$T/runs1/text8_mdlm/last.h5" "$T/resumed/last.h5" params ema adam_m adam_v
}
tap "data.crop: a run stopped on 2 ranks and resumed on 1 equals the uninterrupted run" resumed

# ---- decks at full size
small() { # NAME: check the deck with a small network, batch and data
  local data=$DATA/smoke/lm1b_
  [ "${1%%_*}" != text8 ] || data=$DATA/smoke/text8_
  ranks 1 check "input/$1.cfg" run.dir="$T/none" data.train="${data}train.h5" data.valid="${data}valid.h5" \
    model.width=16 model.blocks=1 model.heads=2 model.cond_dim=8 train.global_batch=4 train.micro_batch=2 \
    run.init= device.threads=1 > "$T/out" && grep '^check passed' "$T/out"
}
for name in $(decks input); do tap "input/$name.cfg at a small size" small "$name"; done
words() { sed 's/#.*//' "$2" | grep -o "$1[^}]*"; }
has_smoke() { # whether each recipe of the paper has a smoke deck with the same objective, network and conditioning
  local name key
  for name in $(decks input); do
    [ "$name" = demo ] && continue
    for key in 'objectives/' '  name = ' 'time_conditioning' 'crop'; do
      diff <(words "$key" "input/$name.cfg") <(words "$key" "input/smoke/$name.cfg") ||
        fail "$name: $key" || return 1
    done
  done
}
tap "each recipe has a smoke deck with the same network and objective" has_smoke
finish
