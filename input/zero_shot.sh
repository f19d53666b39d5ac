#!/usr/bin/env bash
# zero_shot.sh [NAME…] — make the data of input/sweeps/zero_shot.cfg: all zero-shot sets, or those named. A set that
# exists is kept. A text is the local copy TEXTS/NAME.txt, .jsonl, .parquet or .arrow, the same compressed, or the folder
# TEXTS/NAME; what is missing comes through Hugging Face's datasets into that folder.
# Environment: TOKENIZER (required: gpt2:VOCAB.json,MERGES.txt), TEXTS (data/texts), DATA (data/zero_shot), VARIANT
# (seamless; or that of a paper: mdlm2024, bd3lm2025, duo2025), SHARDS (1: processes of the paper's code), PY.
# Sets of another VARIANT or SHARDS need another DATA.
set -euo pipefail
PY=${PY:-.venv/bin/python}
TEXTS=${TEXTS:-data/texts}
DATA=${DATA:-data/zero_shot}
VARIANT=${VARIANT:-seamless}
SHARDS=${SHARDS:-1}
if [ -z "${TOKENIZER:-}" ]; then
  echo "zero_shot: set TOKENIZER=gpt2:VOCAB.json,MERGES.txt" >&2
  exit 2
fi
if [ $# = 0 ]; then
  read -r -a names < <("$PY" -c 'from mdlm_data.protocols import ZERO_SHOT; print(*ZERO_SHOT)')
  set -- "${names[@]}"
fi

# text_of NAME: set $text to the local copy; fetch it if there is none
text_of() {
  local it
  for it in "$TEXTS/$1".{txt,jsonl,parquet,arrow}{,.gz,.bz2,.xz,.zst}; do
    text=$it
    [ ! -f "$it" ] || return 0
  done
  text=$TEXTS/$1
  [ -d "$text" ] || "$PY" -m mdlm_data.fetch "$1" "$text"
}

# one_set NAME
one_set() {
  local replay=()
  if [ -e "$DATA/$1.h5" ]; then
    echo "$DATA/$1.h5 exists already"
    return 0
  fi
  [ "$VARIANT" = seamless ] || replay=(--shards "$SHARDS")
  text_of "$1" &&
    "$PY" -m mdlm_data.prepare "$text" --protocol "$1:$VARIANT" "${replay[@]}" --tokenizer "$TOKENIZER" --out "$DATA/$1.h5"
}

mkdir -p "$TEXTS" "$DATA"
failed=()
for name; do
  echo "== $name"
  one_set "$name" || failed+=("$name")
done
[ "${#failed[@]}" = 0 ] || echo "zero_shot: not made: ${failed[*]}" >&2
[ "${#failed[@]}" = 0 ]
