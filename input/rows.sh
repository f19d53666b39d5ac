# rows.sh — shared by compare.sh and decoders.sh: the rows of their tables, runs with the corpus, steps and optimizer of the
# demo.
# shellcheck shell=bash disable=SC2034
#
# Environment: DATA (data/demo), RUNS (runs/compare), STEPS (those of the demo).
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
    uniform) echo "diffusion.objective=uniform model.time_conditioning=true sample.sampler=psi" ;;
    ar) echo "diffusion.objective=ar model.name=ar model.width=136" ;;
    mamba) echo "model.name=dimamba model.width=120 model.blocks=5" ;;
    *) echo "compare: no row $1: mdlm, bd3lm, d3pm, sedd, uniform, ar, mamba" >&2 && return 2 ;;
  esac
}

# row_keys NAME: set $keys to the overrides of the demo's deck for the run of a row
row_keys() {
  read -r -a keys <<< "$(overrides "$1")"
  keys+=(run.dir="$RUNS/$1" data.train="$DATA/train.h5" data.valid="$DATA/valid.h5" ${STEPS:+train.steps="$STEPS"})
}
