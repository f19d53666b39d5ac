#!/bin/bash
# test_no_room.sh — file size limits, full disks and closed pipes: one line with the file and the system's reason, the
# old file is kept and no other is left behind. A run survives the loss of its log.
# limit: 300
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
LIMIT=120
D=$T/deck.cfg
prepare && deck "$D" && ranks 1 train "$D" > "$T/log" &&
  ranks 1 train "$D" run.dir="$T/judge" model.name=ar diffusion.objective=ar > "$T/log" &&
  "$PY" -c 'import sys, h5py; f = h5py.File(sys.argv[1], "w"); f["z"] = [[1] * 32] * 9; f["t"] = [0.5] * 9' "$T/z.h5" || exit 1
go_on=(train "$D" train.steps=9)
declare -A outputs=([eval]=eval.h5 [sample]=samples.h5 [score]=score.h5 [logits]=logits.h5)
inputs=(score.checkpoint="$T/judge/last.h5" score.input="$T/train.h5" logits.input="$T/z.h5")
for it in "${!outputs[@]}"; do ranks 1 "$it" "$D" "${inputs[@]}" > "$T/log" || exit 1; done
size=$(stat -c %s "$T/run/last.h5")
export OMPI_MCA_btl=self,tcp # the limit counts shared memory, too

# ---- a limit of the file size

limited() { # KIB: let $MDLM run under this limit
  printf '#!/bin/bash\nulimit -f %s\nexec %s "$@"\n' "$1" "$PROGRAM_ALONE" > "$T/mdlm" && chmod +x "$T/mdlm"
}
PROGRAM_ALONE=$MDLM MDLM=$T/mdlm RANKS="1 2" KEEP=$T/run LOOSE=()
limited 2
for it in eval sample score; do
  bad "$it above the file size limit" "cannot write .*/${outputs[$it]}.tmp: File too large" "$it" "$D" "${inputs[@]}"
done
RANKS=1 bad "logits above the file size limit" 'cannot write .*/logits.h5.tmp: File too large' logits "$D" "${inputs[@]}"
limited 1
bad "the deck of a run above the limit" 'deck.cfg: cannot write: File too large' "${go_on[@]}"
LOOSE=(deck.cfg)
limited 100
bad "metrics above the limit" 'cannot write .*/metrics.h5.tmp: File too large' "${go_on[@]}"
LOOSE=(deck.cfg metrics.h5 previous.h5) # a save may have replaced previous.h5 by last.h5
limited $((size / 2048))
bad "the best checkpoint above the limit" 'cannot write .*/best.h5.tmp: File too large' "${go_on[@]}"
limited $(($(stat -c %s "$T/run/metrics.h5") / 1024 + 1))
bad "metrics that grow above the limit" 'cannot write .*/metrics.h5(.tmp)?: File too large' \
  train "$D" train.steps=5000 train.save_every=0 data.valid=
limited $((size / 2048))
bad "a checkpoint above the limit" 'cannot write .*/last.h5.tmp: File too large' "${go_on[@]}" data.valid=
MDLM=$PROGRAM_ALONE LOOSE=()
for it in last best previous; do tap "$it.h5 is valid" "$MDLM" info "$T/run/$it.h5"; done

# ---- standard output: a pipe that is closed after the first line, or at once; a full disk; closed

heads() { # ARGUMENT…: whether mdlm ends quietly when head has read enough
  "$MDLM" "$@" 2> "$T/err" | head -n 1 > "$T/out"
  local codes=("${PIPESTATUS[@]}")
  cat "$T/err"
  [ "${codes[0]}" = 0 ] && [ -s "$T/out" ] && [ ! -s "$T/err" ]
}
tap "help to head" heads help
tap "info to head" heads info "$T/run/last.h5"
tap "the deck of a file to head" heads info --deck "$T/run/last.h5"
unread() {
  "$MDLM" sample "$D" sample.output="$T/unread.h5" 2> "$T/err" | true
  local codes=("${PIPESTATUS[@]}")
  cat "$T/err"
  [ "${codes[0]}" = 0 ] && [ ! -s "$T/err" ] && "$MDLM" info "$T/unread.h5"
}
tap "samples to a closed pipe are in their file" unread

