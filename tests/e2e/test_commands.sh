#!/bin/bash
# test_commands.sh — what the commands print, write and leave unchanged when there is no error.
# limit: 180
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg
prepare && deck "$D" || exit 1

# prints PATTERN… -- ARGUMENT…: whether mdlm succeeds and its standard output has a line for each pattern
prints() {
  local patterns=() it
  while [ "$1" != -- ]; do patterns+=("$1") && shift; done
  ranks 1 "${@:2}" > "$T/out" || fail "exit code $?" || return 1
  cat "$T/out"
  for it in "${patterns[@]}"; do grep -qE "$it" "$T/out" || fail "no line with: $it" || return 1; done
}

python() { # CODE ARGUMENT…: run Python code with h5py as h5 and numpy as np
  "$PY" -c "import sys, numpy as np, h5py as h5
$1" "${@:2}"
}

# ---- without a deck
narrow() { ! grep -E '^.{81}' "$T/out" && [ -s "$T/out" ]; } # whether the output fits 80 columns
usage() { exits 2 ranks 1 > "$T/out" && grep '^  train  *train' "$T/out" && grep 'mdlm --version' "$T/out" && narrow; }
tap "mdlm alone lists the commands" usage
tap "mdlm --help lists them and succeeds" prints '^  eval  *perplexity' 'mpirun -n RANKS' -- --help
tap "--version names version, revision, compiler and flags" prints '^mdlm [0-9.]+ \(.+\)' 'cc .*-O' -- --version
commands=$("$MDLM" -h | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p')
sections=$(grep -oE '^KEY_[A-Z]+ *\([a-z]+' src/base/keys.def | sed 's/.*(//' | uniq)
pages() { # each command's help fits a terminal, and the sections that it names exist
  local it section
  for it in $commands; do
    prints "^mdlm $it — " '^Usage' '^  Reads  ' '^  Writes  ' '^Example' '^  3 +a file is missing' -- "$it" --help || return 1
    narrow || return 1
    for section in $(sed -n 's/^  Deck  *//p' "$T/out" | tr -d ,); do
      grep -qx "$section" <<< "$sections" || fail "no section $section" || return 1
    done
  done
  [ "$(wc -w <<< "$commands")" -ge 8 ]
}
tap "every command has a page" pages
has_stop() { # those that can be stopped
  local it
  for it in train eval sweep sample score logits; do prints '^  75 +stopped by a signal' -- "$it" any.cfg -h || return 1; done
  ! grep '^  75 ' <("$MDLM" info -h; "$MDLM" compare -h; "$MDLM" check -h)
}
tap "the commands that can be stopped have its exit code" has_stop
all_keys() {
  ranks 1 help > "$T/out" &&
    grep -oE '^KEY_[A-Z]+ *\([a-z]+, [A-Za-z_0-9]+' src/base/keys.def | sed -E 's/.*\(([a-z]+), /\1./' > "$T/keys" &&
    diff "$T/keys" <(sed -n 's/^\([a-z]*\.[A-Za-z_0-9]*\) = .*/\1/p' "$T/out") && narrow
}
tap "help lists every key" all_keys
tap "help KEY shows default, range and unit" \
  prints '^train.steps = 1000000 +\(an integer, 0 to 4294967296 steps\)' -- help train.steps
tap "help of a part of a name" prints '^train.log_every' '^train.valid_every' '^train.save_every' -- help _every
tap "help of a command and section" prints '^mdlm train — ' '^Keys of section train' '^train.lr = ' -- help train
tap "help of words of the help texts" prints '^train.lr = ' '^train.lr_min = ' -- help Learning RATE
tap "help of a word of commands only" prints '^Commands' '^  score ' -- help generative
tap "help of an unknown key fails" exits 2 ranks 1 help no.such.key
manual() { # well-formed, with every command, key and exit code in it
  ranks 1 help --man > "$T/mdlm.1" || return 1
  "$1" "${@:2}" "$T/mdlm.1" > "$T/out" 2>&1 || fail "$1 fails" || return 1
  cat "$T/out"
  [ ! -s "$T/out" ] || return 1
  for it in $commands; do grep -q "^\.SS mdlm $it" "$T/mdlm.1" || fail "no $it" || return 1; done
  diff "$T/keys" <(sed -nE 's/^\\fB([a-z]+\.[A-Za-z_0-9]+) = .*/\1/p' "$T/mdlm.1") && grep -q '^\\fB75\\fR' "$T/mdlm.1"
}
if command -v groff > /dev/null; then
  tap "the man page is well-formed (groff)" manual groff -man -ww -z
elif command -v mandoc > /dev/null; then
  tap "the man page is well-formed (mandoc)" manual mandoc -W warning -T lint
else
  tap_skip "the man page is well-formed" "neither groff nor mandoc is installed"
fi

# ---- a pre-flight writes nothing
leaves() { # FOLDER COMMAND…: whether the command leaves every file there unchanged, with its modification time
  local before
  before=$(find "$1" ! -path "$T/out" ! -path "$T/tap" -printf '%p %s %T@\n' | sort)
  "${@:2}" || return 1
  diff <(echo "$before") <(find "$1" ! -path "$T/out" ! -path "$T/tap" -printf '%p %s %T@\n' | sort)
}
: > "$T/out"
tap "check passes and writes nothing" leaves "$T" prints 'data.train.*good' 'data.valid.*good' '^memory' '^resident' \
  '^step .*6 steps take' '^loss' '^check passed' -- check "$D"
tap "check on 2 ranks" ranks 2 check "$D"
tap "check shows the roofline of a step" prints '^roofline +measured now: [0-9.]+ GFLOP/s' '^ +dense +[0-9.e+-]+ ' '^ +whole step ' \
  -- check "$D"
tap "check predicts other ranks and devices" prints 'predicted for a device of 1.0 TFLOP/s and 10.0 GB/s.*: step [0-9.]+ s' \
  '^plan +predicted: 1 a node by memory \(2 GB/s\), nodes by ethernet \(1.1 GB/s\)' '^ +1 +1 +[0-9.e-]+ +[0-9]+ +1.00 +0 ' \
  '^ +2 +2 +[0-9.e-]+ ' -- check "$D" plan.ranks=2 plan.per_node=1 plan.node_link=memory plan.node_gb_per_s=2 plan.network=ethernet \
  plan.tflops=1 plan.memory_gb_per_s=10
tap "check says which number of ranks is impossible" prints '^ +3 ranks cannot run this deck: .*divide its leaves' -- check "$D" plan.ranks=3
says_plan() { ranks 2 check "$D" plan.ranks=2 2>&1 | grep '^warning: plan.ranks: .*on one rank, not 2'; }
tap "check on 2 ranks predicts nothing and says so" says_plan

partial() {
  prints '^complete' -- train "$D" run.dir="$T/partial" diffusion.schedule=geometric 2> "$T/err" &&
    prints '^nll=' -- eval "$D" run.dir="$T/partial" diffusion.schedule=geometric eval.estimator=time 2>> "$T/err" &&
    [ "$(grep -c 'warning: diffusion.schedule = geometric covers only 0.63' "$T/err")" = 2 ] &&
    python 'assert abs(h5.File(sys.argv[1]).attrs["share"] - 0.63) < 0.01' "$T/partial/eval.h5"
}
tap "a warning if the schedule omits part of the bound" partial

# ---- training, and its files
tap "train" \
  prints '^step 6/6 +loss [0-9.]+ +ppl [0-9.]+ +lr [0-9.e-]+ +\|g\| [0-9.]+ +[0-9]+ tokens/s +mfu [0-9]+% +eta ' \
  '^step 6  validation nll .* ppl ' '^complete at step 6; best validation nll' -- train "$D"
named() { # the log names what the loss is; ppl is that of a bound only
  prints '^loss   cross entropy of the masked tokens, per token; validations measure the bound' \
    '^step 6/6 +loss [0-9.]+ +lr ' '^step 6  validation nll .* ppl ' -- train "$D" run.dir="$T/one" diffusion.weight=one &&
    prints '^loss   part of the bound' '^step 6/6 +loss [0-9.]+ +lr ' -- train "$D" run.dir="$T/clip" diffusion.time=clip &&
    prints '^loss   bound; ' '^step 6/6 +loss [0-9.]+ +ppl ' -- train "$D" run.dir="$T/beta" diffusion.time=beta &&
    python 'assert np.isnan(h5.File(sys.argv[1])["train/ppl"]).all()' "$T/one/metrics.h5"
}
tap "diffusion.weight and diffusion.time: the log names the loss" named
tap "check leaves an existing run unchanged" leaves "$T/run" ranks 1 check "$D"
learned() {
  python 'l = h5.File(sys.argv[1])["train/loss"][()]; print(l); assert l[-10:].mean() < l[:3].mean() - 0.5' "$1"
}
tap "a longer run" ranks 1 train "$D" run.dir="$T/longer" train.steps=80
tap "its loss falls" learned "$T/longer/metrics.h5"
resolved() { # the deck that the run wrote reproduces the run
  ranks 1 train "$D" run.dir="$T/a" run.seed=5 model.dropout=0.2 train.lr=0.02 data.order=sequential &&
    grep -cE 'seed = 5;|dropout = 0.2;|lr = 0.02;|order = "sequential";' "$T/a/deck.cfg" | grep -x 4 &&
    ranks 1 train "$T/a/deck.cfg" run.dir="$T/b" && diff <(sed "s|$T/a|$T/b|" "$T/a/deck.cfg") "$T/b/deck.cfg" &&
    same "$T/a/last.h5" "$T/b/last.h5" params ema adam_m adam_v && ! same "$T/run/last.h5" "$T/b/last.h5" params
}
tap "overrides apply, and the resolved deck reproduces the run" resolved
included() {
  printf '@include "deck.cfg"\ndist: { reduce = "fast"; };\n' > "$T/more.cfg"
  ranks 1 train "$T/more.cfg" run.dir="$T/c" train.steps=1 && grep 'reduce = "fast";' "$T/c/deck.cfg" &&
    grep 'width = 32;' "$T/c/deck.cfg"
}
tap "a deck includes another" included
falls() { # the learning rates of a cosine run; resumed with more steps it has another curve and prints a warning
  local schedule on=(train.lr_min=1e-3 train.warmup=5)
  for schedule in constant cosine wsd; do
    ranks 1 train "$D" run.dir="$T/$schedule" train.lr_schedule="$schedule" train.steps=10 "${on[@]}" &&
      ranks 1 train "$D" run.dir="$T/$schedule" train.lr_schedule="$schedule" train.steps=11 "${on[@]}" \
        2> "$T/$schedule.err" || return 1
  done
  python '
lr = h5.File(sys.argv[1])["train/lr"][()]
want = [1e-3, 1e-2, *(1e-3 + 9e-3 * (1 + np.cos(np.pi * np.arange(1, 9) / 9)) / 2)]
print(lr, want)
assert np.allclose(lr[:10], want, rtol=1e-12, atol=0)' "$T/cosine/metrics.h5" &&
    python 'lr = h5.File(sys.argv[1])["train/lr"][()]; print(lr); assert lr[4] < lr[5] == lr[8] == 1e-2 and lr[9] == 1e-2' \
      "$T/wsd/metrics.h5" && ! grep changed "$T/wsd.err" &&
    grep 'changed since the checkpoint: train.steps = 11, was 10 at step 10$' "$T/cosine.err" && ! grep changed "$T/constant.err"
}
tap "train.lr_schedule = cosine: its rates, and a warning when its length changes" falls
several() { # halves of the text
  local i
  for i in 1 2; do
    sed -n "$i~2p" "$T/text" > "$T/half" &&
      "$PY" -m mdlm_data.prepare "$T/half" --tokenizer "data:$T/train.h5" --length 32 --source text --split train --quiet \
        --out "$T/shard$i.h5" || return 1
  done
  prints ': 629 rows of 32 tokens' -- train "$D" data.train="$T/shard?.h5" run.dir="$T/d"
}
tap "a pattern names several files" several

# ---- evaluation
number='-?[0-9]+\.[0-9]+'
line="^nll=$number bits=$number ppl=$number ci95=\[$number,$number\] sequences=63 tokens=2016 estimator=[a-z]+ draws=[14] T=0 bits_per_byte=$number\$"
evaluate() { # NAME [KEY=VALUE…]: write the last line to $T/NAME.line and the values to $T/NAME.h5
  ranks 1 eval "$D" run.dir="$T/longer" eval.output="$T/$1.h5" "${@:2}" > "$T/out" || return 1
  cat "$T/out"
  tail -n 1 "$T/out" > "$T/$1.line"
  grep -E "$line" "$T/$1.line"
}
tap "eval prints its line" evaluate time eval.estimator=time
tap "eval with estimator = count" evaluate count eval.estimator=count eval.draws=4
tap "eval of the live weights" evaluate live eval.weights=live
adds_up() { # NAME: whether the values of the sequences sum to those of the printed line
  python '
values = h5.File(sys.argv[1]); line = dict(w.split("=") for w in open(sys.argv[2]).read().split())
nll = values["loss"][()].sum() / values["tokens"][()].sum()
error = values["loss"][()] - nll * values["tokens"][()]; n = len(error)
blocks = np.add.reduceat(error, np.arange(0, n, 2)) # rows of running text: 32 blocks of two neighbours
half = 2.039513 * np.sqrt(32 / 31 * (blocks**2).sum()) / values["tokens"][()].sum() # t of 31 degrees of freedom
low, high = map(float, line["ci95"].strip("[]").split(","))
print(nll, half, line)
assert n == int(line["sequences"]) and values["tokens"][()].sum() == int(line["tokens"])
assert abs(nll - float(line["nll"])) < 1e-5 and abs(nll / np.log(2) - float(line["bits"])) < 1e-5
for ours, theirs in ((np.exp(nll), float(line["ppl"])), (np.exp(nll - half), low), (np.exp(nll + half), high)):
    assert abs(ours / theirs - 1) < 1e-5, (ours, theirs)' "$T/$1.h5" "$T/$1.line"
}
for name in time count; do tap "the values of the sequences add up to the line ($name)" adds_up $name; done
agree() { # whether both intervals of the logarithm, widened by half, overlap
  python '
ends = [[float(x) for x in open(p).read().split("ci95=[")[1].split("]")[0].split(",")] for p in sys.argv[1:]]
print(ends)
(a, b), (c, d) = np.log(ends)
assert abs((a + b) - (c + d)) / 2 < 1.5 * ((b - a) + (d - c)) / 2' "$T/time.line" "$T/count.line"
}
tap "the two estimators agree within their intervals" agree
tap "the two weights differ" exits 1 cmp "$T/time.line" "$T/live.line"
tap "eval.sequences = 10" prints 'sequences=10 tokens=320 estimator=count draws=1 T=0 bits' \
  -- eval "$D" run.dir="$T/longer" eval.sequences=10 eval.output="$T/ten.h5"
tap "eval with nothing but run.dir" ranks 1 eval "$D"
tap "eval writes to run.dir" test -s "$T/run/eval.h5"

# ---- samples
tap "sample prints text" \
  prints '^--- sample 0$' '^--- sample 4$' '^5 samples of 32 tokens from .*: ancestral, ' -- sample "$D"
for sampler in cached event; do
  tap "sample.sampler = $sampler" prints "^5 samples of 32 tokens from .*: $sampler, " \
    -- sample "$D" sample.sampler=$sampler sample.output="$T/$sampler.h5"
  tap "$sampler: the ids of ancestral" h5diff "$T/run/samples.h5" "$T/$sampler.h5" /tokens
done
tap "sample.sampler = first_hitting" prints '^5 samples of 32 tokens from .*: first_hitting' \
  -- sample "$D" sample.sampler=first_hitting sample.output="$T/first_hitting.h5"
ar=(sample "$D" run.dir="$T/ar" diffusion.objective=ar model.name=ar sample.sampler=ar)
tap "train with objective ar" ranks 1 train "${ar[@]:1}"
tap "sample.sampler = ar" prints '^5 samples of 32 tokens from .*: ar, 31 network evaluations' \
  -- "${ar[@]}" sample.batch=5 sample.output="$T/ar.h5"
tap "sample.cache = false" ranks 1 "${ar[@]}" sample.batch=5 sample.cache=false sample.output="$T/again.h5"
tap "ar: the same ids with the cache and without" h5diff "$T/ar.h5" "$T/again.h5" /tokens
bos() {
  python 't = h5.File(sys.argv[1])["tokens"]; assert (t[:, 0] == h5.File(sys.argv[2])["vocab"].attrs["bos"]).all()' \
    "$T/ar.h5" "$T/train.h5"
}
tap "ar: bos comes first" bos
tap "sample.sampler = remask" prints '^5 samples of 32 tokens from .*: remask' \
  -- sample "$D" sample.sampler=remask sample.remask=confidence sample.remask_eta=1 sample.output="$T/remask.h5"
tap "remask without remasking" prints '^5 samples' \
  -- sample "$D" sample.sampler=remask sample.remask_eta=0 sample.output="$T/remask0.h5"
tap "remask without remasking: the ids of ancestral" h5diff "$T/run/samples.h5" "$T/remask0.h5" /tokens
# parallel: counted passes and tokens, the ids of one token a pass by several rules, the end of a text
parallel=(sample "$D" sample.sampler=parallel sample.batch=5)
tap "sample.sampler = parallel" prints '^5 samples of 32 tokens from .*: parallel, 8 network evaluations' \
  '^entropy=.*; 8.0 evaluations a sample, 4.00 tokens an evaluation' \
  -- "${parallel[@]}" sample.steps=8 sample.output="$T/parallel.h5"
tap "one token a pass" prints '; 32.0 evaluations a sample, 1.00 tokens an evaluation' \
  -- "${parallel[@]}" sample.steps=32 sample.output="$T/one_each.h5"
tap "a threshold above 1" ranks 1 "${parallel[@]}" sample.commit=threshold sample.threshold=2 sample.output="$T/threshold.h5"
tap "a threshold above 1: one token a pass, the same ids" h5diff "$T/one_each.h5" "$T/threshold.h5" /tokens
tap "a bound of 0" ranks 1 "${parallel[@]}" sample.commit=entropy_bound sample.entropy_bound=0 sample.output="$T/bound.h5"
tap "a bound of 0: one token a pass, the same ids" h5diff "$T/one_each.h5" "$T/bound.h5" /tokens
counted() {
  python '
a = h5.File(sys.argv[1]).attrs
assert (a["sampler"], a["evaluations"], a["evaluated"], a["drawn"]) == ("parallel", 8, 40, 160) and a["tokens_per_evaluation"] == 4
assert "lengths" not in h5.File(sys.argv[1])' "$T/parallel.h5"
}
tap "evaluations and tokens are in the file" counted
tap "info shows them" prints 'tokens_per_evaluation *4' -- info "$T/parallel.h5"
certain() { # temperature 0: no seed matters
  for seed in 1 2; do
    ranks 1 "${parallel[@]}" run.seed="$seed" sample.temperature=0 sample.steps=8 sample.output="$T/certain$seed.h5" || return 1
  done
  h5diff "$T/certain1.h5" "$T/certain2.h5" /tokens
}
tap "temperature 0: the same ids with another seed" certain
ended() {
  ranks 1 "${parallel[@]}" sample.count=40 sample.stop_at_eos=true sample.block_length=4 sample.steps=32 \
    sample.output="$T/ended.h5" && python '
f, v = h5.File(sys.argv[1]), h5.File(sys.argv[2])["vocab"].attrs
ids, lengths = f["tokens"][()], f["lengths"][()]
print(lengths, {k: v[k] for k in ("eos", "pad", "bos")})
assert len(set(lengths)) > 1 and f.attrs["drawn"] == lengths.sum()
for row, n in zip(ids, lengths):
    assert (row[: n - 1] != v["eos"]).all() and (n == 32 or row[n - 1] == v["eos"])
    assert (row[n:] == (v["pad"] if v["pad"] >= 0 else v["eos"])).all()' "$T/ended.h5" "$T/train.h5"
}
tap "sample.stop_at_eos: lengths, and pads behind them" ended
never() {
  ranks 1 "${parallel[@]}" sample.count=40 sample.eos=never sample.steps=8 sample.output="$T/never.h5" &&
    python 'assert (h5.File(sys.argv[1])["tokens"][()] != h5.File(sys.argv[2])["vocab"].attrs["eos"]).all()' "$T/never.h5" "$T/train.h5"
}
tap "sample.eos = never" never
ruled() { # the token that crosses the nucleus is in one of them only
  for rule in usual bd3lm; do
    ranks 1 sample "$D" sample.nucleus=0.5 sample.nucleus_rule="$rule" sample.output="$T/$rule.h5" || return 1
  done
  ! h5diff -q "$T/usual.h5" "$T/bd3lm.h5" /tokens
}
tap "sample.nucleus_rule" ruled
tap "sample with a partial last batch" prints '^3 samples' \
  -- sample "$D" run.seed=2 sample.count=3 sample.batch=2 sample.output="$T/three.h5"
shaped() { # FILE ROWS
  python '
t = h5.File(sys.argv[1])["tokens"][()]
print(t)
assert t.shape == (int(sys.argv[2]), 32) and t.min() >= 0 and t.max() < 299
assert len({r.tobytes() for r in t}) == len(t)' "$@"
}
tap "ids: a row for each sample, all different, no mask left" shaped "$T/run/samples.h5" 5
tap "ids with another seed" shaped "$T/three.h5" 3
tap "ids of ar" shaped "$T/ar.h5" 5

output() { # check the printed text, the entropies of the ids, the digest of the weights, options
  python '
f = h5.File(sys.argv[1]); ids = f["tokens"][()]; a = f.attrs; printed = open(sys.argv[2]).read()
for i, text in enumerate(f["text"].asstr()[()]): # printed with line breaks between sequences
    shown = printed.split(f"--- sample {i}\n")[1].split("--- sample ")[0]
    assert shown.replace("\n", "").startswith(text.replace("\n", "")), (i, text, shown)
for row, nat in zip(ids, f["entropy"][()]):
    p = np.unique(row, return_counts=True)[1] / len(row)
    assert abs(nat + (p * np.log(p)).sum()) < 1e-12
mean = f["entropy"][()].mean()
assert f"entropy={mean:.4f} nat" in printed
assert f["entropy"].attrs["unit"] == "nat" and len(a["checkpoint_digest"]) == 32
options = ("sampler", "steps", "noise_removal", "num_strides", "stride_length", "prompt", "evaluations", "evaluated", "seed")
print([(o, a[o]) for o in options])
assert [a[o] for o in options] == ["ancestral", 16, 1, 0, 0, "", 16, 80, 1] and "width = 32" in a["deck"]' "$1" "$2"
}
through_a_link() {
  mkdir "$T/elsewhere" && : > "$T/elsewhere/samples.h5" && ln -s elsewhere/samples.h5 "$T/link.h5" &&
    ranks 1 sample "$D" sample.output="$T/link.h5" > "$T/out" && [ -L "$T/link.h5" ] && [ -s "$T/elsewhere/samples.h5" ]
}
tap "an output that is a link" through_a_link
written() { ranks 1 sample "$D" sample.output="$T/written.h5" > "$T/out" && output "$T/written.h5" "$T/out"; }
tap "the output holds text, entropies, options and digest" written
digest() { # of the weights alone: equal to that of the evaluation, different from that of another run
  python '
same, evaluated, other = (h5.File(p).attrs["checkpoint_digest"] for p in sys.argv[1:])
print(same, evaluated, other)
assert same == evaluated != other' "$T/written.h5" "$T/run/eval.h5" "$T/time.h5"
}
tap "the digest is that of the weights" digest

# ---- longer samples, prompts and holes
strides=(sample.num_strides=2 sample.stride_length=12)
tap "two strides of 12 tokens" prints '^5 samples of 56 tokens from .*: ancestral, 48 network evaluations' \
  -- sample "$D" "${strides[@]}" sample.output="$T/strides.h5"
begins() { python 'a, b = (h5.File(p)["tokens"][()] for p in sys.argv[1:])
assert b.shape == (5, 56) and (a == b[:, :32]).all() and b.max() < 299' "$T/run/samples.h5" "$T/strides.h5"; }
tap "their first block is the sample without strides" begins
alike() { # NAME RANKS KEY=VALUE…: whether the ids are those of $T/strides.h5
  ranks "$2" sample "$D" "${strides[@]}" sample.output="$T/$1.h5" "${@:3}" && h5diff "$T/strides.h5" "$T/$1.h5" /tokens
}
tap "strides: the same ids in batches of 2" alike strides2 1 sample.batch=2
tap "strides: the same ids on 2 ranks" alike strides_ranks 2
tap "strides: the same ids of event" alike strides_event 1 sample.sampler=event

printf '10 _ 12\n\n_ _ _ 17 18 _ 19\n' > "$T/prompts"
asked() { # FILE ROWS: whether sample i has the tokens of prompt i mod 3
  python '
t = h5.File(sys.argv[1])["tokens"][()]
print(t[:, :8])
want = [[10, -1, 12], [], [-1, -1, -1, 17, 18, -1, 19]]
assert len(t) == int(sys.argv[2]) and t.max() < 299
for i, row in enumerate(t):
    assert all(w in (-1, id) for w, id in zip(want[i % 3], row))
assert len({r.tobytes() for r in t}) == len(t)' "$@"
}
for sampler in ancestral cached event first_hitting; do
  prompted() {
    ranks 1 sample "$D" sample.prompt="$T/prompts" sample.count=8 sample.sampler="$sampler" sample.output="$T/$1.h5" &&
      asked "$T/$1.h5" 8
  }
  tap "prompts: $sampler keeps the fixed tokens" prompted prompted_$sampler
done
tap "prompts: event has the ids of ancestral" h5diff "$T/prompted_ancestral.h5" "$T/prompted_event.h5" /tokens
prompted_ranks() {
  ranks 2 sample "$D" sample.prompt="$T/prompts" sample.count=8 sample.batch=3 sample.output="$T/prompted2.h5" &&
    h5diff "$T/prompted_ancestral.h5" "$T/prompted2.h5" /tokens
}
tap "prompts: the same ids on 2 ranks in batches of 3" prompted_ranks
guided() { # with weight 3 other ids, the same ones on 2 ranks in batches of 3, and none of the prompt's changed
  local keys=(sample.prompt="$T/prompts" sample.count=8 sample.guidance=3)
  ranks 1 sample "$D" "${keys[@]}" sample.output="$T/guided.h5" && asked "$T/guided.h5" 8 &&
    ! h5diff "$T/prompted_ancestral.h5" "$T/guided.h5" /tokens > "$T/diff" &&
    ranks 2 sample "$D" "${keys[@]}" sample.batch=3 sample.output="$T/guided2.h5" &&
    h5diff "$T/guided.h5" "$T/guided2.h5" /tokens
}
tap "prompts: guidance" guided
far() { # a token that only the last block sees
  python 'h5.File(sys.argv[1], "w")["tokens"] = np.where(np.arange(56) == 50, 7, int(sys.argv[2]))[None]' "$T/far.h5" 299 &&
    ranks 1 sample "$D" "${strides[@]}" sample.prompt="$T/far.h5" sample.output="$T/far_out.h5" &&
    python '
a, b = (h5.File(p)["tokens"][()] for p in sys.argv[1:])
assert (b[:, 50] == 7).all() and (a[:, :44] == b[:, :44]).all() and (a[:, 44:] != b[:, 44:]).any()' \
      "$T/strides.h5" "$T/far_out.h5"
}
tap "prompts: as long as samples with strides" far
text_prompts() {
  printf 'ab ____ fed{\n____{3} no\n' > "$T/prompts.txt" &&
    "$PY" -m mdlm_data.prompt "$T/prompts.txt" --data "$T/train.h5" --out "$T/prompts.h5" &&
    ranks 1 sample "$D" sample.prompt="$T/prompts.h5" sample.count=4 sample.output="$T/of_text.h5" && python '
p, t = (h5.File(x)["tokens"][()] for x in sys.argv[1:3])
text = h5.File(sys.argv[2])["text"].asstr()[()]
print(p, text)
assert all(((q == 299) | (q == r)).all() for q, r in zip(np.pad(np.tile(p, (2, 1)), ((0, 0), (0, 32 - p.shape[1])), constant_values=299), t))
assert text[0].startswith("ab") and " fed{" in text[0] and " no" in text[1]' "$T/prompts.h5" "$T/of_text.h5"
}
tap "prompts made from text by mdlm-prompt" text_prompts
tap "info on prompts" prints 'mdlm-prompts' 'tokenizer +bpe' '/tokens +2 values' -- info "$T/prompts.h5"

# With one hole per row, the reverse process draws from p(x0 | the row), which `logits` returns. After a few training
# steps the distributions of the two rows would be too similar to distinguish, so the weights are random and large.
large() {
  python '
import xxhash
r = np.random.default_rng(4)
with h5.File(sys.argv[1], "r+") as f:
    for x in f["ema"].values():
        if x.ndim == 2:
            x[...] = r.uniform(-3, 3, x.shape) / np.sqrt(x.shape[1])
            x.attrs["xxh3"] = xxhash.xxh3_64_hexdigest(x[()].tobytes())' "$T/large.h5"
}
rows() { # two rows of the data with a hole each, stored twice: as prompts and as input of logits
  python '
t = h5.File(sys.argv[1])["tokens"][:2].astype("i4")
t[0, 9] = t[1, 20] = 299
f = h5.File(sys.argv[2], "w"); f["z"] = f["tokens"] = t; f["t"] = [0.5, 0.5]' "$T/valid.h5" "$T/holes.h5"
}
conditional() {
  cp "$T/run/last.h5" "$T/large.h5" && large && rows &&
    ranks 1 logits "$D" logits.checkpoint="$T/large.h5" logits.input="$T/holes.h5" logits.log_p=true \
    logits.output="$T/law.h5" && ranks 1 sample "$D" sample.checkpoint="$T/large.h5" sample.prompt="$T/holes.h5" \
    sample.sampler=event sample.count=8000 sample.batch=400 sample.output="$T/law_samples.h5" > "$T/out" && python '
z, law, t = h5.File(sys.argv[1])["z"][()], np.exp(h5.File(sys.argv[2])["log_p"][()].astype("f8")), h5.File(sys.argv[3])["tokens"][()]
def off(count, p): # chi-square in standard deviations, cells of fewer than 8 expected pooled
    want = p * count.sum(); few = want < 8
    if few.any(): want, count = np.append(want[~few], want[few].sum()), np.append(count[~few], count[few].sum())
    return (((count - want) ** 2 / want).sum() - len(want) + 1) / np.sqrt(2 * (len(want) - 1))
counts = [np.bincount(t[i::2, l], minlength=300) for i, l in ((0, 9), (1, 20))]
laws = [law[0, 9], law[1, 20]]
table = [[off(c, p) for p in laws] for c in counts]
print(table)
assert all((row == q)[q != 299].all() for i, q in enumerate(z) for row in t[i::2])
assert max(table[0][0], table[1][1]) < 4 and min(table[0][1], table[1][0]) > 20' "$T/holes.h5" "$T/law.h5" "$T/law_samples.h5"
}
tap "infilling draws from the conditional of the reverse process" conditional

# ---- info
tap "info on data" prints 'tokenized data, [0-9]+ rows of 32 tokens' '^  bytes +[0-9]+$' '^  words +[0-9]+$' 'V = 300' 'digest [0-9a-f]{32}' 'whole' \
  -- info "$T/train.h5"
tap "info on a checkpoint" prints 'checkpoint at step 6, 1536 tokens' 'vocab_embed.embedding +\[300,32\] +norm' \
  '/adam_v' 'info --deck .* prints it' 'every checksum agrees' -- info "$T/run/last.h5"
tap "info on metrics" prints 'mdlm-metrics' '/train/loss +6 values +nat/token.*; last [0-9.]+$' '/valid/nll +1 values' \
  -- info "$T/run/metrics.h5"
tap "info on an evaluation" prints 'mdlm-eval' '^  estimator +count' '/loss +63 values +nat' -- info "$T/run/eval.h5"
first() { # whether nll, bits and perplexity, as eval printed them, come right after the name
  "$MDLM" info "$T/time.h5" > "$T/out" && cat "$T/out" &&
    [ "$(sed -n '2s/^  nll *\([0-9.]*\) nat per token, \([0-9.]*\) bits$/nll=\1 bits=\2/p;3s/^  ppl */ppl=/p' "$T/out" | paste -sd' ')" = \
      "$(sed 's/ ci95.*//' "$T/time.line")" ]
}
tap "info shows the result of an evaluation first" first
deck_of() { "$MDLM" info --deck "$T/run/$1" | diff - "$T/run/deck.cfg"; }
tap "info --deck prints the deck of a checkpoint and nothing else" deck_of last.h5
tap "info --deck of metrics" deck_of metrics.h5
tap "info --deck fails on data, which have none" exits 3 ranks 1 info --deck "$T/train.h5"
tap "info on samples" prints 'mdlm-samples' 'sampler +ancestral' 'checkpoint_digest +[0-9a-f]{32}' '/tokens +5 ' \
  '/text +5 ' '/entropy +5 values +nat' '^  samples +5, of token entropy [0-9.]+ nat' 'whole' -- info "$T/run/samples.h5"
tap "info on several files" prints 'tokenized data' 'mdlm-metrics' -- info "$T/valid.h5" "$T/run/metrics.h5"
foreign() {
  python 'h5.File(sys.argv[1], "w")["x"] = np.zeros(3)' "$T/foreign.h5" && exits 3 ranks 1 info "$T/foreign.h5"
}
tap "info on a foreign HDF5 file fails" foreign

# ---- memory: predicted by check, measured by check, and used by a run
memory=("$D" model.width=256 model.blocks=4 model.heads=4 train.global_batch=48 train.micro_batch=48 train.steps=2)
expected() { # whether check's prediction is within a tenth of its measurement
  local expected measured
  ranks 1 check "${memory[@]}" > "$T/out" || return 1
  cat "$T/out"
  of_a_run=$(sed -n 's/^ *\([0-9]*\) MiB on rank 0 of a run,.*/\1/p' "$T/out")
  read -r expected measured \
    <<< "$(sed -n 's/^resident *\([0-9]*\) MiB expected, \([0-9]*\) MiB measured.*/\1 \2/p' "$T/out")"
  [ $((10 * (expected > measured ? expected - measured : measured - expected))) -le "$measured" ]
}
resident() { # whether the peak resident set size of a run is within a tenth of the prediction
  "$PY" - "$of_a_run" "$MDLM" train "${memory[@]}" run.dir="$T/memory" << 'PYTHON'
import resource, subprocess, sys
subprocess.run(sys.argv[2:], check=True)
most, expected = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, float(sys.argv[1])
print(most, "MiB,", expected, "expected")
sys.exit(abs(most - expected) > 0.1 * most)
PYTHON
}
of_a_run=0
tap "check: predicted and measured memory agree" expected
tap "a run uses the memory that check predicted" resident

finish
