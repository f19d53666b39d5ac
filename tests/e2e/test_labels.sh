#!/bin/bash
# test_labels.sh — training, evaluating and sampling with classes, on a corpus whose class decides the alphabet: the same bits
# on any number of ranks and after a kill; the bound is lower when the class is given, and samples of a class have its
# letters only; bad labels and keys are refused in one line.
# limit: 300
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"

corpus() { # FILE SEED LINES: records of class "high" with letters i-p, of class "low" with a-h
  "$PY" - "$2" "$3" > "$1" << 'PYTHON'
import json, random, sys
r = random.Random(int(sys.argv[1]))
for i in range(int(sys.argv[2])):
    name, letters = r.choice((("low", "abcdefgh"), ("high", "ijklmnop")))
    record = {"text": "".join(r.choice(letters) for _ in range(r.randint(8, 14))), "kind": name}
    if i % 16 == 0:
        del record["kind"]
    print(json.dumps(record))
PYTHON
}
make_data() { # JSON NAME [OPTION…]
  "$PY" -m mdlm_data.prepare "$1" --tokenizer text8 --documents line --length 16 --no-wrap --quiet --out "$T/$2.h5" "${@:3}"
}
labels=(--label-field kind)
corpus "$T/train.json" 1 480 && corpus "$T/valid.json" 2 96 && make_data "$T/train.json" train "${labels[@]}" &&
  make_data "$T/valid.json" valid "${labels[@]}" && make_data "$T/train.json" plain && deck "$T/deck.cfg" || exit 1

train() { # NAME N STEPS [KEY=VALUE…]
  ranks "$2" train "$T/deck.cfg" run.dir="$T/$1" model.classes=2 train.global_batch=12 train.valid_every=5 train.steps="$3" "${@:4}"
}
same_run() { # A B
  same "$T/$1/last.h5" "$T/$2/last.h5" params ema adam_m adam_v @step and "$T/$1/metrics.h5" "$T/$2/metrics.h5" train --rows
}

# ---- the same bits
on_ranks() { train "on$1" "$1" 10 && same_run on1 "on$1"; }
resumed() { train "part$1" "$1" 4 && train "part$1" "$2" 10 && same_run on1 "part$1"; }
killed() {
  local pid pids
  start "$T/log" 2 train "$T/deck.cfg" run.dir="$T/killed" model.classes=2 train.global_batch=12 train.valid_every=5 \
    train.save_every=2 train.steps=1000000
  pid=$!
  wait_for "$LIMIT" test -e "$T/killed/last.h5" || return 1
  read -r -a pids <<< "$(rank_pids "$pid" | tr '\n' ' ')"
  kill -KILL "${pids[@]}"
  ended "$pid"
  local at
  at=$(sed -n 's/^step \([0-9]*\)\/.*/\1/p' "$T/log" | tail -n 1)
  train killed 1 $((at + 40)) train.save_every=2 && train whole 1 $((at + 40)) train.save_every=2 && same_run whole killed
}
differs() { train hidden 1 10 train.label_dropout=0.9 && ! same "$T/on1/last.h5" "$T/hidden/last.h5" params; }
mixed() { # a set without labels
  local mix="a=2:$T/train.h5; b=1:$T/books.h5"
  corpus "$T/books.json" 3 96 && make_data "$T/books.json" books &&
    train mix1 1 6 data.train="$mix" && train mix2 2 6 data.train="$mix" && same_run mix1 mix2
}
tap "a run on 1 rank" train on1 1 10
for n in 2 3; do tap "on $n ranks: the same weights bit for bit, the same history" on_ranks $n; done
tap "stopped on 2 ranks, resumed on 1: the same" resumed 2 1
tap "killed on 2 ranks, resumed on 1: the same" killed
tap "train.label_dropout counts" differs
tap "mixed with a set without labels" mixed
begun() { # a network without classes goes on with them: at first, with a learning rate of 0, the same network
  ranks 1 train "$T/deck.cfg" run.dir="$T/plain" data.train="$T/plain.h5" train.steps=20 &&
    ranks 2 train "$T/deck.cfg" run.dir="$T/begun" model.classes=2 run.init="$T/plain/last.h5" train.steps=1 > "$T/out" && cat "$T/out" &&
    last_line 1 eval "$T/deck.cfg" run.dir="$T/plain" eval.checkpoint="$T/plain/last.h5" > "$T/a.line" &&
    last_line 1 eval "$T/deck.cfg" run.dir="$T/begun" model.classes=2 > "$T/b.line" && cmp "$T/a.line" "$T/b.line" &&
    grep 'new: cond_map.embedding_table.weight' "$T/out"
}
tap "run.init from a network without classes" begun
for how in "model.name=dimamba" "diffusion.objective=uniform model.time_conditioning=true"; do
  # shellcheck disable=SC2086
  tap "$how" train "other${#how}" 2 4 $how
