#!/bin/bash
# test_mixture.sh — training on several sets in fixed shares: the same weights on any number of ranks and after a stop,
# the counts that are told, other sets and weights on resuming, lists that are refused.
# limit: 180
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
corpus() { # NAME SEED LINES: $T/NAME.h5, other text with the tokens of $T/train.h5
  "$PY" - "$2" "$3" > "$T/$1.txt" << 'PYTHON' || return 1
import random, sys
r = random.Random(int(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    print(" ".join("".join(r.choice("acegikmo") for _ in range(4)) for _ in range(12)))
PYTHON
  "$PY" -m mdlm_data.prepare "$T/$1.txt" --tokenizer "data:$T/train.h5" --length "${4:-32}" --quiet --out "$T/$1.h5"
}
prepare && corpus books 3 60 && corpus news 4 9 && corpus long 5 60 64 && deck "$T/deck.cfg" || exit 1
MIX="text=0.5:$T/train.h5; books=0.3:$T/books.h5; news=0.2:$T/news.h5"

train() { # NAME N STEPS [KEY=VALUE…]: on N ranks in $T/NAME, up to STEPS
  ranks "$2" train "$T/deck.cfg" run.dir="$T/$1" data.train="$MIX" train.global_batch=12 train.valid_every=5 train.steps="$3" "${@:4}"
}
same_run() { # A B
  same "$T/$1/last.h5" "$T/$2/last.h5" params ema adam_m adam_v @step @sequences @tokens \
    and "$T/$1/last.h5" "$T/$2/last.h5" metrics/train --rows and "$T/$1/metrics.h5" "$T/$2/metrics.h5" train --rows
}
on_ranks() { train "on$1" "$1" 10 && same_run on1 "on$1"; }
resumed() { train "part$1" "$1" 4 && train "part$1" "$2" 10 && same_run on1 "part$1"; }
not_alone() { # other weights are another run
  train other 1 10 data.train="text=0.6:$T/train.h5; books=0.2:$T/books.h5; news=0.2:$T/news.h5" && ! same_run on1 other
}
tap "a run on 1 rank" train on1 1 10
for n in 2 3; do tap "on $n ranks: the same weights bit for bit, the same history" on_ranks $n; done
tap "stopped on 2 ranks, resumed on 1: the same" resumed 2 1
tap "stopped on 1 rank, resumed on 3: the same" resumed 1 3
tap "other weights: another run" not_alone

# ---- what is told
counts() { # 120 draws: 60, 36, 24
  "$PY" - "$T/on1/metrics.h5" "$T/on1/last.h5" << 'PYTHON'
import sys, h5py
with h5py.File(sys.argv[1]) as f, h5py.File(sys.argv[2]) as c:
    for name, share in (("text", 0.5), ("books", 0.3), ("news", 0.2)):
        d = f[f"train/sequences_{name}"]
        assert d.attrs["unit"] == "sequence" and name in d.attrs["description"], dict(d.attrs)
        assert all(abs(x - 12 * share * step) < 1 for x, step in zip(d[()], f["train/step"][()])), d[()]
        assert c[f"mixture/{name}"].attrs["drawn"] == 120 * share == d[-1]
PYTHON
}
told() { # COMMAND-OUTPUT PATTERN…
  cat "$1"
  local p
  for p in "${@:2}"; do grep -qE "$p" "$1" || fail "no line $p" || return 1; done
}
logged() { train logged 1 10 > "$T/out" && told "$T/out" '^set +books: 30 % of the draws, .*; 0 sequences drawn' '^set +books: .*; 36 sequences drawn, '; }
checked() {
  ranks 1 check "$T/deck.cfg" run.dir="$T/no" data.train="$MIX" train.global_batch=12 > "$T/out" 2>&1 &&
    told "$T/out" '^books +.*books.h5: [0-9]+ rows .*: good' '^rows .* of news, 20 % of the draws: an epoch is .* the run .* epochs'
}
described() { "$MDLM" info "$T/on1/last.h5" > "$T/out" && told "$T/out" 'set books: 30 % of the draws, 36 sequences so far, 0.4 epochs, data [0-9a-f]{32}' 'whole: '; }
tap "metrics.h5 and the checkpoint have the counts" counts
tap "the log has them" logged
tap "check reads each set and tells its epochs" checked
tap "info tells the mixture of a checkpoint" described

# ---- other sets, weights or batch on resuming
bigger() { train "big$1" "$1" 4 && train "big$1" "$2" 8 train.global_batch=24 > "$T/out" && ! grep "has changed" "$T/out"; }
reads() { "$PY" -c 'import h5py, sys; f = h5py.File(sys.argv[1]); print(*(f["mixture"][n].attrs["drawn"] for n in f["mixture"]))' "$T/$1/last.h5"; }
batch() { bigger 2 1 && bigger 1 3 && same_run big1 big2 && [ "$(reads big1)" = "43 29 72" ]; }
tap "another global batch: the sets go on" batch
changed() {
  cp -r "$T/part1" "$T/changed" && train changed 2 14 data.train="text=1:$T/train.h5; news=3:$T/news.h5" > "$T/out" &&
    told "$T/out" '^data.train has changed since step 10: news, now 75 %, goes on after 24 sequences; text, now 25 %, goes on after 60 sequences; books is left after 36$' &&
    [ "$(reads changed)" = "60 72" ] && train changed 1 16 data.train="news=3:$T/news.h5;text=1:$T/train.h5" > "$T/out" &&
    ! grep "has changed" "$T/out"
}
tap "other sets and weights: one line tells how each goes on" changed
grows() {
  train single 1 4 data.train="$T/train.h5" && "$MDLM" info "$T/single/last.h5" > "$T/out" && ! grep ' set ' "$T/out" &&
    train single 2 8 > "$T/out" &&
    told "$T/out" 'changed since step 4: books, now 30 %, begins; news, now 20 %, begins; text, now 50 %, goes on after 48 sequences$' &&
    train single 3 9 data.train="$T/books.h5" > "$T/out" && told "$T/out" 'data, now 100 %, goes on after 15 sequences; ' &&
    train single 1 10 data.train="$T/books.h5" > "$T/out" && ! grep "has changed" "$T/out"
}
tap "from one set to several to another one" grows
foreign() {
  cp -r "$T/part1" "$T/foreign" && corpus strange 9 40 && exits 2 train foreign 2 12 data.train="$T/strange.h5" 2> "$T/err"
  one_line "$T/err" "was trained on other data" 2
}
tap "no set in common: refused" foreign

# ---- lists that are refused, on 1 and 2 ranks
bad() { # PATTERN CODE LIST
  local n
  for n in 1 2; do
    exits "$2" train bad "$n" 3 data.train="$3" 2> "$T/err" || return 1
    one_line "$T/err" "data.train: .*$1" "$n" || return 1
    [ ! -e "$T/bad/last.h5" ] || return 1
  done
}
tap "a weight that is no number" bad 'the weight of a is "x"' 2 "a=x:$T/train.h5; b=1:$T/books.h5"
tap "weights of 0" bad 'the weight of a is "0"' 2 "a=0:$T/train.h5; b=0:$T/books.h5"
tap "a name twice" bad 'two sets are called a' 2 "a=1:$T/train.h5; a=1:$T/books.h5"
tap "the same rows twice" bad 'a and b hold the same rows' 2 "a=1:$T/train.h5; b=1:$T/train.h5"
tap "a missing file" bad 'nothing.h5: no such file' 3 "a=1:$T/train.h5; b=1:$T/nothing.h5"
tap "a set without a weight" bad 'is not NAME=WEIGHT:FILES' 2 "a=1:$T/train.h5; b=$T/books.h5"
tap "rows of another length" bad 'long.h5 has rows of 64 tokens' 3 "a=1:$T/train.h5; b=1:$T/long.h5"

# ---- data that change under the run
changes() {
  local code=0
  cp "$T/news.h5" "$T/moving.h5" && sleep 0.05
  start "$T/log" 1 train "$T/deck.cfg" run.dir="$T/moving" train.steps=1000000 data.train="a=9:$T/train.h5; b=1:$T/moving.h5"
  wait_for "$LIMIT" test -e "$T/moving/previous.h5" || fail "it does not start" || return 1
  truncate -s 5000 "$T/moving.h5"
  ended $! || code=$?
  cat "$T/log"
  [ "$code" = 3 ] && grep "mdlm: error.*$T/moving.h5 was changed" "$T/log" && "$MDLM" info "$T/moving/last.h5" | grep "checkpoint at step"
}
tap "a set that changes under the run ends it" changes
finish
