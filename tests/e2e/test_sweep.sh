#!/bin/bash
# test_sweep.sh — mdlm sweep: cells, their sharing over ranks and jobs, interruption, the table, and what it refuses.
# limit: 120
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg S=$T/sweep.cfg
prepare && deck "$D" || exit 1
ranks 1 train "$D" > "$T/log" || { cat "$T/log"; exit 1; }
ranks 1 train "$D" run.dir="$T/ar" model.name=ar diffusion.objective=ar > "$T/log" || { cat "$T/log"; exit 1; }
cat > "$S" << DECK
sweep: {
  checkpoints = "$T/run/last.h5; $T/run/prev*.h5; $T/ar/last.h5"; data = "held out=$T/valid.h5; seen=$T/train.h5";
  estimators = "time, count"; seeds = "1, 2"; dir = "$T/one";
};
eval: { batch = 4; sequences = 30; draws = 2; };
device: { threads = 1; };
DECK
CELLS=18 # 2 diffusion checkpoints × 2 data sets × 2 estimators × 2 seeds, and 2 exact ones

sweep() { ranks "$1" sweep "$S" "${@:2}"; } # RANKS [KEY=VALUE…]
table() { ranks 1 sweep "$S" sweep.action=table "$@"; }
cells() { find "$1/cells" -name '*.h5' | wc -l; }

nothing() { sweep 1 sweep.action=plan > "$T/plan" && grep -c '^to do' "$T/plan" && [ ! -e "$T/one" ]; }
tap "the plan writes nothing" nothing
planned() { [ "$(grep -c '^to do' "$T/plan")" = "$CELLS" ] && grep -q "$CELLS cells, 0 done; the others take about" "$T/plan"; }
tap "the plan lists the cells and their time" planned
tap "a sweep on four ranks" sweep 4
complete() { [ "$(cells "$T/one")" = "$CELLS" ] && ! find "$T/one" -name '*.lock' -o -name '*.part' | grep .; }
tap "one file a cell, and no lock or partial file" complete
table > "$T/table"
tap "the table has every cell" grep -q "$CELLS of $CELLS cells are done" "$T/table"
tap "the plan of a finished sweep" eval "sweep 1 sweep.action=plan | grep -q '$CELLS cells, $CELLS done'"

# ---- a cell is what eval computes
one_cell() {
  ranks 1 eval "$D" eval.checkpoint="$T/run/last.h5" eval.data="$T/train.h5" eval.estimator=count eval.draws=2 \
    eval.sequences=30 eval.output="$T/cell.h5" eval.seed=2 > "$T/log" || return 1
  "$PY" - "$T/one/sweep.h5" "$T/cell.h5" "$T/run/last.h5" << 'PYTHON'
import sys, h5py, numpy as np
f, e = h5py.File(sys.argv[1]), h5py.File(sys.argv[2])
c = {k: v[()] for k, v in f["cells"].items()}
text = lambda k: [x.decode() if isinstance(x, bytes) else x for x in c[k]]
here = [i for i in range(len(c["nll"])) if (text("checkpoint")[i], text("data")[i], text("estimator")[i], c["seed"][i])
        == (sys.argv[3], "seen", "count", 2)]
assert len(here) == 1
cell = f["values"][text("name")[here[0]]]
for k in "loss", "tokens", "square":
    assert np.array_equal(cell[k], e[k]), k
assert c["nll"][here[0]] == e["loss"][()].sum() / e["tokens"][()].sum()
assert np.isfinite(c["se_rows"]).sum() == 18 and (c["se_rows"] == 0).sum() == 2  # exact: no noise of masks
assert set(text("status")) == {"done"} and set(text("tokenizer")) == {e.attrs["tokenizer"]}
a, b, d = (f["pairs"][k][()] for k in ("a", "b", "difference"))
assert len(a) == 8 and np.allclose(d, c["nll"][b.astype(int)] - c["nll"][a.astype(int)], atol=1e-12)
PYTHON
}
tap "the values of a cell are those of eval, differences are of the same masks" one_cell

described() { ranks 1 info "$T/one/sweep.h5" > "$T/log" && grep -q mdlm-sweep "$T/log" && grep -q se_source "$T/log" && grep -q whole "$T/log"; }
tap "info describes sweep.h5" described

