#!/bin/bash
# test_likelihood.sh — likelihoods of rows under a named order (eval.estimator = chain), and of targets given contexts.
# limit: 120
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg
prepare && deck "$D" "eval: { batch = 5; sequences = 23; };" || exit 1
ranks 1 train "$D" > "$T/log" || exit 1

# ---- rows
chain=(eval.estimator=chain)
evaluated() { last_line "$1" eval "$D" "${@:2}" 2> "$T/err"; } # RANKS [KEY=VALUE…]
says() { grep -E "$1" <<< "$2"; }                              # PATTERN TEXT

named() {
  local one
  one=$(evaluated 1 "${chain[@]}" eval.output="$T/one.h5") && says ' estimator=chain draws=0 T=0 order=confidence commit=top_k ' "$one" &&
    says ' order=left_to_right commit=top_k ' "$(evaluated 1 "${chain[@]}" eval.order=left_to_right eval.output="$T/left.h5")" &&
    says ' order=entropy commit=entropy_bound ' \
      "$(evaluated 1 "${chain[@]}" eval.order=entropy eval.commit=entropy_bound eval.output="$T/bound.h5")" &&
    ranks 1 info "$T/left.h5" > "$T/log" && grep -E 'estimator_options +order=left_to_right commit=top_k' "$T/log"
}
tap "the result names estimator, order and rule" named
exact() { # no draws: neither their number nor the seed changes a bit; the interval of the rows is a point
  evaluated 1 "${chain[@]}" eval.draws=3 eval.seed=9 eval.output="$T/seed.h5" > "$T/log" &&
    same "$T/one.h5" "$T/seed.h5" loss tokens square && ranks 1 info "$T/seed.h5" > "$T/log" && ! grep 'ci95 of the rows' "$T/log" &&
    "$PY" -c 'import sys, h5py; f = h5py.File(sys.argv[1]); assert f.attrs["draws"] == 0 and not f["square"][()].any()' "$T/one.h5"
}
tap "it has no draws" exact
on_ranks() {
  evaluated 3 "${chain[@]}" eval.batch=4 eval.output="$T/three.h5" > "$T/log" &&
    same "$T/one.h5" "$T/three.h5" loss tokens @nll @nll_low @nll_high
}
tap "the same bits on 1 and 3 ranks, in batches of 5 and 4" on_ranks
stopped() {
  start "$T/log" 1 eval "$D" "${chain[@]}" eval.batch=1 eval.sequences=0 eval.data="$T/train.h5" eval.output="$T/stop.h5"
  local pid=$! code=0
  wait_for "$LIMIT" said "$T/log" '^evaluating' && more "$pid" 20 && kill -TERM "$pid" && ended "$pid" || code=$?
  cat "$T/log"
  [ "$code" = 75 ] && said "$T/log" '^stopped by SIGTERM: [1-9][0-9]* of ' && test -e "$T/stop.h5.part" || return 1
  ranks 2 eval "$D" "${chain[@]}" eval.sequences=0 eval.data="$T/train.h5" eval.output="$T/stop.h5" eval.draws=3 eval.seed=9 > "$T/log" &&
    said "$T/log" '^[1-9][0-9]* of [0-9]+ sequences are in ' || return 1
  ranks 1 eval "$D" "${chain[@]}" eval.sequences=0 eval.data="$T/train.h5" eval.output="$T/whole.h5" > "$T/log" &&
    same "$T/whole.h5" "$T/stop.h5" loss tokens @nll
}
tap "stopped, it goes on from the finished rows whatever the draws, to the same bits" stopped
orders_compared() { # exact values of the same rows may be compared whatever the order
  ranks 1 compare "$T/one.h5" "$T/left.h5" > "$T/log" && grep '^difference=' "$T/log"
}
tap "compare takes two orders" orders_compared
cells() { find "$T/sweep/cells" -name '*.h5' | wc -l; }
swept() {
  local key=("$D" sweep.dir="$T/sweep" "sweep.estimators=count,chain")
  ranks 2 sweep "${key[@]}" sweep.draws=1,2 sweep.seeds=1,2 > "$T/log" && grep -E ' chain +- ' "$T/log" && [ "$(cells)" = 5 ] || return 1
  ranks 1 sweep "${key[@]}" eval.order=left_to_right > "$T/log" && [ "$(cells)" = 6 ] || fail "$(cells) cells" || return 1
  for it in "$T"/sweep/cells/*.h5; do same "$it" "$T/left.h5" loss tokens > "$T/out" && return 0; done
  fail "no cell has the values of eval"
}
tap "a sweep has one cell an order, with the values of eval, and no other one of count" swept

# ---- requests: targets given contexts
requests() { # FILE: rows of the validation data as questions with 3 options, of which the first is the text's own target
  "$PY" - "$T/valid.h5" "$1" << 'PYTHON'
import sys, h5py, numpy as np
d, r = h5py.File(sys.argv[1]), np.random.default_rng(1)
tokens, offset, context, target, option, gold = [], [], [], [], [], []
special = {int(d["vocab"].attrs[k]) for k in ("mask", "bos", "eos", "pad")}
plain = [i for i in range(d["vocab"].attrs["size"]) if i not in special]
for q in range(12):
    row = [int(x) for x in d["tokens"][q]]
    for k in range(3):
        c, t = 1 + q, 1 + q % 5
        offset.append(len(tokens)), context.append(c), target.append(t), option.append(q), gold.append(k == 0)
        tokens += row[:c] + [int(x) for x in (row[c : c + t] if k == 0 else r.choice(plain, t))]
with h5py.File(sys.argv[2], "w") as f:
    f.attrs["format"] = "mdlm-requests"
    f.attrs["tokenizer"], f.attrs["tokenizer_hash"] = d["vocab"].attrs["tokenizer"], d["vocab"].attrs["hash"]
    for name, x in dict(tokens=tokens, offset=offset, context_length=context, target_length=target, option_of=option).items():
        f["requests/" + name] = np.array(x, np.int64)
    f["requests/gold"] = np.array(gold, np.int8)
    f["requests/bytes"] = np.array(target, np.int64) * 3
PYTHON
}
requests "$T/requests.h5" || exit 1
ask=(likelihood "$D" likelihood.requests="$T/requests.h5")
answer() { ranks "$1" "${ask[@]}" likelihood.output="$T/$2.h5" "${@:3}" > "$T/log" 2> "$T/err" && tail -n 1 "$T/log"; } # RANKS NAME [KEY=VALUE…]
series="results/ll results/stderr results/is_greedy results/draws"

answers() {
  says '^nll=[0-9.]+ requests=36 tokens=99 estimator=count draws=4 bits_per_byte=[0-9.]+ questions=12 acc=[0-9.]+ acc_stderr=[0-9.]+ acc_norm=' \
    "$(answer 1 count eval.draws=4)" && ! grep greedy= "$T/log" &&
    says ' estimator=chain draws=0 order=confidence commit=top_k .* greedy=' "$(answer 1 chain "${chain[@]}")" &&
    ranks 1 info "$T/requests.h5" > "$T/log" && grep '/requests/tokens' "$T/log" &&
    ranks 1 info "$T/chain.h5" > "$T/log" && grep '/results/ll' "$T/log" && grep -E 'acc +[01]' "$T/log"
}
tap "likelihood: questions, options and their targets" answers
same_answers() {
  answer 3 count3 eval.draws=4 eval.batch=2 && answer 2 chain2 "${chain[@]}" eval.batch=3 || return 1
  # shellcheck disable=SC2086
  same "$T/count.h5" "$T/count3.h5" $series @acc and "$T/chain.h5" "$T/chain2.h5" $series @acc
}
tap "the same bits on 1, 2 and 3 ranks" same_answers
sane() { # the mean over many draws is a lower bound; one mask is exact; decoding tells the same beside draws
  answer 1 many eval.draws=64 likelihood.greedy=true && "$PY" - "$T" << 'PYTHON'
import sys, h5py, numpy as np
many, few, chain = (h5py.File(f"{sys.argv[1]}/{n}.h5")["results"] for n in ("many", "count", "chain"))
one = many["tokens"][()] == 1
assert one.any() and np.array_equal(many["ll"][()][one], few["ll"][()][one]) and (many["stderr"][()][one] == 0).all()
assert np.allclose(many["ll"][()][one], chain["ll"][()][one], rtol=1e-6, atol=0)
assert (many["draws"][()] == np.where(one, 1, 64)).all()
off = (many["ll"][()] - few["ll"][()])[~one] / few["stderr"][()][~one]
print(off)
assert np.median(np.abs(off)) < 2 and np.abs(off).max() > 0
assert np.array_equal(many["is_greedy"][()], chain["is_greedy"][()])
PYTHON
}
tap "one mask is exact, many draws agree with few, decoding is that of the order by confidence" sane
rests() { # the padding of these byte-level tokens is the mask
  answer 1 masks "${chain[@]}" likelihood.rest=mask && answer 1 pads "${chain[@]}" likelihood.rest=pad || return 1
  # shellcheck disable=SC2086
  ! same "$T/chain.h5" "$T/masks.h5" $series && same "$T/masks.h5" "$T/pads.h5" $series
}
tap "likelihood.rest matters" rests
causal() { # exact from left to right, whatever section eval says of draws
  ranks 1 train "$D" run.dir="$T/ar" model.name=ar diffusion.objective=ar > "$T/log" || return 1
  local ar=(model.name=ar diffusion.objective=ar eval.checkpoint="$T/ar/last.h5")
  says ' estimator=exact draws=0 .* greedy=' "$(answer 1 ar "${ar[@]}" eval.draws=3)" && answer 2 ar2 "${ar[@]}" eval.seed=5 || return 1
  # shellcheck disable=SC2086
  same "$T/ar.h5" "$T/ar2.h5" $series
}
tap "networks that predict the next token" causal
state_space() {
  ranks 1 train "$D" run.dir="$T/mamba" model.name=dimamba > "$T/log" || return 1
  local net=(model.name=dimamba eval.checkpoint="$T/mamba/last.h5")
  answer 1 mamba "${net[@]}" likelihood.rest=mask && ! answer 1 mamba "${net[@]}" && cat "$T/err" &&
    one_line "$T/err" 'likelihood.rest = hidden hides .* which model.name = dimamba has not; use mask' 1
}
tap "networks without attention" state_space
goes_on() {
  start "$T/log" 1 "${ask[@]}" likelihood.output="$T/later.h5" eval.batch=1 eval.draws=1000
  local pid=$! code=0
  wait_for "$LIMIT" said "$T/log" '^likelihood of' && more "$pid" 20 && kill -TERM "$pid" && ended "$pid" || code=$?
  cat "$T/log"
  [ "$code" = 75 ] && said "$T/log" '^stopped by SIGTERM: [1-9][0-9]* of 36 requests' || return 1
  ranks 2 "${ask[@]}" likelihood.output="$T/later.h5" eval.draws=1000 eval.order=entropy > "$T/log" && said "$T/log" ' of 36 requests are in ' || return 1
  answer 1 all eval.draws=1000 || return 1
  # shellcheck disable=SC2086
  same "$T/all.h5" "$T/later.h5" $series
}
tap "stopped, likelihood goes on whatever the order, to the same bits" goes_on
too_long() {
  "$PY" - "$T/requests.h5" "$T/long.h5" << 'PYTHON'
import sys, h5py, numpy as np
with h5py.File(sys.argv[1]) as f, h5py.File(sys.argv[2], "w") as g:
    for k, v in f.attrs.items(): g.attrs[k] = v
    x = f["requests/tokens"][()][:40]
    g["requests/tokens"], g["requests/offset"] = x, np.array([0, 8])
    g["requests/context_length"], g["requests/target_length"] = np.array([36, 28]), np.array([4, 4])
PYTHON
  ranks 1 likelihood "$D" "${chain[@]}" likelihood.requests="$T/long.h5" likelihood.output="$T/cut.h5" > "$T/log" 2>&1 &&
    grep '^warning: 1 of 2 contexts do not fit into the 32 tokens' "$T/log" && ! grep 'acc=' "$T/log" && "$PY" -c '
import sys, h5py
r = h5py.File(sys.argv[1])["results"]
print(r["cut"][()], r["ll"][()])
assert list(r["cut"][()]) == [8, 0] and r["ll"][0] == r["ll"][1]' "$T/cut.h5"
}
tap "a context that is too long loses its first tokens" too_long

padded() { # rows with padding: eval and likelihood are one computation
  "$PY" -m mdlm_data.prepare "$T/text" --tokenizer "data:$T/train.h5" --length 32 --no-wrap --quiet --out "$T/lines.h5" &&
    "$PY" - "$T" << 'PYTHON' || return 1
import sys, h5py, numpy as np
with h5py.File(f"{sys.argv[1]}/lines.h5") as d, h5py.File(f"{sys.argv[1]}/padded.h5", "w") as f:
    n = d["lengths"][()]
    assert n.min() < 32
    f.attrs["format"] = "mdlm-requests"
    f.attrs["tokenizer"], f.attrs["tokenizer_hash"] = d["vocab"].attrs["tokenizer"], d["vocab"].attrs["hash"]
    f["requests/tokens"] = np.concatenate([row[:k] for row, k in zip(d["tokens"][()], n)]).astype(np.int32)
    f["requests/offset"], f["requests/target_length"] = np.cumsum(n) - n, n
    f["requests/context_length"] = np.zeros(len(n), np.int64)
PYTHON
  ranks 2 likelihood "$D" "${chain[@]}" likelihood.requests="$T/padded.h5" likelihood.rest=pad likelihood.output="$T/pads.h5" > "$T/log" &&
    evaluated 2 "${chain[@]}" eval.sequences=0 eval.data="$T/lines.h5" eval.output="$T/lined.h5" > "$T/log" && "$PY" -c '
import sys, h5py, numpy as np
a, b = h5py.File(sys.argv[1]), h5py.File(sys.argv[2])
assert np.array_equal(a["loss"][()], -b["results/ll"][()]) and np.array_equal(a["tokens"][()], b["results/tokens"][()])
' "$T/lined.h5" "$T/pads.h5"
}
tap "rows with padding: the values of eval, bit for bit" padded
tasks() { # questions as text, by the tokenizer of the data
  head -n 40 "$T/text" | "$PY" -c '
import json, sys
lines = [line.split() for line in sys.stdin]
for i, words in enumerate(lines):
    choices = [" ".join(words[3:6]), " ".join(lines[i - 1][-3:])]
    print(json.dumps({"question": " ".join(words[:3]), "choices": choices, "gold": 0}))' > "$T/tasks.jsonl" &&
    "$PY" -m mdlm_data.tasks "$T/tasks.jsonl" --data "$T/valid.h5" --out "$T/tasks.h5" > "$T/log" && cat "$T/log" &&
    ranks 2 likelihood "$D" likelihood.requests="$T/tasks.h5" likelihood.output="$T/tasked.h5" eval.draws=2 > "$T/log" &&
    grep -E 'requests=80 .* questions=40 acc=[0-9.]+ .* acc_norm=' "$T/log" &&
    ranks 1 info "$T/tasks.h5" > "$T/log" && grep 'mdlm-requests' "$T/log" && grep 'whole' "$T/log"
}
tap "questions made of text by mdlm-tasks" tasks

KEEP=$T/run LOOSE=()
RANKS="1 2"
bad "profile needs draws" 'eval.estimator = chain draws none' profile "$D" "${chain[@]}"
bad "a rule that compares no probability" 'eval.commit = threshold compares scores' eval "$D" "${chain[@]}" eval.commit=threshold eval.order=entropy
bad "no requests" 'likelihood.requests is empty' likelihood "$D"
spoil() { # NAME CODE: the file of requests after that line of Python on f
  cp "$T/requests.h5" "$T/$1.h5" && "$PY" -c "import sys, h5py; f = h5py.File(sys.argv[1], 'r+'); $2" "$T/$1.h5"
}
bad_requests() { # NAME CODE PATTERN
  spoil "$1" "$2" && bad "$1" "$3" likelihood "$D" likelihood.requests="$T/$1.h5" likelihood.output="$T/none.h5"
}
RANKS=1
bad_requests "tokens of another vocabulary" 'f.attrs["tokenizer_hash"] = "0"' 'holds tokens of .* translate them'
bad_requests "no token" 'f["requests/tokens"][3] = 4000' '/requests/tokens has 4000 at 3'
bad_requests "a request beyond the tokens" 'f["requests/target_length"][35] = 30' 'request 35 has offset'
bad_requests "a question that is none" 'f["requests/option_of"][2] = 99' '/requests/option_of of request 2 is 99: not 0 to 35'
bad_requests "a missing series" 'del f["requests/target_length"]' 'no data set /requests/target_length'
bad_requests "a mask in a target" 'f["requests/tokens"][1] = f["requests/tokens"][1] * 0 + int(h5py.File("'"$T/valid.h5"'")["vocab"].attrs["mask"])' \
  'the target of request 0 has a mask token'
bad "an estimator of whole rows" 'eval.estimator = time does not estimate .* for diffusion.objective = subs that does: count(,| or) chain' \
  "${ask[@]}" likelihood.output="$T/none.h5" eval.estimator=time
ranks 1 train "$D" run.dir="$T/block" diffusion.block=4 > "$T/log" || exit 1
bad "with blocks an estimator with draws" 'eval.estimator = count does not estimate .* for diffusion.objective = subs with diffusion.block that does: chain$' \
  "${ask[@]}" likelihood.output="$T/none.h5" diffusion.block=4 eval.checkpoint="$T/block/last.h5"
finish
