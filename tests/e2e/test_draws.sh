#!/bin/bash
# test_draws.sh — several draws of the noise of each sequence in a step (train.draws), which in block diffusion share the
# pass over its clean tokens: the gradients of a batch that has every sequence so many times; the same bits on any number of
# ranks, killed and resumed; evaluations share that pass, too, and change no bit; what is refused.
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
STATE=(params ema adam_m adam_v @step @tokens @masked_tokens)
D=$T/deck.cfg
prepare && deck "$D" || exit 1
ROWS=$("$PY" -c "import h5py; f = h5py.File('$T/valid.h5'); print(len(next(v for k, v in f.items() if k.startswith('tok'))))")
DRAWS=(train.draws=3 diffusion.block=4 diffusion.time=clip)

train() { # NAME N [KEY=VALUE…]: train in $T/NAME on N ranks
  ranks "$2" train "$D" run.dir="$T/$1" "${@:3}"
}

# ---- a step of all rows of a file with three draws has the gradients of one with a batch that takes each row three times
as_rows() { # NAME [KEY=VALUE…]
  local keys=(data.train="$T/valid.h5" data.valid= data.order=sequential train.warmup=0 train.steps=1 model.dropout=0 "${@:2}")
  train "$1_draws" 1 "${keys[@]}" train.draws=3 train.global_batch="$ROWS" train.micro_batch="$ROWS" &&
    train "$1_rows" 1 "${keys[@]}" train.global_batch=$((3 * ROWS)) train.micro_batch="$ROWS" &&
    same --close 1e-4 "$T/$1_draws/last.h5" "$T/$1_rows/last.h5" adam_m @step @tokens @masked_tokens
}
tap "three draws: the gradients of a batch that has each sequence three times" as_rows mdlm
tap "in blocks" as_rows blocks diffusion.block=4
tap "an objective of two passes" as_rows d3pm diffusion.objective=d3pm diffusion.T=10

# ---- ranks, and a kill
tap "train on 1 rank" train one 1 "${DRAWS[@]}"
same_run() {
  train "$1" "$2" "${DRAWS[@]}" && same "$T/one/last.h5" "$T/$1/last.h5" "${STATE[@]}" and "$T/one/metrics.h5" "$T/$1/metrics.h5" train valid --rows
}
tap "2 ranks: the same bits" same_run two 2
tap "4 ranks: the same bits" same_run four 4
resumed() {
  train_killed "$T/killed" "$D" "${DRAWS[@]}" && train killed 2 "${DRAWS[@]}" && same "$T/one/last.h5" "$T/killed/last.h5" "${STATE[@]}"
}
tap "killed, resumed on 2 ranks: the weights of the uninterrupted run" resumed
differs() { ! same "$T/one/last.h5" "$T/fewer/last.h5" params; }
tap "fewer draws" train fewer 1 "${DRAWS[@]}" train.draws=1
tap "fewer draws: other weights" differs

# ---- evaluations: batches of one sequence share nothing
evaluate() { # NAME N [KEY=VALUE…]
  ranks "$2" eval "$D" run.dir="$T/one" diffusion.block=4 eval.draws=5 eval.output="$T/$1.h5" "${@:3}"
}
shared() {
  evaluate alone 1 eval.batch=1 "$@" && evaluate some 2 eval.batch=3 "$@" && evaluate many 1 eval.batch=64 "$@" &&
    same "$T/alone.h5" "$T/some.h5" loss square tokens and "$T/alone.h5" "$T/many.h5" loss square tokens
}
tap "eval, count: no bit depends on the draws of a pass" shared
tap "eval, time: no bit depends on the draws of a pass" shared eval.estimator=time

# ---- check and refusals
tap "mdlm check takes the draws into account" ranks 1 check "$D" run.dir="$T/check" "${DRAWS[@]}"
KEEP=$T/one LOOSE=() RANKS=1
refuse() { # NAME PATTERN KEY=VALUE…
  bad "$1" "$2" train "$D" run.dir="$T/no" "${@:3}"
}
refuse "draws of no noise" 'train.draws = 2: diffusion.objective = ar draws no noise; set train.draws to 1' train.draws=2 \
  diffusion.objective=ar model.name=ar
refuse "draws of blocks of one token" 'train.draws = 2: blocks of one token' train.draws=2 diffusion.block=1
refuse "more draws than have noise of their own" 'train.draws = 1024 of train.global_batch = 8388608 sequences' train.draws=1024 \
  train.global_batch=8388608 train.micro_batch=1
refuse "too many for one pass" 'too many for one pass: lower the batch or train.draws' train.draws=1024 train.global_batch=1048576 \
  train.micro_batch=1048576
refuse "no draw" 'train.draws' train.draws=0
finish