done

# ---- what a class does
trained() {
  train two 1 600 train.micro_batch=12 train.log_every=200 train.valid_every=0 train.save_every=0 train.lr=5e-3 model.dropout=0 \
    train.sample_every=300 train.sample_count=2 sample.label=low > "$T/out" && grep '^step 600  sample 1: ' "$T/out" && grep '^labels 2 classes' "$T/out"
}
nll() { # NAME [KEY=VALUE…]: evaluates the run `two`
  last_line 1 eval "$T/deck.cfg" run.dir="$T/two" model.classes=2 eval.output="$T/$1.h5" eval.draws=4 "${@:2}" > "$T/$1.line"
}
tells() { # the class is worth log 2 nat a row, and more here: in training only a tenth of the rows had none
  nll with && nll without eval.labels=none && cat "$T/with.line" "$T/without.line" &&
    "$MDLM" info "$T/without.h5" | grep 'labels  *none' && "$MDLM" compare "$T/with.h5" "$T/without.h5" &&
    "$PY" - "$T/with.h5" "$T/without.h5" << 'PYTHON'
import sys, h5py
with h5py.File(sys.argv[1]) as a, h5py.File(sys.argv[2]) as b:
    told = (b["loss"][()] - a["loss"][()]).mean()
    print("nat a row:", told)
    assert told > 0.5, told
PYTHON
}
by_chain() { nll chain eval.estimator=chain eval.sequences=20 && nll chain0 eval.estimator=chain eval.sequences=20 eval.labels=none && ! cmp "$T/chain.line" "$T/chain0.line"; }
profiled() { last_line 2 profile "$T/deck.cfg" run.dir="$T/two" model.classes=2 eval.draws=4 > "$T/line" && grep -F "$(cut -d' ' -f1 "$T/with.line")" "$T/line"; }
swept() {
  ranks 1 sweep "$T/deck.cfg" run.dir="$T/two" model.classes=2 eval.draws=4 sweep.checkpoints="$T/two/last.h5" > "$T/out" &&
    ranks 1 sweep "$T/deck.cfg" run.dir="$T/two" model.classes=2 eval.draws=4 eval.labels=none sweep.checkpoints="$T/two/last.h5" >> "$T/out" &&
    cat "$T/out" && [ "$(find "$T/two/sweep/cells" -name '*.h5' | wc -l)" = 2 ]
}
draw() { # NAME N [KEY=VALUE…]
  ranks "$2" sample "$T/deck.cfg" run.dir="$T/two" model.classes=2 sample.count=24 sample.batch=8 sample.output="$T/$1.h5" "${@:3}" > "$T/out"
}
letters() { # NAME low|high: at least 95 % of the letters are of the class
  "$PY" - "$T/$1.h5" "$2" << 'PYTHON'
import sys, h5py
text = "".join(t.decode() for t in h5py.File(sys.argv[1])["text"][()])
mine = {"low": "abcdefgh", "high": "ijklmnop"}[sys.argv[2]]
both = [c for c in text if c in "abcdefghijklmnop"]
share = sum(c in mine for c in both) / len(both)
print(share, text[:200])
assert len(both) > 100 and share >= 0.95
PYTHON
}
has_letters() { # CLASS GAMMA [KEY=VALUE…]
  draw "$1$2" 1 sample.label="$1" sample.guidance="$2" "${@:3}" && letters "$1$2" "$1" &&
    "$MDLM" info "$T/$1$2.h5" > "$T/out" && grep "guidance  *$2" "$T/out" && grep "label_name  *$1" "$T/out"
}
named() { "$MDLM" info "$T/number.h5" > "$T/out" && grep 'label_name  *low' "$T/out"; }
one_pass() { # gamma = 0 samples without a class; the number of a class is the same as its name
  draw none 1 && draw zero 1 sample.label=low sample.guidance=0 && draw number 1 sample.label=1 &&
    same "$T/none.h5" "$T/zero.h5" tokens and "$T/number.h5" "$T/low1.h5" tokens && ! same "$T/none.h5" "$T/low1.h5" tokens
}
logits() { # of masks: a class has its letters, none is what a file without classes gives, another one is refused
  probe() { ranks 1 logits "$T/deck.cfg" run.dir="$T/two" model.classes=2 logits.input="$T/in.h5" logits.output="$T/logits_$1.h5" logits.log_p=true; }
  "$PY" - "$T/in.h5" "$T/train.h5" << 'PYTHON' && probe plain &&
import sys, h5py, numpy as np
mask = int(h5py.File(sys.argv[2])["vocab"].attrs["mask"])
with h5py.File(sys.argv[1], "w", libver=("v108", "v108")) as f:
    f["z"], f["t"] = np.full((3, 16), mask, "i4"), np.ones(3)
PYTHON
    "$PY" -c 'import h5py, sys; h5py.File(sys.argv[1], "a")["label"] = [-1, 0, 1]' "$T/in.h5" && probe classes && "$PY" - "$T" << 'PYTHON' || return 1
import sys, h5py, numpy as np
plain, classes = (h5py.File(f"{sys.argv[1]}/logits_{x}.h5")["log_p"][()] for x in ("plain", "classes"))
vocab = h5py.File(sys.argv[1] + "/train.h5")["vocab"]
tokens = [vocab["bytes"][i:j].tobytes().decode() for i, j in zip(vocab["offsets"], vocab["offsets"][1:])]
assert (plain[0] == classes[0]).all() and (plain[1:] != classes[1:]).any((1, 2)).all()
share = [[np.exp(row[:, [t in letters for t in tokens]].astype(float)).sum(-1)[1:6].mean() for letters in ("ijklmnop", "abcdefgh")] for row in classes]
print(share)  # of the letters of classes 0 and 1
assert share[1][0] > 0.8 > 0.2 > share[1][1] and share[2][1] > 0.8 > 0.2 > share[2][0]
PYTHON
  "$PY" -c 'import h5py, sys; h5py.File(sys.argv[1], "a")["label"][1] = 2' "$T/in.h5"
  exits 3 probe bad 2> "$T/err"; cat "$T/err"
  grep 'in.h5: label\[1\] = 2 is neither a class from 0 to 1 nor -1' "$T/err"
}
guided_ranks() { draw guided2 2 sample.label=high sample.guidance=2 && same "$T/high2.h5" "$T/guided2.h5" tokens; }
described() { "$MDLM" info "$T/train.h5" > "$T/out"; cat "$T/out"; grep '2 classes, 30 rows without one' "$T/out" && grep 'class 1 .*low' "$T/out"; }
tap "training with samples of a class" trained
tap "the bound is lower with the class" tells
tap "the exact likelihood depends on the class" by_chain
tap "profile: the bound of eval" profiled
tap "sweep: cells with and without the class" swept
tap "samples of a class have its letters" has_letters low 1
tap "guided by 2" has_letters high 2
tap "gamma = 0 and numbers of classes" one_pass
tap "samples of a class given by its number have its name" named
tap "logits of a class" logits
tap "guided samples on 2 ranks: the same" guided_ranks
tap "info shows the classes of a data set" described

