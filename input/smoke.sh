#!/usr/bin/env bash
# smoke.sh [NAME…] — train, sample from and evaluate each deck of input/smoke, or those named, in seconds: every
# objective and network on small data from the corpus. Called by `make smoke`. Prints one line per deck, then how many
# succeeded. With --data it only prepares the data.
# Environment: see lib.sh, and DATA (data) and RUNS (runs/smoke), the folders of data and runs; KEYS, words KEY=VALUE for
# every command. Another CORPUS needs another DATA.
set -euo pipefail
# shellcheck source=input/lib.sh
. input/lib.sh
DATA=${DATA:-data}
RUNS=${RUNS:-runs/smoke}
smoke=$DATA/smoke

# Small stand-ins for the data of the full-size decks: for OpenWebText the demo's corpus, wrapped; for LM1B its lines,
# one per row, in the same vocabulary; for text8 its letters, in training rows of twice the length.
prepare() {
  local make=("$PY" -m mdlm_data.prepare --quiet)
  corpus_demo "$DATA/demo" demo
  [ ! -e "$smoke/text8_valid.h5" ] || return 0
  mkdir -p "$smoke"
  corpus_text "$DATA/demo"
  "${make[@]}" "$text" --tokenizer "data:$DATA/demo/train.h5" --length 32 --no-wrap --limit 4000 --valid-fraction 0.1 \
    --source lm1b --out-train "$smoke/lm1b_train.h5" --out-valid "$smoke/lm1b_valid.h5"
  tr '[:upper:]' '[:lower:]' < "$text" | tr -cs '[:lower:]' ' ' > "$smoke/text8"
  head -c 200000 "$smoke/text8" | "${make[@]}" - --tokenizer text8 --length 64 --source text8 --split train \
    --out "$smoke/text8_train.h5"
  tail -c 20000 "$smoke/text8" | "${make[@]}" - --tokenizer text8 --length 32 --source text8 --split valid \
    --out "$smoke/text8_valid.h5"
}

# run NAME: train from scratch, sample and evaluate; the last line printed is the result
run() {
  local set=${1%%_*} dir=$RUNS/$1 data keys
  data=$smoke/${set}_
  [ "$set" != owt ] || data=$DATA/demo/
  read -ra keys <<< "${KEYS:-}"
  keys+=(run.dir="$dir" data.train="${data}train.h5" data.valid="${data}valid.h5")
  rm -rf "$dir"
  mdlm train "input/smoke/$1.cfg" "${keys[@]}" && mdlm sample "input/smoke/$1.cfg" "${keys[@]}" sample.count=2 sample.steps=8 &&
    mdlm eval "input/smoke/$1.cfg" "${keys[@]}"
}

echo "== data"
prepare
[ "${1:-}" != --data ] || exit 0
[ $# -gt 0 ] || for deck in input/smoke/*.cfg; do set -- "$@" "$(basename "$deck" .cfg)"; done
echo "== decks"
mkdir -p "$RUNS"
failed=0
for name; do
  start=$EPOCHREALTIME
  if run "$name" > "$RUNS/$name.log" 2>&1; then
    printf '%-16s %4.1f s  %s\n' "$name" "$(awk "BEGIN { print $EPOCHREALTIME - $start }")" "$(tail -n 1 "$RUNS/$name.log")"
  else
    failed=$((failed + 1))
    printf '%-16s failed:\n' "$name"
    tail -n 20 "$RUNS/$name.log" | sed 's/^/    | /'
  fi
done
echo "smoke: $(($# - failed)) of $# decks trained, sampled and evaluated"
[ "$failed" = 0 ]