# ---- forms
csv() { table sweep.format=csv > "$T/csv" && [ "$(wc -l < "$T/csv")" = $((CELLS + 1)) ] && ! grep -qv '^\([^,]*,\)\{10\}[^,]*$' "$T/csv"; }
tap "CSV" csv
markdown() { table sweep.format=markdown | sed -n 2p | grep -q '^| --- |' ; }
tap "Markdown" markdown
latex() { table sweep.format=latex > "$T/tex" && head -1 "$T/tex" | grep -q 'begin{tabular}' && [ "$(grep -c '\\\\$' "$T/tex")" = $((CELLS + 1)) ]; }
tap "LaTeX" latex

# ---- interruptions
same_table() { # NAME FILE [KEY=VALUE…]: whether the table of the sweep in $T/NAME is that file
  table sweep.dir="$T/$1" "${@:3}" | diff "$2" -
}
tap "two ranks a cell" sweep 4 sweep.dir="$T/pairs" sweep.ranks_per_cell=2
tap "give the same table" same_table pairs "$T/table"

LONG_CELLS=eval.draws=100 # tenths of a second each, so that a run is interrupted inside them
more_cells() { [ "$(cells "$1")" -gt "$2" ]; } # FOLDER N
some_cells() { # FOLDER: whether some are done, and not all
  local n
  n=$(cells "$1")
  echo "$n of $CELLS cells are done"
  [ "$n" -gt 0 ] && [ "$n" -lt "$CELLS" ]
}
killed() { # all four ranks die inside cells once one more is done
  local pid pids before
  before=$(cells "$T/killed")
  start "$T/log" 4 sweep "$S" sweep.dir="$T/killed" "$LONG_CELLS"
  pid=$!
  wait_for "$LIMIT" more_cells "$T/killed" "$before" || fail "no cell: $(cat "$T/log")" || return 1
  read -r -a pids <<< "$(rank_pids "$pid" | tr '\n' ' ')"
  kill -KILL "${pids[@]}" || return 1
  ended "$pid" && fail "exit code 0" && return 1
  some_cells "$T/killed"
}
tap "long cells, uninterrupted" sweep 2 sweep.dir="$T/calm" "$LONG_CELLS"
table sweep.dir="$T/calm" "$LONG_CELLS" > "$T/calm-table"
tap "four ranks are killed inside cells" killed
tap "… and again, after at least one more cell" killed
tap "two ranks finish it" sweep 2 sweep.dir="$T/killed" "$LONG_CELLS"
tap "… with the table of the uninterrupted sweep" same_table killed "$T/calm-table" "$LONG_CELLS"
stopped() {
  start "$T/log" 1 sweep "$S" sweep.dir="$T/stopped" "$LONG_CELLS"
  wait_for "$LIMIT" grep ': nll ' "$T/log" || fail "no cell: $(cat "$T/log")" || return 1
  kill -TERM $! && exits 75 ended $! && grep 'stopped by SIGTERM' "$T/log" && some_cells "$T/stopped"
}
tap "a signal stops it with 75 once a cell is done, which is kept" stopped
tap "the same command goes on to the end" sweep 1 sweep.dir="$T/stopped" "$LONG_CELLS"
tap "… with the table of the uninterrupted sweep" same_table stopped "$T/calm-table" "$LONG_CELLS"
jobs_share() { # two jobs at once: each cell is computed once
  start "$T/a" 1 sweep "$S" sweep.dir="$T/shared"
  sweep 1 sweep.dir="$T/shared" > "$T/b" && ended $! || return 1
  [ "$(cat "$T/a" "$T/b" | grep -c ': nll ')" = "$CELLS" ] && [ "$(cells "$T/shared")" = "$CELLS" ]
}
tap "two jobs at once share the cells" jobs_share

# ---- a changed checkpoint is another cell; a cell that fails does not end the others
"$PY" -m mdlm_data.prepare "$T/text" --tokenizer bpe:290 --length 32 --valid-documents 40 --quiet --out-train "$T/x.h5" \
  --out-valid "$T/foreign.h5"
