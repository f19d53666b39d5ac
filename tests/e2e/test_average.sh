#!/bin/bash
# test_average.sh — train.ema_traces: power-law averages on any number of ranks, resumed bit for bit, and averages of other
# widths that mdlm mix makes of them, beside those kept in training.
# limit: 120
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg KEEP=$T RANKS=1 LOOSE=(out err tap before)
prepare && deck "$D" || exit 1
BOTH=train.ema_traces=0.05,0.10 BATCH=train.global_batch=12
STATE=(params ema adam_m adam_v trace_1 trace_2)
train() { # NAME N WORDS…
  ranks "$2" train "$D" run.dir="$T/$1" "$BATCH" train.steps=60 train.save_every=0 "${@:3}" > "$T/log" 2>&1 || { cat "$T/log"; return 1; }
}
train plain 1 && train both 1 "$BOTH" train.keep_every=2 && train direct 1 train.ema_traces=0.07,0.15 || exit 1

# ---- what training keeps
untouched() { # the weights do not know of the traces, and files without them have no more groups than before
  same "$T/plain/last.h5" "$T/both/last.h5" params ema adam_m adam_v &&
    "$PY" -c "import h5py, sys
a, b = map(h5py.File, sys.argv[1:])
assert set(a) == {'params', 'ema', 'adam_m', 'adam_v', 'vocab', 'metrics'} and set(b) - set(a) == {'trace_1', 'trace_2'}
assert set(b.attrs) - set(a.attrs) == {'trace_1_sigma', 'trace_2_sigma'}" "$T/plain/last.h5" "$T/both/last.h5"
}
tap "without traces nothing changes" untouched
recurrence() { # of the live weights of every second step, an average near the trace
  "$PY" - "$T/both" << 'PYTHON'
import sys, h5py, numpy as np
name = "blocks.0.mlp.0.weight"
steps = range(2, 61, 2)
files = [h5py.File(f"{sys.argv[1]}/step-{t:07d}.h5") for t in steps]
for trace, gamma in ("trace_1", 16.97), ("trace_2", 6.94):
    mass = np.array([(t / 60) ** (gamma + 1) - ((t - 2) / 60) ** (gamma + 1) for t in steps])
    mean = sum(m * f["params"][name][()].astype("f8") for m, f in zip(mass, files))
    kept, live = files[-1][trace][name][()], files[-1]["params"][name][()]
    print(trace, np.linalg.norm(kept - mean), np.linalg.norm(kept - live))
    assert np.linalg.norm(kept - mean) < 0.2 * np.linalg.norm(kept - live)
PYTHON
}
tap "the traces are power-law averages of the weights" recurrence
for n in 2 3; do
  tap "on $n ranks" train "ranks$n" "$n" "$BOTH"
  tap "the same bits as on 1" same "$T/ranks$n/last.h5" "$T/both/last.h5" "${STATE[@]}"
  tap "on $n ranks that divide the optimizer's state" train "divided$n" "$n" "$BOTH" dist.shard_optimizer=true
  tap "the same bits as on 1" same "$T/divided$n/last.h5" "$T/both/last.h5" "${STATE[@]}"
done
moved() { train moved 1 "$BOTH" train.steps=13 && train moved 3 "$BOTH" train.steps=29 dist.shard_optimizer=true &&
  train moved 2 "$BOTH" train.steps=47 && train moved 1 "$BOTH"; }
tap "a run that moves between 1, 3 and 2 ranks" moved
tap "has the bits of the uninterrupted one" same "$T/moved/last.h5" "$T/both/last.h5" "${STATE[@]}"
info() { "$MDLM" info "$T/both/last.h5" > "$T/out" && grep '/trace_2 is the power-law average of relative width 0.1$' "$T/out" && grep 'whole' "$T/out"; }
tap "info names them" info

