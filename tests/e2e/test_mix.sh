#!/bin/bash
# test_mix.sh — mdlm mix: weighted sums and means of checkpoints, beside numpy's; what every command makes of them.
# limit: 120
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg KEEP=$T RANKS="1 2" LOOSE=(out err tap before)
prepare && deck "$D" || exit 1
run() { ranks 1 train "$D" run.dir="$T/$1" "${@:2}" > "$T/log" 2>&1 || { cat "$T/log"; exit 1; }; }
run a train.steps=12 train.keep_every=3
run b run.init="$T/a/last.h5" run.seed=2 train.steps=6
A=$T/a/last.h5 B=$T/b/last.h5

mix() {
  local code=0
  "$MDLM" mix "$T/$1.h5" "${@:2}" > "$T/out" 2>&1 || code=$?
  cat "$T/out"
  return "$code"
}
weights() { # NAME GROUP [FILE WEIGHT]…: whether NAME.h5 has the sum in double of the group, rounded once
  "$PY" - "$T/$1.h5" "${@:2}" << 'PYTHON'
import sys, h5py, numpy as np
out, group, parents = h5py.File(sys.argv[1]), sys.argv[2], sys.argv[3:]
files, factors = [h5py.File(p) for p in parents[::2]], [eval(w) for w in parents[1::2]]
for name in files[0][group]:
    total = factors[0] * files[0][group][name][()].astype("f8")
    for f, w in zip(files[1:], factors[1:]): total += w * f[group][name][()].astype("f8")
    for mine in "params", "ema":
        assert np.array_equal(out[mine][name][()].view("i4"), total.astype("f4").view("i4")), (mine, name)
assert set(out["params"]) == set(out["ema"]) == set(files[0][group])
assert out["parents/file"].asstr()[()].tolist() == parents[::2] and np.array_equal(out["parents/weight"], factors)
PYTHON
}

# ---- sums
half() { mix half "$A=0.3" "$B=0.7" && weights half ema "$A" 0.3 "$B" 0.7; }
tap "a weighted sum of the moving averages is numpy's" half
live() { mix live "$A=0.3" "$B=0.7" weights=live && weights live params "$A" 0.3 "$B" 0.7; }
tap "of the live weights" live
end() { mix end "$A=1" "$B=0" && weights end ema "$A" 1 "$B" 0; }
tap "at the end of the line the weights are those of the file" end
beyond() { mix beyond "$A=2" "$B=-1" && weights beyond ema "$A" 2 "$B" -1 && ! grep warning "$T/out"; }
tap "beyond the end" beyond
odd() { mix odd "$A=1" "$B=1" && grep 'warning: the weights add up to 2, not to 1' "$T/out"; }
tap "a warning where the weights do not add up to 1" odd
mean() { mix mean "$A" "$B" && weights mean ema "$A" 0.5 "$B" 0.5; }
tap "without weights the mean" mean
soup() { # NAME WORDS… -- FILE…: the mean of these checkpoints of run a
  local name=$1 words=() files=() it
  shift
  while [ "$1" != -- ]; do words+=("$1"); shift; done
  for it in "${@:2}"; do files+=("$T/a/step-$(printf %07d "$it").h5" "1/$(($# - 1))"); done
  mix "$name" "${words[@]}" && weights "$name" ema "${files[@]}"
}
tap "a directory: the mean of its numbered checkpoints" soup kept "$T/a" -- 3 6 9 12
tap "the last 2 of them" soup two "$T/a" last=2 -- 9 12
tap "the last 2 up to a step" soup up "$T/a" last=2 step=8 -- 3 6
again() { cp "$T/half.h5" "$T/old.h5" && mix half "$A=0.3" "$B=0.7" && same "$T/half.h5" "$T/old.h5" params ema parents; }
tap "a mixture is replaced by another" again
two_ranks() { ranks 2 mix "$T/ranks.h5" "$A=0.3" "$B=0.7" > "$T/out" && [ "$(wc -l < "$T/out")" = 1 ] && same "$T/ranks.h5" "$T/half.h5" params ema; }
tap "on 2 ranks" two_ranks

# ---- the result is a checkpoint like any other
ancestry() {
  "$MDLM" info "$T/half.h5" > "$T/out" && cat "$T/out" && grep "weight 0.3  *ema  *step 12  *digest [0-9a-f]\{32\}  $A$" "$T/out" &&
    grep "weight 0.7  *ema  *step 6  *digest [0-9a-f]\{32\}  $B$" "$T/out" && grep 'whole: every checksum agrees' "$T/out" &&
    ranks 1 eval "$D" eval.checkpoint="$A" eval.output="$T/eval.h5" > "$T/log" && "$PY" - "$T/half.h5" "$T/eval.h5" << 'PYTHON'
import sys, h5py
half, eval = map(h5py.File, sys.argv[1:])
assert half["parents/digest"].asstr()[0] == eval.attrs["checkpoint_digest"] and half.attrs["step"] == 12
PYTHON
}
tap "info shows its parents, whose digests are those of eval" ancestry
nll() { grep -o 'nll=[0-9.]*' "$T/log"; }
eval_end() { # the line's end has the loss of the file
  ranks 1 eval "$D" eval.checkpoint="$T/end.h5" eval.output="$T/eval.h5" > "$T/log" && one=$(nll) &&
    ranks 1 eval "$D" eval.checkpoint="$A" eval.output="$T/eval.h5" > "$T/log" && [ "$one" = "$(nll)" ]
}
tap "eval" eval_end
tap "eval of its live weights" ranks 1 eval "$D" eval.checkpoint="$T/half.h5" eval.weights=live eval.output="$T/eval.h5"
tap "sample" ranks 1 sample "$D" sample.checkpoint="$T/half.h5" sample.output="$T/samples.h5"
logits() {
  "$PY" -c "import h5py, numpy as np
with h5py.File('$T/z.h5', 'w') as f: f['z'], f['t'] = np.full((2, 32), 7, 'i4'), [0.2, 0.5]" &&
    ranks 1 logits "$D" logits.input="$T/z.h5" logits.checkpoint="$T/half.h5" logits.output="$T/logits.h5"
}
tap "logits" logits
begin() { run c run.init="$T/half.h5" train.steps=1 train.lr=0 && same "$T/c/last.h5" "$T/half.h5" params; }
tap "run.init" begin
score() {
  run left model.name=ar diffusion.objective=ar train.keep_every=3 && mix judge "$T/left" &&
    ranks 1 score "$D" score.checkpoint="$T/judge.h5" score.input="$T/samples.h5" score.output="$T/score.h5"
}
tap "score" score
tap "sweep" ranks 1 sweep "$D" sweep.dir="$T/sweep" sweep.checkpoints="$T/half.h5;$A"
export_it() { "$PY" -m mdlm_analysis.convert export "$T/half.h5" "$T/half.safetensors"; }
tap "mdlm-convert export" export_it