full_stdout() { # CODE PATTERN ARGUMENT…: whether standard output on a full disk ends so
  local code=0
  ranks 1 "${@:3}" > /dev/full 2> "$T/err" || code=$?
  cat "$T/err"
  [ "$code" = "$1" ] && [ "$(wc -l < "$T/err")" = 1 ] && grep -E "$2" "$T/err"
}
why='cannot write to standard output: No space left on device'
tap "help on a full disk" full_stdout 4 "^mdlm: error: $why" help
tap "eval on a full disk" full_stdout 4 "^mdlm: error: $why" eval "$D" eval.output="$T/eval.h5"
tap "the log on a full disk: the run completes" full_stdout 0 "^warning: .*log is lost.*$why" train "$D" run.dir="$T/silent"
tap "its checkpoint is valid" "$MDLM" info "$T/silent/last.h5"

# no_reader FOLDER: a run whose log goes to a pipe that is closed after the first line goes on to its last step
no_reader() {
  "$MDLM" train "$D" run.dir="$T/$1" 2> "$T/err" | head -n 1
  local codes=("${PIPESTATUS[@]}")
  cat "$T/err"
  [ "${codes[0]}" = 0 ] && same "$T/$1/last.h5" "$T/run/last.h5" params ema adam_m adam_v @step
}
tap "the log to a closed pipe: the run completes" no_reader unheard
no_streams() { # a file must not get the number of a closed stream, for what is printed would go there
  "$MDLM" train "$D" run.dir="$T/closed" <&- >&- 2>&- &&
    same "$T/closed/last.h5" "$T/run/last.h5" params ema adam_m adam_v @step && "$MDLM" info "$T/closed/last.h5"
}
tap "standard streams closed: the run completes" no_streams

# ---- a full disk: a small file system with room for half a checkpoint

full() { # NAME BYTES [FILE]: copy the run without FILE to a new file system with that many bytes free
  DISK=$T/$1
  mkdir "$DISK" && mount -t tmpfs -o size=16m mdlm-e2e "$DISK" && mounts+=("$DISK") &&
    cp -r "$T/run" "$DISK/run" || return 1
  rm -f "$DISK/run/${3:-none}"
  head -c $(($(stat -f -c '%f * %S' "$DISK") - $2)) /dev/zero > "$DISK/filler"
}
if tap_full=$(full disk $((size / 2)) 2>&1 && echo yes) && umount "$T/disk" 2> /dev/null && rmdir "$T/disk"; then
  LOOSE=(metrics.h5 deck.cfg previous.h5) # a save may have replaced previous.h5 by last.h5
  for n in 1 2; do
    tap "a disk with room for half a checkpoint ($n)" full "disk$n" $((size / 2)) previous.h5
    KEEP=$DISK/run RANKS=$n bad "the disk fills up in a save" 'last.h5.*No space' \
      "${go_on[@]}" run.dir="$DISK/run" data.valid=
    tap "last.h5 is valid" "$MDLM" info "$DISK/run/last.h5"
    rm "$DISK/filler"
    tap "the run resumes when there is room again" ranks "$n" train "$D" run.dir="$DISK/run" train.steps=9
  done
  LOOSE=()
  tap "a disk with no room at all" full disk3 0
  KEEP=$DISK/run
  RANKS="1 2" bad "the disk is full" 'No space' "${go_on[@]}" run.dir="$DISK/run"
  for it in eval sample score; do
    bad "$it on a full disk" "cannot write .*/${outputs[$it]}.*: No space" "$it" "$D" run.dir="$DISK/run" "${inputs[@]}"
  done
  RANKS=1 bad "logits on a full disk" 'cannot write .*/logits.h5.*: No space' logits "$D" run.dir="$DISK/run" "${inputs[@]}"
  half_damaged() {
    full disk4 $((size / 2)) && printf 'damaged' | dd of="$DISK/run/last.h5" bs=1 seek=$((size / 2)) conv=notrunc status=none
  }
  tap "a disk with room for half a checkpoint, last.h5 damaged" half_damaged
  LOOSE=(metrics.h5 deck.cfg 'last.h5*') # previous.h5 is the only valid checkpoint and must stay
  KEEP=$DISK/run RANKS=1 bad "the disk fills up after falling back to previous.h5" 'last.h5.*No space' \
    "${go_on[@]}" run.dir="$DISK/run" data.valid=
else
  tap_skip "a full disk" "a small file system cannot be mounted here: ${tap_full%%$'\n'*}"
fi
finish