# ---- averages of other widths
mix() {
  local code=0
  "$MDLM" mix "$T/$1.h5" "${@:2}" > "$T/out" 2>&1 || code=$?
  cat "$T/out"
  return "$code"
}
near() { # NAME FILE GROUP BOUND: whether the weights are those of the group; BOUND: relative to its distance from the last weights
  "$PY" - "$T/$1.h5" "${@:2}" << 'PYTHON'
import sys, h5py, numpy as np
made, other = map(h5py.File, sys.argv[1:3])
whole = lambda f, group: np.concatenate([f[group][n][()].ravel().astype("f8") for n in sorted(f[group])])
a, b, live = whole(made, "ema"), whole(other, sys.argv[3]), whole(other, "params")
norm = np.linalg.norm
print(f"{norm(a - b) / norm(b):.2g} of the weights, {norm(a - b) / norm(live - b):.2g} of the distance to the last ones")
assert norm(a - b) < 1e-3 * norm(b) and norm(a - b) < float(sys.argv[4]) * norm(live - b)
PYTHON
}
made() { mix "made$1" "$T/both" sigma="$1" && near "made$1" "$T/direct/last.h5" "$2" "$3"; }
tap "a width between the two is that kept in training" made 0.07 trace_1 0.01
tap "a wider one" made 0.15 trace_2 0.02
other() { ! near made0.07 "$T/direct/last.h5" trace_2 0.02 && ! near made0.07 "$T/both/last.h5" trace_1 0.02; }
tap "and no other average" other
kept() { mix kept "$T/both" sigma=0.05 && near kept "$T/both/last.h5" trace_1 1e-4; }
tap "a width that was kept is that trace" kept
early() { mix early "$T/both" sigma=0.10 step=40 && near early "$T/both/step-0000040.h5" trace_2 1e-4 && "$MDLM" info "$T/early.h5" | grep 'checkpoint at step 40'; }
tap "at an earlier step" early
poor() { mix poor "$T/both/last.h5" "$T/both/step-0000040.h5" sigma=0.02 && grep 'warning: the profile is met to [0-9]* % only' "$T/out"; }
tap "a warning where the checkpoints cannot make it" poor
parents() { "$MDLM" info "$T/made0.07.h5" > "$T/out" && cat "$T/out" && grep 'weight -*[0-9.e-]*  *trace_2  *step 58  *digest .*/both/step-0000058.h5$' "$T/out"; }
tap "info shows the traces that it is made of" parents
tap "eval takes it" ranks 1 eval "$D" eval.checkpoint="$T/made0.07.h5" eval.output="$T/eval.h5"
frozen() {
  train frozen 1 "$BOTH" train.keep_every=10 "train.freeze=blocks.0.*" && mix ice "$T/frozen" sigma=0.08 && "$PY" -c "import h5py, sys, numpy as np
a, b = map(h5py.File, sys.argv[1:])
for n in a['ema']: assert np.array_equal(a['ema'][n], b['params'][n]) == n.startswith('blocks.0.'), n" "$T/ice.h5" "$T/frozen/last.h5"
}
tap "frozen parameters stay what they are, bit for bit" frozen

# ---- refused
LOOSE+=(lock)
cp -r "$T/plain" "$T/late" && cp -r "$T/both" "$T/changed"
bad "traces that begin in the middle of a run" 'late/last.h5 holds no trace of width 0.05 as number 1 of train.ema_traces' train "$D" run.dir="$T/late" "$BATCH" train.steps=70 "$BOTH"
bad "other widths" 'holds no trace of width 0.07 as number 2' train "$D" run.dir="$T/changed" "$BATCH" train.steps=70 train.ema_traces=0.05,0.07
dropped() { train changed 1 train.steps=61 && grep 'changed since the checkpoint: train.ema_traces = "", was "0.05,0.10" at step 60' "$T/log"; }
tap "traces can be dropped, with a line" dropped
RANKS="1 2"
for it in "x:x is not a list of widths" "0.5:a width of 0.5 is not between" "0.05,0.05:has the width 0.05 twice" "0.1,0.2,0.05:has more than 2 widths" "0.05,:is not a list of widths"; do
  bad "train.ema_traces = ${it%%:*}" "train.ema_traces.* ${it#*:}" train "$D" run.dir="$T/no" train.ema_traces="${it%%:*}"
done
bad "a checkpoint without traces" 'plain/last.h5 holds no power-law averages: train with train.ema_traces' mix "$T/no.h5" "$T/plain/last.h5" sigma=0.1
bad "a width out of range" 'sigma=0.5: a width from 0.005 to 0.28 is wanted' mix "$T/no.h5" "$T/both" sigma=0.5
bad "a width and weights" 'last.h5 has a weight, but sigma = 0.1 finds the weights' mix "$T/no.h5" "$T/both/last.h5=1" sigma=0.1
bad "a width and other weights" 'sigma = 0.1 takes the traces of checkpoints, not weights=live' mix "$T/no.h5" "$T/both" sigma=0.1 weights=live
bad "no checkpoint so early" 'both holds 0 numbered checkpoints up to that step' mix "$T/no.h5" "$T/both" sigma=0.1 step=1
bad "nor among files" 'no checkpoint is of step 1 to 1' mix "$T/no.h5" "$T/both/last.h5" sigma=0.1 step=1
of_mix() { # what is made of checkpoints with traces has none
  mix of_mix "$T/both/last.h5" "$T/both/step-0000058.h5" && "$MDLM" info "$T/of_mix.h5" > "$T/out" && ! grep power-law "$T/out" &&
    ! mix none "$T/of_mix.h5" sigma=0.08 && grep 'holds no power-law averages' "$T/out"
}
tap "a mixed checkpoint has no traces" of_mix
finish
