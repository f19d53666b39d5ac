#!/bin/bash
# test_score.sh — mdlm score: generative perplexity of samples under a causal network, and what it refuses.
# limit: 120
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg J=$T/judge/last.h5
prepare && deck "$D" || exit 1
ranks 1 train "$D" > "$T/log" || { cat "$T/log"; exit 1; }
ranks 1 train "$D" run.dir="$T/judge" model.name=ar model.width=48 diffusion.objective=ar > "$T/log" || exit 1
ranks 1 sample "$D" sample.count=7 > "$T/log" || exit 1

# edit FILE COPY CODE: copy FILE to COPY and change it by the code
edit() {
  cp "$T/$1" "$T/$2" && "$PY" -c "import h5py, sys, numpy as np
with h5py.File(sys.argv[1], 'r+') as f:
    $3" "$T/$2"
}

# score NAME N [KEY=VALUE…]: score the deck's samples with the judge; keys can override both
score() {
  ranks "$2" score "$D" score.checkpoint="$J" score.output="$T/$1.h5" "${@:3}" > "$T/$1.log"
}
last() { tail -n 1 "$T/$1.log"; }
word() { last "$1" | grep -o " *$2=[^ ]*" | tr -d ' '; }

# the deck is that of the run that made the samples; the judge is another network
tap "samples" score one 1
shown() {
  last one
  last one | grep -qE '^nll=[0-9.]+ ppl=[0-9.]+ ci95=\[[0-9.]+,[0-9.]+\] entropy=[0-9.]+ rows=7 tokens=[0-9]+$'
}
tap "the last line shows perplexity, interval and entropy" shown
same_scores() { # NAME N [KEY=VALUE…]
  score "$@" && last one && last "$1" && [ "$(last one)" = "$(last "$1")" ] && same "$T/one.h5" "$T/$1.h5" loss tokens entropy
}
for n in 2 3; do tap "$n ranks: the same bits" same_scores ranks$n $n; done
tap "3 ranks, some without a window" same_scores idle 3 score.batch=8
close() { score wide 1 score.batch=3 && same "$T/one.h5" "$T/wide.h5" tokens entropy && same "$T/one.h5" "$T/wide.h5" loss --close 1e-6; }
tap "other batches: the same to rounding" close
tap "info describes the result" ranks 1 info "$T/one.h5"
of_file() { # whether the file agrees with the printed line, and its entropies with the tokens
  "$PY" - "$T/one.h5" "$T/run/samples.h5" "$(last one)" << 'PYTHON'
import sys, h5py, numpy as np
f, s = h5py.File(sys.argv[1]), h5py.File(sys.argv[2])
line = dict(w.split("=") for w in sys.argv[3].split())
nll = f["loss"][()].sum() / f["tokens"][()].sum()
assert abs(nll - float(line["nll"])) < 1e-5 and abs(f.attrs["nll"] - nll) < 1e-12
assert f["tokens"][()].sum() == int(line["tokens"])
own = []
for row in s["tokens"][()]:
    p = np.unique(row, return_counts=True)[1] / len(row)
    own.append(-(p * np.log(p)).sum())
assert np.abs(f["entropy"][()] - own).max() < 1e-12
assert abs(np.mean(own) - float(line["entropy"])) < 1e-4
PYTHON
}
tap "the file holds the values of each row" of_file
names_judge() { # by the digest of its weights
  "$PY" - "$T/one.h5" << 'PYTHON'
import sys, h5py
assert len(h5py.File(sys.argv[1]).attrs["checkpoint_digest"]) == 32
PYTHON
}
tap "the file names the judge's weights" names_judge

# ---- data: without eos the result equals that of eval
digest='import xxhash; h = xxhash.xxh3_128(t.astype("<i4").tobytes()); h.update(f["lengths"][()].astype("<u4").tobytes())'
edit valid.h5 plain.h5 't = f["tokens"][()]; t[t == f["vocab"].attrs["eos"]] = 9; f["tokens"][...] = t; '"$digest"'; f.attrs["digest"] = h.hexdigest()'
as_eval() {
  ranks 1 eval "$D" run.dir="$T/judge" model.name=ar model.width=48 diffusion.objective=ar eval.data="$T/plain.h5" \
    eval.output="$T/eval.h5" > "$T/eval.log" || return 1
  score data 1 score.input="$T/plain.h5" score.batch=32 || return 1
  last eval && last data
  [ "$(word eval nll)" = "$(word data nll)" ] &&
    [ "$(word eval tokens)" = "$(word data tokens)" ] && same "$T/eval.h5" "$T/data.h5" tokens loss --close 1e-6
}
tap "data without eos: the perplexity of eval" as_eval
eos_rule() { # in rows that begin with eos, no eos is scored
  score framed 1 score.input="$T/valid.h5" || return 1
  "$PY" - "$T/valid.h5" "$T/framed.h5" << 'PYTHON'
import sys, h5py
v, s = (h5py.File(x) for x in sys.argv[1:])
t, eos = v["tokens"][()], v["vocab"].attrs["eos"]
assert (t[:, 0] == eos).all()
assert (s["tokens"][()] == (t != eos).sum(1)).all()
PYTHON
}
tap "rows that begin with eos: no eos is scored" eos_rule

