#!/bin/bash
# test_evaluation.sh — what an evaluation says of itself: its estimator, its masks, and data unlike those of training.
# limit: 60
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg
prepare && deck "$D" || exit 1
"$PY" -m mdlm_data.prepare "$T/text" --tokenizer "data:$T/train.h5" --length 16 --quiet --out "$T/half.h5" &&
  "$PY" -m mdlm_data.prepare "$T/text" --tokenizer "data:$T/train.h5" --length 32 --no-wrap --quiet --out "$T/lines.h5" ||
  exit 1

evaluated() { last_line 1 eval "$D" "$@" 2> "$T/err"; } # [KEY=VALUE…]
says() { grep -E "$1" <<< "$2"; }                       # PATTERN TEXT

optimistic() {
  ranks 1 train "$D" train.valid_every=2 > "$T/log" &&
    grep '^complete at step 6; best .*: the lowest of several, so optimistic' "$T/log" &&
    ranks 1 train "$D" run.dir="$T/once" > "$T/log" && grep '^complete at step 6; best [^:]*$' "$T/log"
}
tap "train says that the lowest of several validations is optimistic" optimistic

auto() {
  says ' estimator=count draws=1 T=0 ' "$(evaluated)" && says ' estimator=time draws=1 T=9 ' "$(evaluated diffusion.T=9)" &&
    says ' estimator=time ' "$(evaluated eval.estimator=time)"
}
tap "the estimator is count where it can be used" auto
auto_sweep() {
  ranks 1 sweep "$D" sweep.dir="$T/sweep" sweep.T=0,9 sweep.estimators=auto,count,time > "$T/log" 2>&1
  grep -E ' count +1 +0 ' "$T/log" && grep -E ' time +1 +0 ' "$T/log" && grep -E ' time +1 +9 ' "$T/log" &&
    [ "$(find "$T/sweep/cells" -name '*.h5' | wc -l)" = 3 ]
}
tap "in a sweep, too, and no cell twice" auto_sweep

# ---- per byte and per word: of all rows, whichever are evaluated
bytes() { # NAME [KEY=VALUE…]
  evaluated eval.output="$T/$1.h5" "${@:2}" > "$T/$1.line" && ranks 1 info "$T/$1.h5" > "$T/$1.info" &&
    "$PY" - "$T/$1.h5" "$T/valid.h5" "$T/$1.line" "$T/$1.info" << 'PYTHON'
import sys, h5py, numpy as np
e, d = (h5py.File(p) for p in sys.argv[1:3])
words = dict(w.split("=") for w in open(sys.argv[3]).read().split())
shown = open(sys.argv[4]).read()
nll = e["loss"][()].sum() / e["tokens"][()].sum()
total = nll * d["lengths"][()].sum()
per_byte, of_words = total / np.log(2) / d.attrs["bytes"], np.exp(total / d.attrs["words"])
print(words, per_byte, of_words, d.attrs["bytes"], d.attrs["words"])
assert abs(float(words["bits_per_byte"]) - per_byte) < 1e-4
number = lambda name: float(shown.split(name)[1].split()[0])
assert abs(number("bits per byte") - per_byte) < 1e-4 and abs(number("ppl of words") / of_words - 1) < 1e-4
PYTHON
}
tap "bits per byte and perplexity of words" bytes whole
tap "of a part of the rows" bytes part eval.sequences=20
silent() { # data without numbers of bytes and words
  "$PY" -c 'import sys, h5py; f = h5py.File(sys.argv[1], "r+"); del f.attrs["bytes"]; del f.attrs["words"]' "$T/short.h5" &&
    says ' T=0$' "$(evaluated eval.data="$T/short.h5")" && ranks 1 info "$T/run/eval.h5" > "$T/log" &&
      ! grep 'bits per byte' "$T/log"
}
cp "$T/valid.h5" "$T/short.h5"
tap "data without counts: no such values" silent

