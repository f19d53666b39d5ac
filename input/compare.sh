#!/usr/bin/env bash
# compare.sh [NAME…] — train the objectives and networks side by side, with the corpus, steps, batch and optimizer of
# the demo and about the same number of weights. Called by `make compare`. Such small runs show that each method learns;
# they do not rank the methods. With the rows ar and mdlm, bd3lm or uniform, decoders.sh adds exact likelihoods and samples.
# Environment: see lib.sh and rows.sh. A second call resumes.
set -euo pipefail
# shellcheck source=input/lib.sh
. input/lib.sh
# shellcheck source=input/rows.sh
. input/rows.sh

corpus_demo "$DATA" demo
mkdir -p "$RUNS"
[ $# -gt 0 ] || set -- mdlm bd3lm d3pm sedd uniform ar mamba
table=
for name; do
  row_keys "$name"
  echo "== $name"
  mdlm train input/demo.cfg "${keys[@]}" | tee "$RUNS/$name.log"
  mdlm eval input/demo.cfg "${keys[@]}" | tee "$RUNS/$name.eval"
  model=$(sed -n 's/^model  \([^:]*\): \([0-9.]*\) M parameters.*/\1 | \2 M/p' "$RUNS/$name.log")
  result=$(sed -n 's/^nll=\([0-9.]*\) .*ppl=\([0-9.]*\) ci95=\[\([0-9.]*\),\([0-9.]*\)\].*/\1 | \2 | \3 to \4/p' "$RUNS/$name.eval")
  table+="| $name | $model | $result |"$'\n'
done
unigram=$("$PY" -c 'import mdlm_h5, sys; print(round(mdlm_h5.data(sys.argv[1]).attributes["unigram_ppl_train"], 2))' "$DATA/valid.h5")
echo
echo "| method | network | weights | nll, nat per token | perplexity | 95 % interval |"
echo "|---|---|---|---|---|---|"
printf '%s' "$table"
echo "the best unigram model of the training text has $unigram"
[ ! -e "$RUNS/ar/best.h5" ] || input/decoders.sh "$@"
