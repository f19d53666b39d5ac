#!/bin/bash
# test_block.sh — block diffusion (diffusion.block): the same bits on any number of ranks, killed and resumed, begun with
# the weights of MDLM; evaluation, profile and samples of a trained network; what is refused.
# limit: 180
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
STATE=(params ema adam_m adam_v @step @tokens @masked_tokens)
D=$T/deck.cfg
prepare && deck "$D" || exit 1
BLOCK=(diffusion.block=4 diffusion.time=clip diffusion.clip_low=0.45 diffusion.clip_high=0.95 train.global_batch=24)

plain() { # NAME N [KEY=VALUE…]: train in $T/NAME on N ranks
  ranks "$2" train "$D" run.dir="$T/$1" train.micro_batch=2 "${@:3}"
}
train() { plain "$1" "$2" "${BLOCK[@]}" "${@:3}"; }
same_run() { # A B
  same "$T/$1/last.h5" "$T/$2/last.h5" "${STATE[@]}" and "$T/$1/metrics.h5" "$T/$2/metrics.h5" train valid --rows
}
tap "train on 1 rank" train one 1
for n in 2 3 4; do
  tap "train on $n ranks" train on$n $n
  tap "$n ranks: same weights, moments and losses as 1 rank, bit for bit" same_run one on$n
done

# killed at once after a checkpoint, and resumed on another number of ranks
killed() { # NAME OF [KEY=VALUE…]: the run OF again
  train_killed "$T/$1" "$D" train.micro_batch=2 "${BLOCK[@]}" "${@:3}" train.log_every=1 && train "$1" 3 "${@:3}" && same "$T/$2/last.h5" "$T/$1/last.h5" "${STATE[@]}"
}
tap "killed, resumed on 3 ranks: the weights of the uninterrupted run" killed killed one

# ---- the search for the times of training, and masks within them
SEARCH=(diffusion.clip_search=true diffusion.resample=true train.valid_every=1)
tap "clip search on 1 rank" train search 1 "${SEARCH[@]}"
searched() { # on N ranks
  train "search$1" "$1" "${SEARCH[@]}" && same_run search "search$1"
}
for n in 2 3 4; do
  tap "clip search on $n ranks: the same times, weights and losses" searched $n
done
tap "clip search, killed, resumed on 3 ranks: the weights of the uninterrupted run" killed search_killed search "${SEARCH[@]}"
in_force() { # the times that a validation has found are those of the next step: a run with them goes on alike
  "$PY" -c "import h5py
v = h5py.File('$T/search/metrics.h5')['valid']
print(*(f'diffusion.clip_{end}={float(v[\"clip_\" + end][0])}' for end in ('low', 'high')))
assert (v['clip_high'][:] - v['clip_low'][:] > 0.49).all() and (v['clip_variance'][:] > 0).all()" > "$T/found" || return 1
  read -ra found < "$T/found"
  train first 1 diffusion.resample=true train.steps=1 && train first 1 diffusion.resample=true train.steps=2 "${found[@]}" &&
    train second 1 "${SEARCH[@]}" train.steps=2 && same "$T/first/last.h5" "$T/second/last.h5" "${STATE[@]}" &&
    train third 1 diffusion.resample=true train.steps=2 && ! same "$T/first/last.h5" "$T/third/last.h5" params
}
tap "clip search: the times that a validation has found are those of the next steps" in_force

tap "blocks of one token" plain single 2 diffusion.block=1
from_mdlm() {
  plain mdlm 1 && plain tuned 2 diffusion.block=8 run.init="$T/mdlm/last.h5" > "$T/log" && cat "$T/log" || return 1
  grep 'init ' "$T/log" && ! grep -E 'new|random' "$T/log"
}
tap "MDLM, then blocks from its weights (run.init)" from_mdlm

