#!/usr/bin/env bash
# demo.sh — prepare a real corpus, train on two ranks, evaluate, sample, report. Called by `make demo`.
# Environment: see lib.sh. A second call resumes the run, or reports that it is complete.
set -euo pipefail
# shellcheck source=input/lib.sh
. input/lib.sh
name=demo
if [ -n "$CORPUS" ]; then name=demo-$(basename "${CORPUS%.*}")-$(cksum "$CORPUS" | cut -d' ' -f1); fi
data=data/$name run=runs/$name
keys=(run.dir="$run" data.train="$data/train.h5" data.valid="$data/valid.h5")

echo "== corpus"
corpus_demo "$data" "$name"

echo "== training"
mdlm train input/demo.cfg "${keys[@]}"
echo "== evaluation"
result=$(mdlm eval input/demo.cfg "${keys[@]}")
echo "$result"
echo "== samples"
mdlm sample input/demo.cfg "${keys[@]}"
echo "== report"
unigram=$("$PY" -c 'import mdlm_h5, sys; print(round(mdlm_h5.data(sys.argv[1]).attributes["unigram_ppl_train"], 2))' "$data/valid.h5")
"$PY" -m mdlm_analysis report "$run" --unigram "$unigram" -o "$run/report.html"
ppl=$(sed -n 's/.*ppl=\([0-9.]*\).*/\1/p' <<< "$(tail -n 1 <<< "$result")")
echo
echo "validation perplexity $ppl; the best unigram model of the training text has $unigram"
awk -v p="$ppl" -v u="$unigram" 'BEGIN { exit !(p < u / 2) }' || { echo "demo: that is not clearly better than the unigram model" >&2; exit 1; }