# ---- windows: two rows of data, joined to one row, are scored as two windows
joined() {
  edit plain.h5 long.h5 't = f["tokens"][()][:6]; del f["tokens"], f["lengths"]; f["tokens"] = t.reshape(3, -1)' &&
    edit plain.h5 short.h5 't = f["tokens"][()][:6]; del f["tokens"], f["lengths"]; f["tokens"] = t' &&
    score joined 1 score.input="$T/long.h5" score.batch=1 && score apart 1 score.input="$T/short.h5" || return 1
  last joined && last apart
  [ "$(word joined nll)" = "$(word apart nll)" ] && [ "$(word joined rows)" = rows=3 ] || return 1
  score joined2 2 score.input="$T/long.h5" score.batch=1 && same "$T/joined.h5" "$T/joined2.h5" loss tokens entropy
}
tap "long rows are cut into windows" joined

# ---- samples and judge with different tokenizers
other() {
  "$PY" -m mdlm_data.prepare "$T/text" --tokenizer bpe:290 --length 24 --valid-documents 40 --quiet \
    --out-train "$T/train2.h5" --out-valid "$T/valid2.h5" &&
    ranks 1 train "$D" run.dir="$T/judge2" model.name=ar diffusion.objective=ar data.train="$T/train2.h5" data.valid="$T/valid2.h5" &&
    ! score no 1 score.checkpoint="$T/judge2/last.h5" 2> "$T/err" && grep -q 'translate them with mdlm-retokenize' "$T/err" &&
    "$PY" -m mdlm_data.retokenize "$T/run/samples.h5" --tokenizer data:"$T/train2.h5" --out "$T/samples2.h5" &&
    score other 1 score.checkpoint="$T/judge2/last.h5" score.input="$T/samples2.h5" && last other && [ "$(word other rows)" = rows=7 ]
}
tap "retokenized samples" other
spelt() { # mdlm-retokenize decodes samples to the text that mdlm sample stores
  ranks 1 sample "$D" sample.count=7 sample.output="$T/again.h5" > "$T/again.log" && same "$T/run/samples.h5" "$T/again.h5" tokens &&
    "$PY" - "$T/again.h5" "$T/train.h5" << 'PYTHON'
import re, sys, h5py
from mdlm_data.spelling import spelling
def marked(text): # Python replaces a broken character by one U+FFFD, mdlm each of its bytes
    return re.sub("\ufffd+", "\ufffd", text)
s, f = spelling(sys.argv[2]), h5py.File(sys.argv[1])
for row, text in zip(f["tokens"][()].tolist(), f["text"].asstr()[()], strict=True):
    assert marked(s.text(row)) == marked(text), (s.text(row), text)
PYTHON
}
tap "the text of samples, decoded by mdlm-retokenize" spelt

# ---- refusals
refuses() { # CODE PATTERN ARGUMENT…
  exits "$1" ranks "${N:-1}" score "$D" score.checkpoint="$J" score.output="$T/no.h5" "${@:3}" 2> "$T/err" || { cat "$T/err"; return 1; }
  cat "$T/err"
  [ "$(grep -c '^mdlm: error' "$T/err")" = 1 ] && grep -qE "$2" "$T/err" && [ ! -e "$T/no.h5" ]
}
tap "no judge" refuses 2 'score.checkpoint is empty' score.checkpoint=
tap "a missing judge" refuses 3 'none.h5' score.checkpoint="$T/none.h5"
tap "a judge with a diffusion objective" refuses 2 'objective = subs, which does not predict the next token' score.checkpoint="$T/run/last.h5"
tap "no samples" refuses 3 'none.h5' score.input="$T/none.h5"
edit run/samples.h5 bad.h5 'f["tokens"][2, 3] = 300'
tap "a token beyond V" refuses 3 'bad.h5: row 2 has token 300 at position 3' score.input="$T/bad.h5"
two_ranks() { # only one rank finds the error; the exit code is that of the rank that ends first
  ! score no 2 score.input="$T/bad.h5" 2> "$T/err" && cat "$T/err" &&
    grep '^mdlm: error' "$T/err" | grep -q 'bad.h5: row 2 has token 300 at position 3' && [ ! -e "$T/no.h5" ]
}
tap "a token beyond V, on two ranks" two_ranks
edit run/samples.h5 bad.h5 'f["tokens"][6, 1] = 299'
tap "a mask token" refuses 3 'bad.h5: row 6 is unfinished' score.input="$T/bad.h5"
edit run/samples.h5 bad.h5 'f.attrs["tokenizer_hash"] = "0" * 32'
tap "tokens of another vocabulary" refuses 3 'bad.h5 holds tokens of bpe.*mdlm-retokenize' score.input="$T/bad.h5"
edit run/samples.h5 bad.h5 'del f.attrs["tokenizer"]'
tap "tokens without the name of a tokenizer" refuses 3 'bad.h5 does not name its tokenizer' score.input="$T/bad.h5"
edit valid.h5 bad.h5 'f["vocab"].attrs["eos"] = np.int64(7)'
tap "data with another eos" refuses 3 'vocabularies .* differ: eos token' score.input="$T/bad.h5"
tap "an output that would overwrite the samples" refuses 2 'is both' score.input="$T/valid.h5" score.output="$T/valid.h5"
tap "a checkpoint instead of samples" refuses 3 'no data set /tokens' score.input="$J"
finish
