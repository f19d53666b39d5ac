#!/bin/bash
# first.sh CALL FOLDER — the first contact with a GPU, in two calls of a few minutes each: the most valuable fact first, each
# result written at once, and no stage able to take the time of the next. CALL is 1, or 2 after mends.
# first.sh table FOLDER — the tables of whatever results are there.
#
# A stage (stages.sh) is a process of its own with a cap; at the cap it is killed with everything that it started. After a
# failed `smoke` the speed of training is not measured, since it would be that of a broken or slow path; the rest goes on.
# FOLDER gets three files: results.jsonl, one line per result: {"stage", "part", "figures"}; run.log, all other output;
# table.md, the tables (results.py), written at the end and by `first.sh table`.
# Variables: BUDGET: seconds of all stages of the call (380, 400); STAGES: those to run instead, NAME:CAP …; SCALE: factor of all caps, for trying this script; PYTHON;
# those of stages.sh.
set -u
export LC_ALL=C.UTF-8
here=$(realpath "$(dirname "$0")") PYTHON=${PYTHON:-python3}

# STAGE:CAP in seconds. left: what the stage before left of its cap; rest: of the budget
case ${1:-} in
1)
  budget=${BUDGET:-380}
  stages="environment:10 smoke:60 headline:75 ops:30 kernels:80 tests:120 curves:rest"
  ;;
2)
  budget=${BUDGET:-400}
  stages="environment:10 smoke:75 headline:left peer:200 samples:45 memory:45 medium:rest"
  ;;
table) stages= ;;
*) set -- ;;
esac
[ $# = 0 ] || [ "$1" = table ] || stages=${STAGES:-$stages}
[ $# = 2 ] || { echo "usage: first.sh 1|2|table FOLDER"; exit 2; }
mkdir -p "$2" || exit 1
out=$(realpath "$2")
export RESULTS=$out/results.jsonl LOG=$out/run.log SCALE=${SCALE:-1}
cd "$here/../.." || exit 1
# shellcheck source=tests/cuda/sweep.sh
. "$here/sweep.sh"

table() {
  timeout -k 2 20 "$PYTHON" "$here/results.py" --markdown "$RESULTS" > "$out/table.new" 2>> "$LOG" < /dev/null &&
    mv "$out/table.new" "$out/table.md" && cat "$out/table.md" && return
  rm -f "$out/table.new"
  echo "first.sh: no table; $PYTHON cannot make it: run first.sh table FOLDER elsewhere"
  return 1
}
if [ "$1" = table ]; then
  table
  exit
fi

milliseconds() { awk -v s="$1" -v f="$2" 'BEGIN { printf "%d", 1000 * s * f }'; }
seconds() { printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); }
start=$((${EPOCHREALTIME/./} / 1000))
now() { echo $((${EPOCHREALTIME/./} / 1000 - start)); }

# ended NAME VERDICT TIME CAP: write the line of a stage, and print it with the first reason that the stage gave
ended() {
  local why
  printf '{"stage": "%s", "part": "stage", "figures": {"verdict": "%s", "seconds": %s, "cap": %s}}\n' "$1" "$2" \
    "$(seconds "$3")" "$(seconds "$4")" >> "$RESULTS"
  why=$(tail -n +$((lines + 1)) "$RESULTS" | sed -n "s/^{\"stage\": \"$1\", \"part\": \"note\", \"figures\": \"\(.*\)\"}\$/\1/p" | head -n 1)
  printf '%-12s %-11s %6s s of %5s%s\n' "$1" "$2" "$(seconds "$3")" "$(seconds "$4")" "${why:+  $why}"
}

# stage NAME CAP: sets `took`
stage() {
  local name=$1 cap=$2 code verdict=failed
  began=$(now)
  lines=$(wc -l < "$RESULTS")
  current=MDLM_STAGE=first-$$-$name
  env STAGE="$name" "$current" timeout -k 2 "$(seconds "$cap")" "$here/stages.sh" "$name" >> "$LOG" 2>&1 < /dev/null &
  wait $!
  code=$?
  took=$(($(now) - began))
  sweep "$current"
  current=
  case $code in
  0) verdict=passed ;;
  77) verdict=skipped ;;
  124 | 137)
    [ $took -lt "$cap" ] || verdict="out of time"
    printf '{"stage": "%s", "part": "note", "figures": "during %s"}\n' "$name" \
      "$(grep -a '^== ' "$LOG" | tail -n 1 | cut -c 4-200 | tr -d '\\"')" >> "$RESULTS"
    sleep 1 # until the driver has given back the memory of what was killed
    ;;
  esac
  ended "$name" "$verdict" $took "$cap"
  [ $code = 0 ] || [ $code = 77 ] || failed=1
}

interrupted() {
  trap '' INT TERM
  if [ -n "$current" ]; then
    sweep "$current"
    ended "${current##*-}" interrupted $(($(now) - began)) "$cap"
  fi
  table
  exit 1
}

failed=0 current='' cap=0 took=0 began=0
touch "$RESULTS" "$LOG"
[ -z "$(tail -c 1 "$RESULTS")" ] || echo >> "$RESULTS" # a line that was cut off stays alone
trap interrupted INT TERM
budget=$(milliseconds "$budget" 1) least=$(milliseconds 1 "$SCALE") # a stage needs a second
for it in $stages; do
  rest=$((budget - $(now)))
  case ${it#*:} in
  rest) cap=$rest ;;
  left) cap=$((cap - took)) ;;
  *) cap=$(milliseconds "${it#*:}" "$SCALE") ;;
  esac
  [ "$cap" -lt $rest ] || cap=$rest
  if [ "$cap" -ge "$least" ]; then
    stage "${it%:*}" "$cap"
  else
    lines=$(wc -l < "$RESULTS") failed=1
    ended "${it%:*}" "no time" 0 0
  fi
done
table || failed=1
exit $failed
