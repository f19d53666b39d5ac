#!/bin/bash
# test_local.sh — checkpoints on the nodes' own disks (train.local_dir): a killed run goes on from the newest of them and of
# run.dir, damaged and foreign ones are left out, and a complete run leaves none.
# limit: 120
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
STATE=(params ema adam_m adam_v @step @tokens @masked_tokens)
prepare && deck "$T/deck.cfg" || exit 1
job() { # NAME KEY=VALUE…: arguments of a run in $T/NAME
  echo train "$T/deck.cfg" run.dir="$T/$1" train.steps=40 train.micro_batch=4 data.valid= train.log_every=1 "${@:2}"
}
train() { # NAME N KEY=VALUE…
  # shellcheck disable=SC2046
  ranks "$2" $(job "$1" "${@:3}") > "$T/log" 2>&1 || { cat "$T/log"; return 1; }
}
own=(train.local_dir="$T/disk" train.local_every=3 train.save_every=0)
copy_of() { echo "$T/disk/$(cat "$T/$1/local_id")"-*/local.h5; } # RUN
step_of() { "$MDLM" info "$1" | sed -n 's/.*checkpoint at step \([0-9]*\),.*/\1/p'; }
same_state() { same "$1" "$2" "${STATE[@]}" and "$1" "$2" metrics/train/step metrics/train/loss; }

# killed NAME LEAST KEY=VALUE…: a run that is killed when its copy is of step LEAST or later
killed() {
  local name=$1 least=$2 process
  # shellcheck disable=SC2046
  "$MDLM" $(job "$name" "${@:3}") > "$T/log" 2>&1 &
  process=$!
  reached() { [ -e "$T/$name/local_id" ] && [ -e "$(copy_of "$name")" ] && [ "$(step_of "$(copy_of "$name")")" -ge "$least" ]; }
  wait_for 60 reached
  kill -KILL "$process"
  wait "$process"
  reached
}

tap "an uninterrupted run" train whole 1 train.save_every=0
tap "a run that is killed before its first save in run.dir" killed a 3 "${own[@]}" train.steps=100000
a=$(copy_of a) n=$(step_of "$(copy_of a)")
only_copy() { [ -e "$a" ] && [ ! -e "$T/a/last.h5" ]; }
tap "has only a copy on its own disk" only_copy
cp -r "$T/a" "$T/kept" && cp -r "$T/disk" "$T/disk2"
again() { rm -rf "$T/a" "$T/disk" && cp -r "$T/kept" "$T/a" && cp -r "$T/disk2" "$T/disk"; } # as after the kill
on() { train "$@" && grep -q "resuming from .*/local.h5 at step $n, which every node has" "$T/log"; }
tap "goes on from it on two ranks" on a 2 "${own[@]}" train.steps=$((n + 20))
tap "… and a complete run leaves no copy" test ! -e "$a"
tap "a run without interruption" train b 1 train.steps=$((n + 20)) train.save_every=0
tap "… has the same state and history" same_state "$T/a/last.h5" "$T/b/last.h5"

spoil() { "$PY" -c 'import sys; f = open(sys.argv[1], "r+b"); f.seek(20000); f.write(b"damage")' "$1"; }
older() { # the copy is older than last.h5, which a run without copies has written
  again && train a 1 train.local_dir="$T/disk" train.steps=$((n + 2)) && mkdir -p "${a%/*}" && cp "$T/disk2/${a#"$T/disk/"}" "$a" &&
    train a 1 "${own[@]}" train.steps=$((n + 4)) && grep -q "resuming from $T/a/last.h5 at step $((n + 2))" "$T/log"
}
tap "a copy that is older than last.h5 is not taken" older
newer() { # last.h5 is damaged, previous.h5 is older than the copy
  again && train a 1 train.steps=$((n - 1)) run.resume=auto train.local_dir= && cp "$T/a/last.h5" "$T/a/previous.h5" &&
    spoil "$T/a/last.h5" && train a 1 "${own[@]}" train.steps=$((n + 4)) && grep -q "resuming from .*/local.h5 at step $n" "$T/log" &&
    [ -e "$T/a/last.h5.damaged" ]
}
tap "a copy is newer than previous.h5 where last.h5 is damaged, which is set aside" newer
damaged() {
  again && spoil "$a" && train a 1 "${own[@]}" &&
    grep -q "warning: .*local.h5 is left out: " "$T/log" && ! grep -q resuming "$T/log" && same_state "$T/a/last.h5" "$T/whole/last.h5"
}
tap "a damaged copy is left out with a warning" damaged
must() { again && train a 1 "${own[@]}" train.steps=$((n + 4)) run.resume=must && grep -q "at step $n, which every node has" "$T/log"; }
tap "run.resume = must is content with it" must
other() { # another run in a directory of that name
  again && rm -rf "$T/a" && train a 1 "${own[@]}" && ! grep -q resuming "$T/log"
}
tap "the copy of an earlier run in a directory of that name is not taken" other
branched() { again && rm -rf "$T/b" && cp -r "$T/a" "$T/b" && train b 1 "${own[@]}" && ! grep -q resuming "$T/log"; }
tap "nor that of the run from which a directory was copied" branched
unwritable() {
  again && rm -f "$a.tmp" && mkdir -p "$a.tmp" && train a 1 "${own[@]}" train.steps=$((n + 9)) &&
    cat "$T/log" &&     grep -q '^warning: no checkpoint could be written in train.local_dir on 1 of the nodes' "$T/log" && [ -e "$T/a/last.h5" ]
}
tap "a copy that cannot be written is a warning" unwritable

refused() { # TEXT KEY=VALUE…
  train refused 2 "${@:2}" > "$T/said" && return 1
  [ "$(grep -c '^mdlm: error' "$T/log")" = 1 ] && grep -q "$1" "$T/log"
}
tap "a number of steps without a directory" refused 'train.local_every = 3 needs train.local_dir' train.local_every=3
touch "$T/file"
tap "a directory that cannot be made" refused 'train.local_dir = .*/file: cannot make or write the folder .* on ' train.local_dir="$T/file" train.local_every=3
finish
