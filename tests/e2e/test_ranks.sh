#!/bin/bash
# test_ranks.sh — results do not depend on the number of ranks and threads.
# limit: 180
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
STATE=(params ema adam_m adam_v @step @tokens @masked_tokens)
prepare && deck "$T/deck.cfg" || exit 1

# train NAME N [KEY=VALUE…]: train with the deck on N ranks in $T/NAME
train() {
  ranks "$2" train "$T/deck.cfg" run.dir="$T/$1" train.micro_batch=1 "${@:3}"
}

# same_run A B OPTION…: whether the runs $T/A and $T/B ended in the same state with the same losses
same_run() {
  same "$T/$1/last.h5" "$T/$2/last.h5" "${STATE[@]}" "${@:3}" \
    and "$T/$1/metrics.h5" "$T/$2/metrics.h5" train valid --rows "${@:3}"
}

evaluate() { # NAME N [KEY=VALUE…]: write the last line that eval prints to $T/NAME.line
  last_line "$2" eval "$T/deck.cfg" run.dir="$T/one" eval.output="$T/$1.h5" "${@:3}" > "$T/$1.line"
}

same_evaluation() { # NAME N [KEY=VALUE…]
  evaluate "$@" && cat "$T/eval1.line" "$T/$1.line" && cmp "$T/eval1.line" "$T/$1.line" &&
    same "$T/eval1.h5" "$T/$1.h5" tokens and "$T/eval1.h5" "$T/$1.h5" loss --close 1e-6
}

draw() { # NAME N [KEY=VALUE…]
  ranks "$2" sample "$T/deck.cfg" run.dir="$T/one" sample.output="$T/$1.h5" "${@:3}"
}

same_samples() { # NAME N [KEY=VALUE…]
  draw "$@" && same "$T/samples1.h5" "$T/$1.h5" tokens
}

# the comparison of weights is meaningful: another seed gives other weights
differs() {
  train other 1 run.seed=2 && ! same "$T/one/last.h5" "$T/other/last.h5" params
}

tap "train on 1 rank" train one 1
for n in 2 4; do
  tap "train on $n ranks" train ranks$n $n
  tap "$n ranks: same weights, averages, moments and losses as 1 rank, bit for bit" same_run one ranks$n
done
# 12 micro-batches are 12 leaves: any number of ranks that divides 12 sums them in the order of one tree
many=(train.global_batch=24 train.micro_batch=2)
tap "12 micro-batches on 1 rank" train many1 1 "${many[@]}"
for n in 2 3 4 6; do
  tap "12 micro-batches on $n ranks" train many$n $n "${many[@]}"
  tap "12 micro-batches on $n ranks: the bits of 1 rank" same_run many1 many$n
done
# on another number of ranks every two steps; each end is validated
moved() {
  train moved 6 "${many[@]}" train.steps=2 && train moved 4 "${many[@]}" train.steps=4 && train moved 3 "${many[@]}"
}
same_moved() {
  same "$T/many1/last.h5" "$T/moved/last.h5" "${STATE[@]}" and "$T/many1/metrics.h5" "$T/moved/metrics.h5" train --rows
}
tap "resume on 6, then 4, then 3 ranks" moved
tap "resumed on other numbers of ranks: the bits of 1 rank" same_moved
# times of another distribution and another weight: in one run, with the masks of any number of ranks
law=("${many[@]}" train.steps=3 diffusion.time=normal diffusion.weight=one)
tap "normal times, plain cross entropy, on 1 rank" train law1 1 "${law[@]}"
for n in 2 3; do
  tap "normal times, plain cross entropy, on $n ranks" train law$n $n "${law[@]}"
  tap "normal times on $n ranks: the bits of 1 rank" same_run law1 law$n
done
tap "train with 2 threads" train threads 1 device.threads=2
tap "2 threads: the same bits" same_run one threads
tap "dist.reduce = fast on 2 ranks" train fast 2 dist.reduce=fast
tap "dist.reduce = fast: close" same_run one fast --close 1e-4
tap "another seed: other weights" differs
tap "train in micro-batches of 4" train micro 1 train.micro_batch=4
tap "micro-batches: the same masks and times, sums to rounding" same_run one micro --close 1e-4

tap "eval on 1 rank" evaluate eval1 1
tap "eval on 1 rank prints the final line" grep -q '^nll=' "$T/eval1.line"
for n in 2 4; do tap "eval on $n ranks: same line, same values" same_evaluation eval$n $n; done

tap "sample on 1 rank" draw samples1 1
tap "sample on 2 ranks: same ids" same_samples samples2 2
for b in 1 3; do tap "sample.batch = $b: same ids" same_samples batch$b 1 sample.batch=$b; done
# tokens in parallel: each rule with another number of ranks and batch
rule() { # NAME N BATCH [KEY=VALUE…]
  draw "$1" "$2" sample.sampler=parallel sample.steps=8 sample.batch="$3" "${@:4}"
}
same_rule() { rule "$@" && same "$T/rule.h5" "$T/$1.h5" tokens; }
while read -r keys; do
  # shellcheck disable=SC2206
  more=($keys)
  tap "parallel, $keys: 1 rank" rule rule 1 5 "${more[@]}"
  tap "parallel, $keys: 2 ranks, batches of 1" same_rule two 2 1 "${more[@]}"
  tap "parallel, $keys: 3 ranks, batches of 2" same_rule three 3 2 "${more[@]}"
done << 'END'
sample.commit=top_k sample.order=random sample.block_length=8
sample.commit=threshold sample.threshold=0.02 sample.order=margin sample.stop_at_eos=true
sample.commit=entropy_bound sample.entropy_bound=20 sample.temperature=0.7 sample.eos=last
sample.commit=binomial sample.order=entropy sample.num_strides=1 sample.stride_length=9
END
finish
