#!/bin/bash
# test_protocols.sh — named protocols of data: what info tells, what is not mixed, zero_shot.sh and its deck.
# MDLM_TEST_DATA: the folder of real vocabularies and texts, for the sets that need them.
# limit: 60
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"

text 60 | tr -s '\n' ' ' > "$T/letters"
make() { # NAME OPTION…: data in $T/NAME.h5
  "$PY" -m mdlm_data.prepare "$T/letters" --quiet --tokenizer text8 --out "$T/$1.h5" "${@:2}"
}
tap "a protocol of a paper" make paper --protocol text8:mdlm2024 --shards 2
tap "the seamless one" make ours --protocol text8
tap "no protocol" make plain --length 256 --source text8 --split test

tells() { # NAME LINE…: whether info has these lines, whatever their blanks
  local line
  ranks 1 info "$T/$1.h5" | tr -s ' ' > "$T/info" || return 1
  cat "$T/info"
  for line in "${@:2}"; do grep -qxE " $line" "$T/info" || fail "no line: $line" || return 1; done
}
tap "info tells the protocol" tells paper "protocol text8" "variant mdlm2024" "framing replay" "map_batch 1000" \
  "shards 2" "add_eos 1" "add_special 1" "scored all" "bytes [0-9]+" "words [0-9]+" "scored_tokens [0-9]+"
tap "info tells the framing without one" tells plain "framing seamless" "map_batch 0" "shards 0"
older() { # a file of an earlier version
  "$PY" - "$T/plain.h5" "$T/older.h5" << 'PYTHON'
import sys, h5py
with h5py.File(sys.argv[1]) as a, h5py.File(sys.argv[2], "w") as b:
    for name in a:
        a.copy(name, b)
    for name in "format format_version wrap detokenizer source split documents digest document_unit".split():
        b.attrs[name] = a.attrs[name]
PYTHON
  tells older "document_unit chunk" && ! grep -q framing "$T/info"
}
tap "info on a file without these attributes" older

KEEP=$T LOOSE=(before err out tap)
RANKS=1
bad "data of two variants are not mixed" 'differ: (framing|variant)' check input/text8_mdlm.cfg run.dir="$T/none" \
  data.train="$T/ours.h5" data.valid="$T/ours.h5,$T/paper.h5"

# ---- zero-shot sets
deck_names() { # the deck names the file of each set
  local it
  for it in $("$PY" -c 'from mdlm_data.protocols import ZERO_SHOT; print(*ZERO_SHOT)'); do
    grep -q "=data/zero_shot/$it.h5[;\"]" input/sweeps/zero_shot.cfg || fail "$it" || return 1
  done
}
tap "the deck has every zero-shot set" deck_names
bad "the deck is valid: it lacks only checkpoints" 'runs/owt_' sweep input/sweeps/zero_shot.cfg
zero_shot() { TEXTS=$T/texts DATA=$T/sets PY=$PY "$@" input/zero_shot.sh "${SETS[@]}" > "$T/made" 2>&1; }
SETS=(wikitext2)
tap "zero_shot.sh asks for a tokenizer" exits 2 zero_shot env -u TOKENIZER
if [ -n "${MDLM_TEST_DATA:-}" ]; then
  mkdir "$T/texts"
  head -n 400 "$MDLM_TEST_DATA/wikitext2_valid.txt" > "$T/texts/wikitext2.txt"
  gzip -c "$T/texts/wikitext2.txt" > "$T/texts/lambada.txt.gz"
  export TOKENIZER=gpt2:$MDLM_TEST_DATA/gpt2-vocab.json,$MDLM_TEST_DATA/gpt2-merges.txt
  SETS=(wikitext2 lambada)
  tap "zero_shot.sh makes sets from local copies" zero_shot env VARIANT=duo2025 SHARDS=2
  tap "… as the variant says" tells sets/wikitext2 "variant duo2025" "shards 2" "add_eos 0" "documents 400"
  kept() { zero_shot env && grep -c 'exists already' "$T/made" | grep -x 2; }
  tap "sets that exist are kept" kept
else
  tap_skip "zero_shot.sh makes sets from local copies" "MDLM_TEST_DATA is not set"
fi
finish