# ---- evaluation
evaluate() { # NAME N RUN [KEY=VALUE…]: the last line to $T/NAME.line
  last_line "$2" eval "$D" run.dir="$T/$3" eval.output="$T/$1.h5" "${@:4}" > "$T/$1.line"
}
same_value() {
  evaluate "e$1" "$1" one "${BLOCK[@]}" "${@:2}" && evaluate e1 1 one "${BLOCK[@]}" "${@:2}" && cat "$T/e1.line" "$T/e$1.line" &&
    cmp "$T/e1.line" "$T/e$1.line"
}
tap "eval, count: the same value on 1 and 2 ranks" same_value 2
tap "eval, time: the same value on 1 and 3 ranks" same_value 3 eval.estimator=time
names_block() { # in its line and file; not where there is none
  grep ' T=0 block=4 ' "$T/e1.line" && evaluate plain 1 mdlm && ! grep 'block=' "$T/plain.line" && "$PY" -c "import h5py
assert [h5py.File(f'$T/{name}.h5').attrs['block'] for name in ('e1', 'plain')] == [4, 0]"
}
tap "eval: line and file have the length of a block" names_block
# the likelihood itself: any seed, estimator and batch gives it
exact() {
  evaluate x1 1 single diffusion.block=1 && evaluate x2 1 single diffusion.block=1 eval.seed=7 eval.estimator=time eval.draws=2 eval.batch=5 &&
    same --close 1e-6 "$T/x1.h5" "$T/x2.h5" loss
}
tap "blocks of one token: every draw is the likelihood" exact
# one block is the row: MDLM's network and bound
whole() {
  evaluate w1 1 mdlm && evaluate w2 1 mdlm diffusion.block=32 && same --close 1e-5 "$T/w1.h5" "$T/w2.h5" loss
}
tap "one block: the bound of MDLM" whole
adds_up() {
  ranks 1 eval "$D" run.dir="$T/one" "${BLOCK[@]}" eval.draws=3 > "$T/eval" &&
    ranks 1 profile "$D" run.dir="$T/one" "${BLOCK[@]}" eval.draws=3 > "$T/profile" || return 1
  [[ $(tail -n 1 "$T/profile") == "$(tail -n 1 "$T/eval") accuracy="* ]] || fail "$(tail -n 1 "$T/eval" "$T/profile")" || return 1
  "$PY" tests/e2e/profile.py "$T/one/eval.h5" "$T/one/profile.h5" 3 4
}
tap "profile: the bins add up to the bound of eval" adds_up
next_token() { # blocks of one token: all of a block is masked, and the token before it is visible, but for the first
  ranks 1 profile "$D" run.dir="$T/one" diffusion.block=1 profile.output="$T/next.h5" > "$T/profile" && "$PY" -c '
import sys, mdlm_h5
p = mdlm_h5.profile(sys.argv[1])
rows, tokens = len(p.losses), p.tokens.sum()
print(p.share.tokens, p.distance.tokens, rows, tokens)
assert p.share.tokens[-1] == tokens and p.share.tokens[:-1].sum() == 0
assert p.distance.tokens[-1] == rows and p.distance.tokens[0] == tokens - rows' "$T/next.h5"
}
tap "profile: share and distance are those of what a block sees" next_token
hidden() { # what is behind a short row is hidden from its last block, in causal networks, too
  plain hidden 1 diffusion.block=4 model.name=ar model.mask_padding=true train.steps=1
}
tap "a causal network whose blocks hide padding" hidden

# ---- samples
draw() { # NAME N [KEY=VALUE…]
  ranks "$2" sample "$D" run.dir="$T/one" "${BLOCK[@]}" sample.output="$T/$1.h5" sample.count=6 "${@:3}"
}
same_samples() { # KEY=VALUE…: with and without the cache, on other numbers of ranks and in other batches
  draw s1 1 "$@" && draw s2 2 sample.batch=1 "$@" && draw s3 3 sample.batch=2 sample.cache=false "$@" &&
    same "$T/s1.h5" "$T/s2.h5" tokens and "$T/s1.h5" "$T/s3.h5" tokens
}
while read -r keys; do
  # shellcheck disable=SC2086
  tap "samples, $keys" same_samples $keys