# ---- uniform noise
uniform() {
  train uniform 1 700 train.micro_batch=12 train.log_every=200 train.valid_every=0 train.save_every=0 train.lr=5e-3 model.dropout=0 \
    diffusion.objective=uniform model.time_conditioning=true > "$T/out" &&
    ranks 1 sample "$T/deck.cfg" run.dir="$T/uniform" model.classes=2 diffusion.objective=uniform model.time_conditioning=true \
      sample.sampler=psi sample.count=24 sample.batch=8 sample.label=low sample.guidance=2 sample.output="$T/u.h5" > "$T/out" && letters u low
}
tap "guided samples of uniform noise" uniform

# ---- block diffusion
blocks() { # bound and samples with the class; with the cache and without the same
  local x=(diffusion.block=4 model.classes=2) n
  for n in 1 2; do train "blocks$n" "$n" 8 diffusion.block=4 || return 1; done
  same_run blocks1 blocks2 && last_line 1 eval "$T/deck.cfg" run.dir="$T/blocks1" "${x[@]}" > "$T/a.line" &&
    last_line 1 eval "$T/deck.cfg" run.dir="$T/blocks1" "${x[@]}" eval.labels=none > "$T/b.line" && ! cmp "$T/a.line" "$T/b.line" &&
    for n in true false; do
      ranks 1 sample "$T/deck.cfg" run.dir="$T/blocks1" "${x[@]}" sample.label=low sample.cache="$n" sample.output="$T/cache$n.h5" || return 1
    done && same "$T/cachetrue.h5" "$T/cachefalse.h5" tokens &&
    ranks 1 sample "$T/deck.cfg" run.dir="$T/blocks1" "${x[@]}" sample.output="$T/cachenone.h5" && ! same "$T/cachetrue.h5" "$T/cachenone.h5" tokens
}
tap "block diffusion with classes" blocks
guided_blocks() { # with and without the cache, on 1 and 2 ranks, in other batches
  local guided=(sample "$T/deck.cfg" run.dir="$T/blocks1" diffusion.block=4 model.classes=2 sample.label=low sample.guidance=3)
  ranks 1 "${guided[@]}" sample.output="$T/g1.h5" && ranks 1 "${guided[@]}" sample.cache=false sample.output="$T/g2.h5" &&
    ranks 2 "${guided[@]}" sample.batch=2 sample.output="$T/g3.h5" && same "$T/g1.h5" "$T/g2.h5" tokens and "$T/g1.h5" "$T/g3.h5" tokens &&
    ! same "$T/g1.h5" "$T/cachetrue.h5" tokens
}
tap "guided in block diffusion: the same samples with and without the cache, on 1 and 2 ranks" guided_blocks