seeds() {
  local one
  one=$(evaluated) && [ "$(evaluated run.seed=9)" = "$one" ] && [ "$(evaluated eval.seed=9)" != "$one" ] &&
    "$PY" -c 'import sys, h5py; assert h5py.File(sys.argv[1]).attrs["seed"] == 9' "$T/run/eval.h5"
}
tap "the masks depend on eval.seed, not on run.seed" seeds
other_masks() { # the validation of the last weights has one draw by time, too
  local valid eval
  valid=$("$PY" -c 'import sys, h5py; print("%.5f" % h5py.File(sys.argv[1])["valid/nll"][-1])' "$T/once/metrics.h5") &&
    eval=$(evaluated run.dir="$T/once" eval.checkpoint="$T/once/last.h5" eval.estimator=time) || return 1
  echo "$valid $eval"
  eval=${eval#nll=}
  "$PY" -c 'import sys; assert 0 < abs(float(sys.argv[1]) - float(sys.argv[2])) < 0.3' "$valid" "${eval%% *}"
}
tap "a validation has other masks than an evaluation" other_masks

alone() { # a single sequence has no interval
  says '^nll=[0-9.]+ .* ci95=unknown sequences=1 ' "$(evaluated eval.sequences=1)" &&
    ranks 1 train "$D" run.dir="$T/alone" train.valid_sequences=1 > "$T/log" && grep 'ci95 unknown  (1 sequences' "$T/log"
}
tap "one sequence: no interval" alone
elsewhere() { # a run directory that is not there yet
  ranks 1 sample "$D" run.dir="$T/new" sample.checkpoint="$T/run/best.h5" > "$T/log" && test -s "$T/new/samples.h5" &&
    ranks 1 train "$D" run.dir="$T/judge" model.name=ar diffusion.objective=ar > "$T/log" &&
    ranks 1 score "$D" run.dir="$T/scores" score.input="$T/new/samples.h5" score.checkpoint="$T/judge/best.h5" > "$T/log" &&
    test -s "$T/scores/score.h5" && ranks 1 eval "$D" run.dir="$T/evals" eval.checkpoint="$T/run/best.h5" > "$T/log" &&
    test -s "$T/evals/eval.h5"
}
tap "sample, score and eval make run.dir" elsewhere

# ---- crops: rows of 2L tokens. An ar row has L targets, the last one eos.
cropped() { # OBJECTIVE NETWORK: every position of a row is scored
  "$PY" -m mdlm_data.prepare "$T/text" --tokenizer "data:$T/train.h5" --length 32 --quiet --out "$T/wide.h5" &&
    ranks 1 train "$D" run.dir="$T/crop-$1" data.crop=true data.train="$T/wide.h5" data.valid="$T/half.h5" \
      diffusion.objective="$1" model.name="$2" > "$T/log" || return 1
  "$PY" -c 'import sys, h5py; t = h5py.File(sys.argv[1])["train/tokens"][()]; print(t); assert t[-1] == 6 * 8 * 16' \
    "$T/crop-$1/metrics.h5"
}
tap "data.crop with subs" cropped subs dit
tap "data.crop with ar" cropped ar ar

unlike() { # DATA PATTERN: the warning of eval and that of sweep
  ranks 1 eval "$D" eval.data="$T/$1.h5" eval.output="$T/e.h5" > "$T/log" 2>&1 && grep -E "^warning: .*$2" "$T/log" &&
    ranks 1 sweep "$D" sweep.dir="$T/$1" sweep.data="$T/$1.h5" > "$T/log" 2>&1 && grep -E "^warning: .*$2" "$T/log"
}
tap "data of another length: a warning" unlike half 'trained on 32 tokens a row, .* has 16, .*not comparable'
tap "data cut otherwise: a warning" unlike lines 'rows cut from running text, .* has 32, one document a row: .*not comparable'
calm() { evaluated && ! grep 'not comparable' "$T/err"; }
tap "data like those of training: none" calm
finish