done << 'END'
sample.sampler=first_hitting sample.nucleus=0.9
sample.sampler=ancestral sample.steps=16
sample.sampler=event sample.steps=64 sample.num_strides=3 sample.stride_length=4
sample.sampler=parallel sample.commit=threshold sample.threshold=0.02 sample.stop_at_eos=true
END
counted() { # 6 samples in batches of 2: 7 of 8 blocks enter the cache, by a pass a batch
  draw s1 1 sample.sampler=first_hitting sample.batch=2 | grep ' 96 network evaluations and 21 passes for the cache,' &&
    draw s2 1 sample.sampler=first_hitting sample.cache=false | grep ' 64 network evaluations, ' && "$PY" -c "import h5py
a, b = (h5py.File(f'$T/{name}.h5').attrs for name in ('s1', 's2'))
print(dict(a), dict(b))
assert (a['evaluations'], a['evaluated'], a['cache_passes'], b['cache_passes']) == (96, 192, 21, 0)"
}
tap "passes for the cache are counted beside evaluations" counted
in_training() { # the samples of a run are those of `sample` from its weights
  train watched 2 train.sample_every=6 train.sample_count=2 sample.sampler=first_hitting && same_run one watched &&
    draw s1 1 sample.sampler=first_hitting sample.count=2 && "$PY" -c "import h5py
rows = h5py.File('$T/watched/metrics.h5')['samples/token'][:]
assert (h5py.File('$T/s1.h5')['tokens'][:].ravel() == rows).all()"
}
tap "samples in training" in_training

# ---- other networks, and other blocks
tap "a network without conditioning" plain causal 2 model.name=ar diffusion.block=4
changed() {
  plain mdlm 2 diffusion.block=16 train.steps=8 > "$T/log" 2>&1 && grep 'changed since the checkpoint: diffusion.block = 16, was 0' "$T/log"
}
tap "a resumed run with other blocks goes on, and says so" changed

# ---- refusals
KEEP=$T/one LOOSE=() RANKS=1
refuse() { # NAME PATTERN KEY=VALUE…
  bad "$1" "$2" train "$D" run.dir="$T/no" "${@:3}"
}
refuse "blocks that do not divide a row" 'diffusion.block = 5 does not divide the 32 tokens' diffusion.block=5
refuse "another objective" 'diffusion.objective = sedd has no blocks' diffusion.block=4 diffusion.objective=sedd
refuse "uniform noise" 'diffusion.block = 4: diffusion.objective = uniform has no blocks; they are for subs' diffusion.block=4 \
  diffusion.objective=uniform model.time_conditioning=true
refuse "discrete time" 'diffusion.T = 8 must be 0' diffusion.block=4 diffusion.T=8
refuse "a network conditioned on time" 'have different noise levels' diffusion.block=4 model.time_conditioning=true
refuse "a network without blocks" 'model.name = dimamba has no block diffusion; use model.name = dit or ar' diffusion.block=4 model.name=dimamba
refuse "a search without validations" 'compares losses of validations: set data.valid' diffusion.block=4 diffusion.time=clip \
  diffusion.clip_search=true data.valid=
refuse "a search for other times" 'clip_search looks for the ends of the times' diffusion.clip_search=true
refuse "masks within no times" 'it is for diffusion.time = clip with diffusion.block' diffusion.block=4 diffusion.resample=true
refuse "one token and times" 'no time to draw' diffusion.block=1 diffusion.time=clip
bad "sample without noise removal" 'a block must be complete' sample "$D" run.dir="$T/one" diffusion.block=4 sample.noise_removal=false
printf '1 2 3 _\n' > "$T/prompt"
bad "guidance by a prompt" 'guidance = 2: with diffusion.block = 4 only a class guides' sample "$D" run.dir="$T/one" diffusion.block=4 \
  sample.guidance=2 sample.prompt="$T/prompt"
bad "strides that are no blocks" 'no multiple of diffusion.block = 4' sample "$D" run.dir="$T/one" diffusion.block=4 sample.num_strides=2 sample.stride_length=6
finish