# ---- what is refused
LOOSE=() KEEP="$T/on1" RANKS="1 2"
change() { # NAME PYTHON: a copy of train.h5 without its seal, changed
  "$PY" - "$T/train.h5" "$T/$1.h5" "$2" << 'PYTHON'
import sys, h5py, numpy as np
with h5py.File(sys.argv[1]) as a, h5py.File(sys.argv[2], "w") as f:
    for name in a: a.copy(name, f)
    for name, value in a.attrs.items(): f.attrs[name] = value
    exec(sys.argv[3])
PYTHON
}
again='l = f["label"][()]; at = dict(f["label"].attrs); del f["label"];'
change range 'f["label"][5] = 2' && change short "$again f['label'] = l[:-1]; f['label'].attrs.update(at)" &&
  change names 'f["label"].attrs["names"] = "low\nhigh"' && change lines 'f["label"].attrs["names"] = "low"' &&
  change count 'del f["label"].attrs["classes"]' && change real "$again f['label'] = l.astype(float); f['label'].attrs.update(at)" || exit 1
base=(train "$T/deck.cfg" run.dir="$T/none" model.classes=2)
bad "data without labels" 'plain.h5 has no labels' "${base[@]}" data.train="$T/plain.h5"
bad "more classes than the network has" 'train.h5 has labels of 2 classes' "${base[@]}" model.classes=1
bad "a causal network" 'model.name = ar cannot' "${base[@]}" model.name=ar diffusion.objective=ar
bad "a label beyond the classes" 'range.h5: row 5 has label 2' "${base[@]}" data.train="$T/range.h5"
bad "too few labels" '/label must be 480 integers' "${base[@]}" data.train="$T/short.h5"
bad "labels that are real numbers" '/label must be 480 integers' "${base[@]}" data.train="$T/real.h5"
bad "other names in the validation" 'names its classes differently' "${base[@]}" data.valid="$T/names.h5"
bad "one name too few" '2 classes and 1 names' "${base[@]}" data.train="$T/lines.h5"
bad "no number of classes" 'attribute classes' "${base[@]}" data.train="$T/count.h5"
RANKS=1
one=(sample "$T/deck.cfg" run.dir="$T/on1")
bad "another number of classes" 'was trained with model.classes = 2' "${one[@]}" model.classes=3
bad "an unknown class" 'sample.label = middle: neither' "${one[@]}" model.classes=2 sample.label=middle
bad "a number beyond the classes" 'sample.label = 2: neither' "${one[@]}" model.classes=2 sample.label=2
bad "guidance without a class" 'weight of a class or of a prompt' "${one[@]}" model.classes=2 sample.guidance=2
finish
