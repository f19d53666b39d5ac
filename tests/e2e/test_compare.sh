#!/bin/bash
# test_compare.sh — mdlm compare and mdlm info on evaluations: their numbers beside numpy's, and what compare refuses.
# limit: 120
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg KEEP=$T RANKS=1 LOOSE=(out err tap before)
prepare && deck "$D" || exit 1
ranks 1 train "$D" run.dir="$T/short" > "$T/log" || { cat "$T/log"; exit 1; }
ranks 1 train "$D" run.dir="$T/long" train.steps=40 > "$T/log" || exit 1
for it in short long; do ranks 1 eval "$D" run.dir="$T/$it" eval.estimator=time eval.draws=2 eval.output="$T/$it.h5" > "$T/log" || exit 1; done

# edit FILE COPY CODE: copy FILE.h5 to COPY.h5 and change it by the code
edit() {
  cp "$T/$1.h5" "$T/$2.h5" && "$PY" -c "import h5py, sys, numpy as np
def put(name, values):
    if name in f: del f[name]
    f[name] = values
with h5py.File(sys.argv[1], 'r+') as f:
    $3" "$T/$2.h5"
}
compare() { # A B: print the lines of a comparison, also to $T/out
  ranks 1 compare "$T/$1.h5" "$T/$2.h5" > "$T/out" || return 1
  cat "$T/out"
}
last() { compare "$1" "$2" && tail -n 1 "$T/out" | grep -E "$3"; } # A B PATTERN

# ---- two trainings
tap "the longer training is better" last short long '^difference=-[0-9.]+ ci95=\[-[0-9.]+,-[0-9.]+\] p=[0-9.e-]+ ratio=0\.[0-9]+ better=B blocks=32 tokens=2016$'
tap "in the other order it is A" last long short '^difference=[0-9.]+ .* ratio=1\.[0-9]+ better=A '
tap "an evaluation beside itself: no difference" last long long \
  '^difference=0.00000 ci95=\[0.00000,0.00000\] p=1 ratio=1.00000 better=none '
shown() { compare short long && grep -E "^A +nll .*short.h5: .*/short/best.h5, step 6, ema weights" "$T/out" &&
  grep -E '^B is better' "$T/out"; }
tap "both evaluations and the verdict are shown" shown
twice() { ranks 2 compare "$T/short.h5" "$T/long.h5" | diff - "$T/out"; }
tap "on 2 ranks the same lines once" twice

# ---- numbers. Student's t of 31 degrees of freedom is 2.0395.
numbers() { # A B: whether the interval is that of the differences by blocks of two rows
  compare "$1" "$2" && "$PY" - "$T/$1.h5" "$T/$2.h5" "$(tail -n 1 "$T/out")" << 'PYTHON'
import sys, h5py, numpy as np
a, b = (h5py.File(p) for p in sys.argv[1:3])
line = dict(w.split("=") for w in sys.argv[3].split())
tokens = a["tokens"][()]
loss = b["loss"][()] - a["loss"][()]
value = loss.sum() / tokens.sum()
blocks = np.add.reduceat(loss - value * tokens, np.arange(0, 63, 2))
half = 2.039513 * np.sqrt(32 / 31 * (blocks**2).sum()) / tokens.sum()
print(value, half)
low, high = map(float, line["ci95"].strip("[]").split(","))
assert abs(float(line["difference"]) - value) < 1e-5 and abs(low - value + half) < 2e-5 and abs(high - value - half) < 2e-5
assert abs(float(line["ratio"]) - np.exp(value)) < 1e-5
assert (float(line["p"]) < 0.05) == (low * high > 0) == (line["better"] != "none")
PYTHON
}
tap "the interval of two trainings" numbers short long
noise() { edit long noise 'f["loss"][...] += np.random.default_rng(3).normal(0, 5, 63)' && numbers long noise && grep 'better=none' "$T/out"; }
tap "differences of chance alone are none" noise

intervals() { # whether info shows nll, ppl and both intervals first, from hand-made spreads between two draws
  edit long spread 'put("square", np.linspace(0, 90, 63))' && "$MDLM" info "$T/spread.h5" > "$T/out" && cat "$T/out" &&
    "$PY" - "$T/spread.h5" "$T/out" << 'PYTHON'
import re, sys, h5py, numpy as np
f, lines = h5py.File(sys.argv[1]), open(sys.argv[2]).read().splitlines()
loss, tokens, square = (f[n][()] for n in ("loss", "tokens", "square"))
nll = loss.sum() / tokens.sum()
v = square / 2
freedom = v.sum() ** 2 / (v**2 / 3).sum() - 2
assert 130 < freedom < 150, freedom  # t: 1.977
masks = 1.977 * np.sqrt(v.sum()) / tokens.sum()
blocks = np.add.reduceat(loss - nll * tokens, np.arange(0, 63, 2))
source = 2.039513 * np.sqrt(32 / 31 * (blocks**2).sum()) / tokens.sum()
assert f"{nll:.5f} nat" in lines[1] and f"{np.exp(nll):.4f}" in lines[2]
for line, name, half in ((lines[5], "ci95 of the rows ", masks), (lines[6], "ci95 of the source ", source)):
    low, high = map(float, re.search(r"nll (\S+) to (\S+),", line).groups())
    print(line, half)
    assert name in line and abs(low - nll + half) < 1e-4 and abs(high - nll - half) < 1e-4
assert "2 draws of the masks" in lines[5] and "32 blocks of 2 neighbouring rows" in lines[6]
PYTHON
}
tap "info shows the result with both intervals first" intervals
one_draw() { edit long one 'f.attrs["draws"] = 1; f.pop("square", None)' && "$MDLM" info "$T/one.h5" > "$T/out" && cat "$T/out" &&
  grep -E '^  ci95 of the rows +unknown: it needs eval.draws = 2' "$T/out" && ! grep -E 'run:|width' "$T/out"; }
