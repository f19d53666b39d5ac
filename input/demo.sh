#!/usr/bin/env bash
# demo.sh — the main job on a real corpus: prepare, train on two ranks, evaluate, sample, plot. Called by `make demo`.
# Environment: BUILD (where mdlm is), PY (the Python with input/requirements.txt), CORPUS (a text file; empty: the King
# James text of Debian's bible-kjv), RANKS (2). Running it again resumes, or says that the run is complete.
set -euo pipefail
MDLM=${BUILD:-build}/mdlm
PY=${PY:-.venv/bin/python}
RANKS=${RANKS:-2}
name=demo
if [ -n "${CORPUS:-}" ]; then
  [ -r "$CORPUS" ] || { echo "demo: CORPUS=$CORPUS: no such file" >&2; exit 2; }
  name=demo-$(basename "${CORPUS%.*}")-$(cksum "$CORPUS" | cut -d' ' -f1)
fi
data=data/$name run=runs/$name
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
keys=(run.dir="$run" data.train="$data/train.h5" data.valid="$data/valid.h5")
mdlm() { mpirun -n "$RANKS" "$MDLM" "$@"; }

echo "== corpus"
mkdir -p "$data"
if [ ! -e "$data/valid.h5" ] || [ ! -e "$data/train.h5" ]; then
  if [ -n "${CORPUS:-}" ]; then
    text=$CORPUS
  else
    text=$data/kjv.txt
    bible -f 'Gen1:1-Rev22:21' | cut -d' ' -f2- > "$text"
  fi
  "$PY" input/prepare.py "$text" --tokenizer bpe:512 --length 16 --wrap --valid-fraction 0.05 --source "$name" \
    --out-train "$data/train.h5" --out-valid "$data/valid.h5"
else
  echo "$data is there already"
fi

echo "== training"
mdlm train input/demo.cfg "${keys[@]}"
echo "== evaluation"
result=$(mdlm eval input/demo.cfg "${keys[@]}")
echo "$result"
echo "== samples"
mdlm sample input/demo.cfg "${keys[@]}"
echo "== plot"
unigram=$("$PY" -c 'import h5py, sys; print(round(h5py.File(sys.argv[1]).attrs["unigram_ppl_train"], 2))' "$data/valid.h5")
"$PY" analysis/plot_metrics.py "$run" --unigram "$unigram" -o "$run/metrics.png"
ppl=$(sed -n 's/.*ppl=\([0-9.]*\).*/\1/p' <<< "$(tail -n 1 <<< "$result")")
echo
echo "validation perplexity $ppl; the best unigram model of the training text has $unigram"
awk -v p="$ppl" -v u="$unigram" 'BEGIN { exit !(p < u / 2) }' || { echo "demo: that is not clearly better" >&2; exit 1; }
