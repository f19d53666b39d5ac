#!/usr/bin/env bash
# compare.sh [NAME…] — train the objectives and networks side by side, with the corpus, steps, batch and optimizer of
# the demo and about the same number of weights. Called by `make compare`. Such small runs show that each method learns;
# they do not rank the methods.
# Environment: see lib.sh, and DATA (data/demo), RUNS (runs/compare), STEPS (those of the demo). A second call resumes.
set -euo pipefail
# shellcheck source=input/lib.sh
. input/lib.sh
DATA=${DATA:-data/demo}
RUNS=${RUNS:-runs/compare}
STEPS=${STEPS:-}

# overrides NAME: the command-line overrides of the demo's deck for a row of the table. Widths and blocks are chosen so
# that all networks have about the same number of weights: ar has no modulation, dimamba other blocks.
overrides() {
  case $1 in
    mdlm) echo ;;
    bd3lm) echo "diffusion.block=4" ;;
    d3pm) echo "diffusion.objective=d3pm diffusion.T=1000 model.time_conditioning=true" ;;
    sedd) echo "diffusion.objective=sedd model.time_conditioning=true" ;;
    ar) echo "diffusion.objective=ar model.name=ar model.width=136" ;;
    mamba) echo "model.name=dimamba model.width=120 model.blocks=5" ;;
    *) echo "compare: no row $1: mdlm, bd3lm, d3pm, sedd, ar, mamba" >&2 && return 2 ;;
  esac
}

corpus_demo "$DATA" demo
mkdir -p "$RUNS"
[ $# -gt 0 ] || set -- mdlm bd3lm d3pm sedd ar mamba
table=
for name; do
  read -r -a keys <<< "$(overrides "$name")"
  keys+=(run.dir="$RUNS/$name" data.train="$DATA/train.h5" data.valid="$DATA/valid.h5" ${STEPS:+train.steps="$STEPS"})
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
