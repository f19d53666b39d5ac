#!/bin/bash
# test_init.sh — run.init: runs that begin with weights of another run, network or vocabulary.
# limit: 60
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg KEEP=$T RANKS="1 2" LOOSE=(out err tap before)
prepare && deck "$D" || exit 1
ranks 1 train "$D" run.dir="$T/first" train.steps=80 > "$T/first.log" || { cat "$T/first.log"; exit 1; }
ranks 1 train "$D" run.dir="$T/left" model.name=ar diffusion.objective=ar train.steps=80 > "$T/log" || exit 1
tr ab yz < "$T/text" > "$T/letters" && "$PY" -m mdlm_data.prepare "$T/letters" --tokenizer bpe:280 --length 32 --quiet --out "$T/other.h5" || exit 1

begin() { # NAME N FILE [KEY=VALUE…]: a step that changes nothing, begun with the weights of FILE
  ranks "$2" train "$D" run.dir="$T/$1" train.steps=1 train.lr=0 run.init="$3" "${@:4}" > "$T/$1.log" 2>&1 && cat "$T/$1.log"
}
python() { "$PY" -c "import sys, h5py, numpy as np
files = [h5py.File(p) for p in sys.argv[1:]]
$1" "${@:2}"; }
same_weights='
for name in files[0]["params"]: assert np.array_equal(files[0]["params"][name], files[1]["ema"][name]), name'

whole() {
  begin whole 1 "$T/first/best.h5" && grep -E '^init .*first/best.h5 \(ema weights, step 80\): 30 of 30 tensors, 300 of 300 tokens$' "$T/whole.log" &&
    python "$same_weights" "$T/whole/last.h5" "$T/first/best.h5"
}
tap "the same network: every tensor is that of the file" whole
live() { begin live 1 "$T/first/best.h5" run.init_weights=live && ! python "$same_weights" "$T/live/last.h5" "$T/first/best.h5" 2> /dev/null &&
  same "$T/live/last.h5" "$T/first/best.h5" params; }
tap "its live weights" live
tap "on 2 ranks" begin two 2 "$T/first/best.h5"
tap "the same weights" same "$T/two/last.h5" "$T/whole/last.h5" params ema
goes_on() { # its first loss is about the last one of the file's run, not that of random weights
  ranks 1 train "$D" run.dir="$T/on" train.steps=120 run.init="$T/first/best.h5" > "$T/log" && python '
first, on = (f["train/loss"][()] for f in files)
before, after = (f["valid/nll"][-1] for f in files)
print(first[0], first[-10:].mean(), on[:5].mean(), before, after)
assert abs(on[:5].mean() - first[-10:].mean()) < 0.7 < first[0] - on[:5].mean() and after < before' \
    "$T/first/metrics.h5" "$T/on/metrics.h5"
}
tap "training goes on from there and improves" goes_on
ancestry() { # also after it was resumed
  ranks 1 train "$D" run.dir="$T/on" train.steps=121 run.init="$T/first/best.h5" > "$T/log" 2>&1 && ! grep -E '^init|is ignored' "$T/log" &&
    ranks 1 eval "$D" run.dir="$T/first" > "$T/log" &&
    python 'assert files[0].attrs["init_digest"] == files[1].attrs["checkpoint_digest"]' "$T/on/last.h5" "$T/first/eval.h5" &&
    "$MDLM" info "$T/on/last.h5" | grep 'began with weights of digest [0-9a-f]\{32\}'
}
tap "a resumed run keeps its ancestry and its weights" ancestry
ignored() {
  ranks 2 train "$D" run.dir="$T/on" train.steps=122 run.init="$T/left/best.h5" > "$T/log" 2>&1 &&
    [ "$(grep -c '^warning: run.init = .*left/best.h5 is ignored: the run in .*/on goes on from its own checkpoint' "$T/log")" = 1 ]
}
tap "a resumed run tells that other weights are ignored" ignored

# ---- another network
from_left() { # modulations are new, and open their branches
  begin right 1 "$T/left/best.h5" && grep -E '^init .*: 20 of 30 tensors' "$T/right.log" && grep -E '^ +new: sigma_map' "$T/right.log" && python '
bias = files[0]["params/blocks.1.adaLN_modulation.bias"][()].reshape(6, 32)
print(bias[:, 0])
assert (bias[[2, 5]] == 1).all() and (bias[[0, 1, 3, 4]] == 0).all()
assert (files[0]["params/output_layer.adaLN_modulation.bias"][()] == 0).all()
for name in files[1]["ema"]: assert np.array_equal(files[0]["params"][name], files[1]["ema"][name]), name' \
    "$T/right/last.h5" "$T/left/best.h5"
}
tap "a causal network's weights in a bidirectional one" from_left
adapted() { # begins far below random weights, and becomes a diffusion model
  ranks 1 train "$D" run.dir="$T/adapted" train.steps=40 train.valid_every=10 run.init="$T/left/best.h5" > "$T/log" &&
    ranks 1 train "$D" run.dir="$T/scratch" train.steps=10 > "$T/log" && python '
first, random = (f["train/loss"][0] for f in files)
nll, other = (f["valid/nll"][()] for f in files)
print(first, random, nll, other)
assert first < random - 1 and nll[0] < other[0] and nll[-1] < nll[0]' "$T/adapted/metrics.h5" "$T/scratch/metrics.h5" &&
    ranks 1 sample "$D" run.dir="$T/adapted" sample.steps=4 > "$T/log"
}
tap "it is trained on as a diffusion model" adapted
shallow() { begin shallow 1 "$T/first/best.h5" model.blocks=1 && grep 'in the file and not used: blocks.1.adaLN' "$T/shallow.log"; }
tap "fewer blocks: the rest is not used, and named" shallow
narrow() { begin narrow 1 "$T/first/best.h5" model.cond_dim=8 && grep 'new, of another shape than in the file: .*sigma_map' "$T/narrow.log"; }
tap "another shape: new, and named" narrow

# ---- another vocabulary: rows go with their tokens
vocabulary() {
  begin words 1 "$T/first/best.h5" data.train="$T/other.h5" data.valid= && grep -E '^init .*: 30 of 30 tensors, 1?[0-9]+ of 280 tokens$' "$T/words.log" && python '
def tokens(f):
    v = f["vocab"]; b = v["bytes"][()].tobytes(); o = v["offsets"][()]
    special = {int(v.attrs[k]): k for k in ("pad", "bos", "eos", "mask") if v.attrs[k] >= 0}
    return [special.get(i, b[o[i]:o[i + 1]]) for i in range(len(o) - 1)]
ours, theirs = map(tokens, files)
known = [t for t in ours if t in theirs]
new, old = (f[g]["vocab_embed.embedding"][()] for f, g in zip(files, ("params", "ema")))
print(len(known), len(ours), [t for t in ours if t not in theirs])
assert 100 < len(known) < len(ours)
for i, t in enumerate(ours): assert (t in theirs) == (t in theirs and np.array_equal(new[i], old[theirs.index(t)])), t' \
    "$T/words/last.h5" "$T/first/best.h5"
}
tap "another vocabulary: known tokens keep their rows" vocabulary

# ---- frozen parameters
frozen() { # N NAME [KEY=VALUE…]: they stay as in the file, all others change
  ranks "$1" train "$D" run.dir="$T/$2" train.weight_decay=0.1 run.init="$T/first/best.h5" "train.freeze=vocab_embed.*, blocks.0.*" "${@:3}" > "$T/log" &&
    python '
for name, value in files[0]["params"].items():
    still = name.startswith(("vocab_embed.", "blocks.0."))
    for group in "params", "ema": assert np.array_equal(files[0][group][name], files[1]["ema"][name]) == still, (group, name)
    assert (files[0]["adam_m"][name][()] == 0).all() == still, name' "$T/$2/last.h5" "$T/first/best.h5"
}
tap "frozen parameters stay, the others are trained" frozen 1 frozen
tap "on 2 ranks that divide the optimizer's state" frozen 2 divided dist.shard_optimizer=true
tap "the same bits" same "$T/frozen/last.h5" "$T/divided/last.h5" params ema adam_m adam_v
bad "train.freeze: no such parameter" 'train.freeze: no parameter of this network is called vocabulary' train "$D" run.dir="$T/no" train.freeze=vocabulary
bad "train.freeze: nothing is left" 'train.freeze = \* leaves no parameter to be trained' train "$D" run.dir="$T/no" "train.freeze=*"

# ---- refused
bad "run.init: no such file" 'none.h5: no such file' train "$D" run.dir="$T/no" run.init="$T/none.h5"
bad "run.init: not a checkpoint" 'valid.h5 is not a checkpoint' train "$D" run.dir="$T/no" run.init="$T/valid.h5"
bad "run.init: another width" 'run.init = .*: no matrix of its layers has the name and shape' train "$D" run.dir="$T/no" model.width=64 run.init="$T/first/best.h5"
mkdir "$T/hand" && cp "$T/first/best.h5" "$T/hand/best.h5"
LOOSE+=(lock)
anew() { # as when a run was killed between its first validation and its first checkpoint
  cp -r "$T/first" "$T/anew" && rm "$T/anew/last.h5" "$T/anew/previous.h5" &&
    ranks 2 train "$D" run.dir="$T/anew" train.steps=2 data.valid="$T/train.h5" > "$T/log" 2>&1 && cat "$T/log" &&
    [ "$(grep -c '^warning: run.dir = .*anew holds checkpoints, but neither last.h5 nor previous.h5: the run begins anew' "$T/log")" = 1 ] &&
    [ "$(grep -c '^warning: data.valid = .*train.h5 holds rows that data.train has, too' "$T/log")" = 1 ]
}
tap "checkpoints without last.h5 are replaced with a warning; training rows as validation data, too" anew
bad "a checkpoint laid into run.dir by hand is not replaced" 'hand holds a checkpoint but no last.h5: .*run.init' train "$D" run.dir="$T/hand"
finish
