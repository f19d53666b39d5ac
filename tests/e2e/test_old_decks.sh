#!/bin/bash
# test_old_decks.sh — checkpoints of older and newer versions: the deck that they store lacks keys, has others, or is of a
# newer format. Every key that both decks have is compared; what differs is told once, key by key, or refused.
# limit: 300
# shellcheck source=tests/e2e/lib.sh disable=SC2016,SC2046,SC2317
. "$(dirname "$0")/lib.sh"
LIMIT=120
D=$T/deck.cfg
prepare && deck "$D" && ranks 1 train "$D" > "$T/log" &&
  ranks 1 train "$D" run.dir="$T/judge" model.name=ar diffusion.objective=ar > "$T/log" || exit 1

# edit FOLDER SED…: a copy of the run, or of $FROM, there, with sed's commands applied to the decks of its checkpoints
edit() {
  rm -rf "${T:?}/$1" && cp -r "${FROM:-$T/run}" "$T/$1" && "$PY" - "$T/$1" "${@:2}" << 'PYTHON'
import glob, subprocess, sys
import h5py
for path in glob.glob(sys.argv[1] + "/*.h5"):
    with h5py.File(path, "r+") as f:
        sed = subprocess.run(["sed", *sys.argv[2:]], input=f.attrs["deck"], capture_output=True, text=True, check=True)
        f.attrs["deck"] = sed.stdout
PYTHON
}

# warns N WANTED ARGUMENT…: whether mdlm succeeds on N ranks with exactly these warnings on stderr; "FOLDER" stands for $T
warns() {
  ranks "$1" "${@:3}" > "$T/out" 2> "$T/err" || fail "exit code $?: $(cat "$T/err")" || return 1
  sed "s|$T|FOLDER|g" "$T/err" | diff <([ -z "$2" ] || printf 'warning: %s\n' "$2") -
}
changed() { printf 'changed since the checkpoint: %s = %s, was %s at step 6' "$@"; }
resume() { echo train "$D" run.dir="$T/$1" train.steps=9; }

tap "a copy" edit same -e ""
tap "nothing has changed: no warning" warns 1 "" $(resume same)
for n in 1 2; do
  # keys of several sections are missing, and all of the last section
  tap "a deck of an older version" edit old -e '/^  crop = /d; /^  beta1 = /d; /^plan:/,$d'
  tap "train.lr behind the first missing key, $n ranks" warns $n "$(changed train.lr 0.02 0.01)" $(resume old) train.lr=0.02
  tap "the same once more" edit old -e '/^  crop = /d; /^  beta1 = /d; /^plan:/,$d'
  tap "a missing key equal to its default: no warning, $n ranks" warns $n "" $(resume old)
  tap "the run is that of the unchanged deck" same "$T/old/last.h5" "$T/same/last.h5" params ema adam_m adam_v @step
  tap "a deck without train.clip" edit old -e '/^  clip = /d'
  tap "a missing key is compared with its default, $n ranks" warns $n "$(changed train.clip 0.5 1.0)" $(resume old) train.clip=0.5
done

renamed() {
  edit renamed -e 's/^  lr = /  rate = /; $a old: { key = "a"; };' || return 1
  warns 2 "FOLDER/renamed/last.h5 has keys that this version of mdlm does not have; they are ignored: train.rate = 0.01, old.key = \"a\"
warning: $(changed train.lr 0.01 0.0003)" $(resume renamed)
}
tap "keys that no longer exist are told once" renamed
former() { # what is true in an old deck is a word of another key now; false is what the deck says
  edit former -e "s/^  time = \"uniform\"/  importance_sampling = $1/" || return 1
  warns 2 "$2" $(resume former) diffusion.time="$3"
}
tap "a key that became a word: false" former false "" uniform
tap "a key that became a word: true" former true "" importance
tap "a key that became a word: true, and the deck says otherwise" former true \
  "$(changed diffusion.time '"uniform"' '"importance"')" uniform
all_told() {
  edit old -e '/^  crop = /d' || return 1
  warns 1 "$(changed data.valid '""' '"FOLDER/valid.h5"')
warning: $(changed data.order '"blocked"' '"permuted"')
warning: $(changed model.dropout 0.2 0.1)
warning: $(changed diffusion.stratified false true)
warning: $(changed train.micro_batch 4 2)
warning: $(changed dist.reduce '"fast"' '"tree"')" $(resume old) data.valid= data.order=blocked model.dropout=0.2 \
    diffusion.stratified=false train.micro_batch=4 dist.reduce=fast \
    train.log_every=2 train.save_every=0 device.threads=2 sample.count=3 eval.draws=2 plan.ranks=4
}
tap "each key that changes the result is told, the others are not" all_told

RANKS="1 2" KEEP=$T/old LOOSE=()
tap "a deck without mask_padding" edit old -e '/^  mask_padding = /d'
bad "a missing key that must not change" 'mask_padding = false, the deck says true' train "$D" run.dir="$T/old" \
  train.steps=9 model.mask_padding=true

# ---- the other commands that read a stored deck
FROM=$T/judge tap "a judge with an unknown key" edit other -e 's/^  lr = /  rate = /'
gone='FOLDER/other/best.h5 has keys that this version of mdlm does not have; they are ignored: train.rate = 0.01'
ar=(run.dir="$T/other" model.name=ar diffusion.objective=ar)
tap "eval tells unknown keys" warns 2 "$gone" eval "$D" "${ar[@]}" train.lr=1 model.dropout=0
tap "sample tells unknown keys" warns 1 "$gone" sample "$D" "${ar[@]}" sample.sampler=ar
tap "score tells unknown keys" warns 2 "$gone" score "$D" score.checkpoint="$T/other/best.h5" score.input="$T/valid.h5" \
  score.output="$T/score.h5"
tap "eval tells another diffusion" warns 2 "$(changed diffusion.T 8 0)" eval "$D" diffusion.T=8 train.lr=1 eval.output="$T/eval.h5"
tap "sample tells another schedule" warns 1 "$(changed diffusion.schedule_eps 0.01 0.001)" sample "$D" \
  diffusion.schedule_eps=0.01 sample.output="$T/samples.h5"

# ---- a newer format: refused by name, neither set aside nor passed over
newer() {
  FROM=$1 edit newer -e '' && "$PY" - "$T/newer" "$2" << 'PYTHON'
import glob, sys
import h5py
for path in glob.glob(sys.argv[1] + "/*.h5"):
    with h5py.File(path, "r+") as f:
        f.attrs["version"] = "9.8.7"
        if not path.endswith(sys.argv[2]):
            f.attrs["format_version"] = 99
PYTHON
}
why='was written by a newer version of mdlm \(9.8.7\): it has version 99 of the format mdlm-checkpoint'
KEEP=$T/newer
tap "checkpoints of a newer version, but the previous one" newer "$T/run" previous.h5
bad "train: last.h5 is newer" "newer/last.h5 $why" train "$D" run.dir="$T/newer" train.steps=9
bad "eval: best.h5 is newer" "newer/best.h5 $why" eval "$D" run.dir="$T/newer"
bad "sample: last.h5 is newer" "newer/last.h5 $why" sample "$D" sample.checkpoint="$T/newer/last.h5"
bad "score: the judge is newer" "newer/last.h5 $why" score "$D" score.checkpoint="$T/newer/last.h5" score.input="$T/valid.h5"
RANKS=1 bad "info: a newer checkpoint" "newer/last.h5 $why" info "$T/newer/last.h5"
finish
