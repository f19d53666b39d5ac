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
    eval.sequences=30 eval.output="$T/cell.h5" run.seed=2 > "$T/log" || return 1
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
same_table() { # DIR
  table sweep.dir="$1" > "$T/other" && sed "s#$1#$T/one#g" "$T/other" | diff "$T/table" -
}
killed() { # SECONDS: all ranks die without a word
  sweep 4 sweep.dir="$T/two" > "$T/log" 2>&1 & # the ranks' names are those of this temporary directory only
  sleep "$1"
  pkill -KILL -f "$MDLM sweep $S sweep.dir=$T/two"
  wait $!
  true
}
killed 0.4
killed 0.6
tap "killed twice and finished on two ranks" sweep 2 sweep.dir="$T/two"
tap "then the table is the same" same_table "$T/two"
tap "two ranks a cell" sweep 4 sweep.dir="$T/three" sweep.ranks_per_cell=2
tap "give the same table" same_table "$T/three"
stopped() { # stopped by a signal once a cell is done: 75, and the same command goes on
  "$MDLM" sweep "$S" sweep.dir="$T/four" eval.draws=40 > "$T/log" 2>&1 &
  local it=$!
  for _ in $(seq 200); do grep -q nll "$T/log" && break; sleep 0.05; done
  kill -TERM "$it"
  exits 75 wait "$it" && grep -q 'stopped by SIGTERM' "$T/log" || return 1
  local n
  n=$(cells "$T/four")
  [ "$n" -gt 0 ] && [ "$n" -lt "$CELLS" ]
}
tap "a signal stops it with 75 and keeps what is done" stopped
jobs_share() { # two jobs at once: each cell is computed once
  sweep 1 sweep.dir="$T/five" > "$T/a" & sweep 1 sweep.dir="$T/five" > "$T/b"
  wait $!
  [ "$(cat "$T/a" "$T/b" | grep -c ': nll ')" = "$CELLS" ] && [ "$(cells "$T/five")" = "$CELLS" ]
}
tap "two jobs at once share the cells" jobs_share

# ---- a changed checkpoint is another cell; a cell that fails does not end the others
"$PY" -m mdlm_data.prepare "$T/text" --tokenizer bpe:290 --length 32 --valid-documents 40 --quiet --out-train "$T/x.h5" \
  --out-valid "$T/foreign.h5"
fails() {
  exits 3 sweep 2 sweep.dir="$T/six" sweep.data="held out=$T/valid.h5; foreign=$T/foreign.h5" > "$T/log" 2>&1 || return 1
  grep -q 'foreign.*vocabular' "$T/log" && grep -q ' failed ' "$T/log" && [ "$(cells "$T/six")" = $((CELLS / 2)) ]
}
tap "a cell that fails is told and does not end the others" fails
changed() {
  ranks 1 train "$D" train.steps=8 > "$T/log" && sweep 2 > "$T/log" && [ "$(cells "$T/one")" -gt "$CELLS" ] &&
    ! table | diff "$T/table" - > "$T/log"
}
tap "a changed checkpoint is a new cell, and the old ones stay" changed

# ---- refusals: one line
refused() { # CODE TEXT KEY=VALUE…
  exits "$1" sweep 1 "${@:3}" > "$T/log" 2>&1
  local right=$?
  cat "$T/log"
  [ "$right" = 0 ] && [ "$(wc -l < "$T/log")" = 1 ] && grep -q -- "$2" "$T/log"
}
tap "a number of draws that is none" refused 2 'sweep.draws = 1,x' sweep.draws=1,x
tap "an unknown estimator" refused 2 'no estimator tim' sweep.estimators=tim
tap "a pattern without files" refused 3 'no file matches' "sweep.checkpoints=$T/none*.h5"
tap "two data sets of one name" refused 2 'two data sets are called' "sweep.data=$T/valid.h5;$T/run/../valid.h5"
tap "no cell" refused 2 'no cell' sweep.draws=,
tap "ranks that do not divide" eval "exits 2 sweep 3 sweep.ranks_per_cell=2"
chmod a-w "$T/one/cells"
unwritable() { exits 4 sweep 1 sweep.seeds=9 > "$T/log" 2>&1; }
if [ "$(id -u)" = 0 ]; then tap_skip "a directory that cannot be written" "root can write anywhere"; else tap "a directory that cannot be written" unwritable; fi
finish
