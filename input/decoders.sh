#!/usr/bin/env bash
# decoders.sh NAME… — of runs of compare.sh: exact likelihoods in several orders, and samples by several decoders with their
# perplexity under the run `ar`. That judge is as small as the others and has learned from the same text: its numbers compare
# decoders of these runs and nothing else. Called by compare.sh.
# Environment: see lib.sh and rows.sh, and SAMPLES (1024).
set -euo pipefail
# shellcheck source=input/lib.sh
. input/lib.sh
# shellcheck source=input/rows.sh
. input/rows.sh
SAMPLES=${SAMPLES:-1024}
OUT=$RUNS/decoders
chains='' files=() times=''

# chain NAME ORDER: the likelihood of the validation rows
chain() {
  local line
  line=$(mdlm eval input/demo.cfg "${keys[@]}" eval.estimator=chain eval.order="$2" eval.output="$OUT/$1-$2.eval.h5" | tail -n 1)
  chains+=$(sed -n "s/^nll=\([0-9.]*\) .*ppl=\([0-9.]*\) ci95=\[\([0-9.]*\),\([0-9.]*\)\].*/| $1 | ${2//_/ } | \1 | \2 | \3 to \4 |/p" <<< "$line")$'\n'
}

# decode NAME LABEL KEY=VALUE…: samples of a run, scored by the judge
decode() {
  local file=$OUT/$1-$2
  mdlm sample input/demo.cfg "${keys[@]}" sample.count="$SAMPLES" sample.batch=64 sample.output="$file.h5" "${@:3}" > "$file.log"
  mdlm score input/demo.cfg "${keys[@]}" score.checkpoint="$RUNS/ar/best.h5" score.input="$file.h5" \
    score.output="$file.score.h5" score.batch=64 > "$file.score.log"
  files+=("$file.h5" "$file.score.h5")
  times+="| $1-$2 | $(sed -n 's/^[0-9]* samples of .*, \([0-9.]*\) s; in .*/\1/p' "$file.log" | awk -v n="$SAMPLES" '{ printf "%.3g", 1000 * $1 / n }') |"$'\n'
}

# masked NAME: the decoders of masked tokens. The first token is given, as to the judge, whose rows all begin with it: of a
# row of masks alone the network cannot tell the positions, and draws it there no more often than elsewhere.
masked() {
  local n together=(sample.sampler=parallel sample.order=entropy)
  for n in left_to_right confidence; do chain "$1" "$n"; done
  keys+=(sample.prompt="$OUT/begin.h5")
  decode "$1" first_hitting sample.sampler=first_hitting
  for n in 64 16; do decode "$1" "steps-$n" sample.sampler=event sample.steps="$n"; done
  for n in 8 4; do decode "$1" "top_k-$n" "${together[@]}" sample.steps="$n"; done
  for n in 1 4; do decode "$1" "entropy_bound-$n" "${together[@]}" sample.commit=entropy_bound sample.entropy_bound="$n"; done
}

mkdir -p "$OUT"
"$PY" -m mdlm_data.prompt - --data "$DATA/train.h5" --out "$OUT/begin.h5" --quiet <<< "[MASK]"
for name; do
  row_keys "$name"
  case $name in
    mdlm | bd3lm) masked "$name" ;;
    ar) decode ar ar sample.sampler=ar ;;
    uniform) for n in 64 16; do decode uniform "steps-$n" sample.sampler=psi sample.steps="$n"; done ;;
  esac
done
echo
echo "| exact likelihood | order | nll, nat per token | perplexity | 95 % interval |"
echo "|---|---|---|---|---|"
printf '%s' "$chains"
[ ${#files[@]} = 0 ] || "$PY" -m mdlm_analysis samples "${files[@]}" --format markdown -o "$OUT/samples.png"
echo
echo "| decoder | ms a sample |"
echo "|---|---|"
printf '%s' "$times"