# ---- refused
mkdir "$T/only" && cp "$T/half.h5" "$T/only/last.h5"
bad "to be resumed" 'only/last.h5: the group /adam_m is missing: a file of weights alone, .*run.init of a new run' train "$D" run.dir="$T/only" train.steps=20
rm -r "$T/only"
bad "no word" 'usage: mdlm mix OUT.h5 FILE' mix "$T/no.h5"
bad "a trained checkpoint as output" 'b/last.h5 exists and is not a checkpoint made by mdlm mix' mix "$B" "$A"
bad "a mixture that is read and written" 'half.h5 is both read and written' mix "$T/half.h5" "$A" "$T/half.h5"
bad "some with weights" 'a/last.h5 has a weight and .*b/last.h5 has none' mix "$T/no.h5" "$A=0.5" "$B"
bad "no number" 'last.h5=x: no such file, and x is not a weight' mix "$T/no.h5" "$A=x"
bad "no such file" 'none.h5: no such file' mix "$T/no.h5" "$T/none.h5=1"
bad "a directory with a weight" 'a directory has no weight' mix "$T/no.h5" "$T/a=1"
bad "a directory without numbered checkpoints" 'b holds 0 numbered checkpoints; train.keep_every' mix "$T/no.h5" "$T/b"
bad "more than there are" 'a holds 4 numbered checkpoints' mix "$T/no.h5" "$T/a" last=5
bad "last without a directory" 'last = 2 chooses from a directory' mix "$T/no.h5" "$A" last=2
bad "no whole number" 'last=x: a whole number from 1 on is wanted' mix "$T/no.h5" "$T/a" last=x
bad "other weights" 'weights=both: choose ema or live' mix "$T/no.h5" "$A" weights=both
bad "data" 'valid.h5 is not a checkpoint' mix "$T/no.h5" "$A" "$T/valid.h5"
run wide model.width=64 train.steps=1
bad "another width" 'wide/last.h5 was trained with model.width = 64, the deck says 32 \(that of .*a/last.h5\)' mix "$T/no.h5" "$A" "$T/wide/last.h5"
run block diffusion.block=4 train.steps=1
bad "another block" 'a/last.h5 was trained with diffusion.block = 0, .*block/last.h5 with 4' mix "$T/no.h5" "$A" "$T/block/last.h5"
edit() { # NAME CODE: a copy of B, changed by the code; what it changes loses its seal
  cp "$B" "$T/$1.h5" && "$PY" -c "import h5py, sys, numpy as np
with h5py.File(sys.argv[1], 'r+') as f: $2" "$T/$1.h5"
}
edit lacks 'del f["ema/output_layer.linear.bias"]'
bad "a missing parameter" 'lacks.h5 has no parameter output_layer.linear.bias, which .*a/last.h5 has' mix "$T/no.h5" "$A" "$T/lacks.h5"
bad "a surplus parameter" 'lacks.h5 has no parameter output_layer.linear.bias' mix "$T/no.h5" "$T/lacks.h5" "$A"
edit none 'del f["ema"]'
bad "no moving average" 'none.h5: the group /ema is missing' mix "$T/no.h5" "$A" "$T/none.h5"
edit other 'x = f["ema/output_layer.linear.bias"][:-1]; del f["ema/output_layer.linear.bias"]; f["ema/output_layer.linear.bias"] = x; f["ema/output_layer.linear.bias"].attrs["xxh3"] = "0" * 16'
bad "another shape" 'output_layer.linear.bias is \[300\] in .*a/last.h5 and \[299\] in .*other.h5' mix "$T/no.h5" "$A" "$T/other.h5"
edit flipped 'f["ema/output_layer.linear.bias"][3] = 1'
bad "a damaged parameter" 'flipped.h5 is damaged: checksum error in /ema/output_layer.linear.bias' mix "$T/no.h5" "$A" "$T/flipped.h5"
edit long 'f.attrs["length"] = 16'
bad "another length" 'a/last.h5 was trained on rows of 32 tokens, .*long.h5 of 16' mix "$T/no.h5" "$A" "$T/long.h5"
tap "nothing is left behind" test -z "$(find "$T" -name 'no.h5*')"
finish
