#!/bin/bash
# test_changed_data.sh — data that change under a running training or evaluation end it with a line that names the file;
# the last checkpoint is kept.
# limit: 120
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
prepare && deck "$T/deck.cfg" || exit 1

unseal() { # FILE: cut off the seal (src/store/seal.h)
  "$PY" - "$1" << 'PYTHON'
import os, struct, sys
data = open(sys.argv[1], "rb").read()
assert data[-8:] == b"MDLMSEAL"
os.truncate(sys.argv[1], struct.unpack("<Q", data[-32:-24])[0])
PYTHON
}

other() { # FILE: other data of the same shape in FILE.other: all tokens are the same
  cp "$1" "$1.other"
  "$PY" - "$1.other" << 'PYTHON'
import sys, h5py
with h5py.File(sys.argv[1], "r+") as f:
    f["tokens"][:] = f["tokens"][0, 0]
PYTHON
}

change() { # HOW FILE
  case $1 in
  overwritten) cat "$2.other" > "$2" ;;
  halved) truncate -s "$(($(stat -c %s "$2") / 2))" "$2" ;;
  replaced) mv "$2.other" "$2" ;;
  esac
}

saved() { test -e "$T/run/previous.h5"; }
evaluates() { grep -q '^evaluating' "$T/log"; }

# changes COMMAND N SEALED HOW
changes() {
  local code=0 key=data.train ready=saved went_on=(run.dir="$T/run" train.steps=1000000 train.micro_batch=1)
  rm -rf "$T/run"
  cp "$T/train.h5" "$T/data.h5"
  [ "$3" = yes ] || unseal "$T/data.h5" || return 1
  other "$T/data.h5" || return 1
  [ "$1" = train ] || { key=eval.data ready=evaluates went_on=(run.dir="$T/trained" eval.draws=200 eval.batch=1); }
  sleep 0.05 # the clock of a file system ticks every few milliseconds
  start "$T/log" "$2" "$1" "$T/deck.cfg" "$key=$T/data.h5" "${went_on[@]}"
  wait_for "$LIMIT" "$ready" || fail "it does not start" || return 1
  change "$4" "$T/data.h5"
  ended $! || code=$?
  cat "$T/log"
  # of two ranks that end together mpirun takes the code of either: 1 is that of a rank whose data were good
  [ "$code" = 3 ] || [ "$2 $code" = "2 1" ] || fail "exit code $code" || return 1
  [ "$(grep -c 'mdlm: error' "$T/log")" -le "$2" ] || fail "too many errors" || return 1
  grep "mdlm: error.*$T/data.h5 was \(changed\|replaced\)" "$T/log" || return 1
  [ "$1" = eval ] || "$MDLM" info "$T/run/last.h5" | grep "checkpoint at step"
}

tap "a run to evaluate" ranks 1 train "$T/deck.cfg" run.dir="$T/trained"
for how in overwritten halved replaced; do
  for sealed in no yes; do
    tap "train on 1 rank, data $how, sealed: $sealed" changes train 1 $sealed $how
  done
  tap "train on 2 ranks, data $how" changes train 2 no $how
  tap "eval on 1 rank, data $how" changes eval 1 yes $how
  tap "eval on 2 ranks, data $how" changes eval 2 no $how
done
finish