tap "info: with one draw the masks' part is unknown; the deck is left out" one_draw
exact() { # of a network that predicts the next token, whose masks do not matter
  ranks 1 train "$D" run.dir="$T/ar" model.name=ar diffusion.objective=ar > "$T/log" &&
    ranks 1 eval "$D" run.dir="$T/ar" model.name=ar diffusion.objective=ar > "$T/log" &&
    grep '^evaluating .*; estimator exact$' "$T/log" && grep ' estimator=exact ' "$T/log" && mv "$T/ar/eval.h5" "$T/ar.h5" &&
    edit ar seed 'f.attrs["seed"] = 9' && last ar seed 'p=1 .*better=none' && "$MDLM" info "$T/ar.h5" > "$T/out" &&
    ! grep 'ci95 of the rows' "$T/out" && grep 'ci95 of the source' "$T/out"
}
tap "an exact evaluation has no part of the masks" exact
few() { edit long few 'for n in ("loss", "tokens"): x = f[n][:1]; del f[n]; f[n] = x
    f.pop("square", None)' && edit few other 'f["loss"][...] += 1' && last few other 'ci95=unknown p=unknown .*better=unknown'; }
tap "a single row has no interval" few
shares() { edit long half 'f.attrs["share"] = 0.5' && ranks 1 compare "$T/long.h5" "$T/half.h5" 2>&1 | grep '^warning: .*shares of the bound: 0.999 and 0.5'; }
tap "a warning if the bounds cover different shares" shares

# ---- what is refused: other rows, other masks, other files
different() { # NAME CODE PATTERN
  edit long other "$2" || exit 1
  bad "compare: $1" "long.h5 and .*other.h5 are not comparable: $3" compare "$T/long.h5" "$T/other.h5"
}
different "other data" 'f.attrs["data_digest"] = "0" * 32' 'data_digest is [0-9a-f]{32} and 0{32}; .* same eval.data$'
different "fewer sequences" 'for n in ("loss", "tokens"): x = f[n][:9]; del f[n]; f[n] = x
    f.pop("square", None)' 'the number of sequences is 63 and 9; .*eval.sequences$'
different "other scored tokens" 'f["tokens"][5] = 31' 'the number of scored tokens of sequence 5 is 32 and 31$'
different "another wrapping" 'f.attrs["wrap"] = 0' 'wrap is 1 and 0$'
different "another detokenizer" 'f.attrs["detokenizer"] = "lm1b"' 'detokenizer is none and lm1b$'
different "another split" 'f.attrs["split"] = "test"' 'split is valid and test$'
different "another estimator" 'f.attrs["estimator"] = "count"' 'estimator is time and count; .*eval.estimator$'
different "other draws" 'f.attrs["draws"] = 7' 'draws is 2 and 7; .*eval.draws$'
different "another seed" 'f.attrs["seed"] = 2' 'seed is 1 and 2; evaluate both with the same eval.seed$'
different "other steps of the bound" 'f.attrs["deck"] = f.attrs["deck"].replace("T = 0", "T = 10")' 'diffusion.T is 0 and 10; .*diffusion.T$'
different "strata on one side only" 'f.attrs["deck"] = f.attrs["deck"].replace("stratified = true", "stratified = false")' \
  'diffusion.stratified is true and false; '
bad "compare: one file" 'usage: mdlm compare A.h5 B.h5' compare "$T/long.h5"
bad "compare: three files" 'usage: mdlm compare A.h5 B.h5' compare "$T/long.h5" "$T/long.h5" "$T/long.h5"
bad "compare: a checkpoint" 'last.h5 is not an evaluation' compare "$T/long.h5" "$T/long/last.h5"
bad "compare: no such file" 'none.h5: no such file' compare "$T/long.h5" "$T/none.h5"
edit long broken 'del f["loss"]'
bad "compare: no values" 'broken.h5: .*/loss' compare "$T/long.h5" "$T/broken.h5"

finish
