#!/bin/bash
# test_curriculum.sh — the curriculum of uniform noise (diffusion.time = gaussian, diffusion.input_temperature): the same bits
# on any number of ranks, killed and resumed, and with several draws; training goes on without it; what is refused.
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
STATE=(params ema adam_m adam_v @step @tokens @masked_tokens)
D=$T/deck.cfg
prepare && deck "$D" || exit 1
UNIFORM=(diffusion.objective=uniform model.time_conditioning=true)
GAUSSIAN=("${UNIFORM[@]}" diffusion.time=gaussian diffusion.gamma_low=-2.5 diffusion.gamma_high=-0.5 diffusion.input_temperature=0.01)

train() { # NAME N [KEY=VALUE…]: train in $T/NAME on N ranks
  ranks "$2" train "$D" run.dir="$T/$1" "${GAUSSIAN[@]}" "${@:3}"
}
tap "train on 1 rank" train one 1
same_run() {
  train "$1" "$2" && same "$T/one/last.h5" "$T/$1/last.h5" "${STATE[@]}" and "$T/one/metrics.h5" "$T/$1/metrics.h5" train valid --rows
}
tap "2 ranks: the same bits" same_run two 2
tap "4 ranks: the same bits" same_run four 4
resumed() {
  train_killed "$T/killed" "$D" "${GAUSSIAN[@]}" && train killed 2 && same "$T/one/last.h5" "$T/killed/last.h5" "${STATE[@]}"
}
tap "killed, resumed on 2 ranks: the weights of the uninterrupted run" resumed
plain() { train plain 1 diffusion.input_temperature=0 && ! same "$T/one/last.h5" "$T/plain/last.h5" params; }
tap "tokens instead of mixtures: other weights" plain
draws() {
  train draws1 1 train.draws=2 train.steps=2 && train draws2 2 train.draws=2 train.steps=2 &&
    same "$T/draws1/last.h5" "$T/draws2/last.h5" "${STATE[@]}"
}
tap "two draws of each sequence: the same bits on 1 and 2 ranks" draws
goes_on() {
  ranks 1 train "$D" run.dir="$T/one" "${UNIFORM[@]}" train.steps=8 > "$T/log" 2>&1 || return 1
  cat "$T/log"
  grep 'changed since the checkpoint: .*diffusion.time = "uniform", was "gaussian"' "$T/log" && grep 'step 8/8' "$T/log"
}
tap "training goes on without it, and says so" goes_on
tap "a DiMamba" train dimamba 1 model.name=dimamba train.steps=1

KEEP=$T/one LOOSE=() RANKS=1
refuse() { # NAME PATTERN KEY=VALUE…
  bad "$1" "$2" train "$D" run.dir="$T/no" "${@:3}"
}
refuse "masks" 'diffusion.time = gaussian is for noise that replaces tokens by uniform ones, diffusion.objective = uniform, not subs' \
  diffusion.time=gaussian
refuse "softened tokens of other times" 'softens the Gaussian noise of diffusion.time = gaussian, not of uniform' "${UNIFORM[@]}" \
  diffusion.input_temperature=0.001
refuse "ends in the wrong order" 'gamma_low = 0 is not below diffusion.gamma_high' "${GAUSSIAN[@]}" diffusion.gamma_low=0
refuse "ends without noise" 'leave .* of the tokens as they are' "${GAUSSIAN[@]}" diffusion.gamma_low=-20
finish