fails() {
  exits 3 sweep 2 sweep.dir="$T/fails" sweep.data="held out=$T/valid.h5; foreign=$T/foreign.h5" > "$T/log" 2>&1 || return 1
  grep -q 'foreign.*vocabular' "$T/log" && grep -q ' failed ' "$T/log" && [ "$(cells "$T/fails")" = $((CELLS / 2)) ]
}
tap "a cell that fails is told and does not end the others" fails
changed() {
  ranks 1 train "$D" train.steps=8 > "$T/log" && sweep 2 > "$T/log" && [ "$(cells "$T/one")" -gt "$CELLS" ] &&
    table > "$T/log" && ! cmp "$T/table" "$T/log"
}
tap "a changed checkpoint is a new cell, and the old ones stay" changed

same_weights() { # as best.h5 and last.h5 at the end of a run
  cp "$T/run/last.h5" "$T/run/copy.h5"
  sweep 2 sweep.checkpoints="$T/run/last.h5; $T/run/copy.h5" sweep.dir="$T/same" sweep.seeds=1 sweep.estimators=count > "$T/log" || return 1
  cat "$T/log"
  # a path that two patterns match is one checkpoint
  [ "$(sweep 1 sweep.checkpoints="$T/run/last.h5; $T/run/l*t.h5" sweep.dir="$T/same" sweep.seeds=1 sweep.estimators=count | grep -c '^[^ ]*last.h5 ')" = 2 ] &&
    [ "$(cells "$T/same")" = 2 ] && [ "$(grep -c '^[^ ]*\(last\|copy\).h5 .* count ' "$T/log")" = 4 ] && ! grep -q ' less ' "$T/log"
}
tap "two checkpoints with the same weights have their cells in common" same_weights

keys_that_matter() { # count reads no key of chain, chain no draws and no T: their cells stay; another seed or order is a new one
  local sweep=(sweep 1 sweep.checkpoints="$T/run/last.h5" sweep.data="$T/valid.h5" sweep.dir="$T/keys" sweep.seeds=)
  set_of() {
    "${sweep[@]}" "${@:2}" > "$T/log" || return 1
    [ "$(cells "$T/keys")" = "$1" ] || fail "$(cells "$T/keys") cells: $*"
  }
  set_of 1 sweep.estimators=count && set_of 1 sweep.estimators=count eval.order=entropy eval.steps=3 && set_of 2 sweep.estimators=count eval.seed=7 &&
    set_of 3 sweep.estimators=chain sweep.T=0,9 && set_of 3 sweep.estimators=chain eval.draws=5 eval.seed=3 &&
    set_of 4 sweep.estimators=chain eval.order=entropy
}
tap "an estimator has a new cell for another value of the keys that it reads only" keys_that_matter

# ---- refusals: one line
refused() { # CODE TEXT KEY=VALUE…
  exits "$1" sweep 1 "${@:3}" > "$T/log" 2>&1
  local right=$?
  cat "$T/log"
  [ "$right" = 0 ] && [ "$(wc -l < "$T/log")" = 1 ] && grep -q -- "$2" "$T/log"
}
tap "a number of draws that is none" refused 2 'sweep.draws = 1,x' sweep.draws=1,x
tap "an unknown estimator" refused 2 'no estimator tim; choose of auto|time|count|chain' sweep.estimators=tim
tap "a pattern without files" refused 3 'no file matches' "sweep.checkpoints=$T/none*.h5"
tap "two data sets of one name" refused 2 'two data sets are called' "sweep.data=$T/valid.h5;$T/run/../valid.h5"
tap "no cell" refused 2 'no cell' sweep.draws=,
tap "ranks that do not divide" eval "exits 2 sweep 3 sweep.ranks_per_cell=2"
unwritable() {
  local code=0
  chmod a-w "$T/one/cells"
  exits 4 sweep 1 sweep.seeds=9 > "$T/log" 2>&1 || code=1
  chmod u+w "$T/one/cells"
  cat "$T/log"
  return "$code"
}
if [ "$(id -u)" = 0 ]; then tap_skip "a directory that cannot be written" "root can write anywhere"; else tap "a directory that cannot be written" unwritable; fi
finish
