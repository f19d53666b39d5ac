#!/bin/bash
# test_preflight.sh — mdlm check: a line for each finding; what would stop a run is an error that says what to change, what
# would slow it is a warning; nothing is written.
# shellcheck source=tests/e2e/lib.sh disable=SC2317
. "$(dirname "$0")/lib.sh"
D=$T/deck.cfg
prepare && deck "$D" || exit 1
unset SLURM_JOB_END_TIME SLURM_MEM_PER_NODE MDLM_SIGNAL_SECONDS

# says CODE PATTERN… -- ARGUMENT…: check on 2 ranks ends with that code, has a line for each pattern and writes nothing
says() {
  local code=$1 pattern patterns=()
  shift
  for pattern; do
    shift
    [ "$pattern" != -- ] || break
    patterns+=("$pattern")
  done
  exits "$code" ranks 2 check "$D" "$@" > "$T/out" 2>&1 || { cat "$T/out"; return 1; }
  cat "$T/out"
  for pattern in "${patterns[@]}"; do grep -E "$pattern" "$T/out" || fail "no line: $pattern" || return 1; done
  [ -e "$T/run" ] && fail "something was written" && return 1
  return 0
}
with() ( # NAME=VALUE[,NAME=VALUE] …: says with these in the environment
  IFS=,
  for it in $1; do export "${it?}"; done
  says "${@:2}"
)

findings() {
  says 0 '^reduction .* over 2 ranks .* GB/s a rank' "^hosts +1; ranks on each: $(hostname) \\(2\\)" '^cores .*1 thread a rank' \
    '^device +cpu: ' '^network ' '^rows .* of data.train: an epoch is' '^disk .* free in .*, the run writes .*4 checkpoints' \
    '^memory .* MiB expected' "^locks .*$T has them" '^time .* a save' 'no time limit is known' '^check passed' -- &&
    ! grep -E '^(warning: [^r]|warning: rows|mdlm: error)' "$T/out" # on a busy machine reductions take long
}

one_core() { # mpirun binds ranks to cores unless told otherwise
  ranks() { timeout -k 5 "$LIMIT" taskset -c 0 "$MDLM" "${@:2}" < /dev/null; }
  says 0 '^warning: cores: every rank is bound to one core of [0-9]+: start with mpirun --bind-to none' --
}

# A validation of this many rows takes seconds.
for _ in {1..128}; do cat "$T/text"; done > "$T/long"
"$PY" -m mdlm_data.prepare "$T/long" --tokenizer "data:$T/train.h5" --length 32 --quiet --out "$T/long.h5" || exit 1
long=(data.valid="$T/long.h5" train.micro_batch=1)
later() { echo SLURM_JOB_END_TIME=$(($(date +%s) + $1)); } # SECONDS

tap "a line for each finding, and nothing is written" findings
tap "a run directory that cannot be made" says 4 "^mdlm: error on rank 0: disk: run.dir = $D/run: cannot write in $D" -- run.dir="$D/run"
tap "too little room" says 4 '^mdlm: error on rank 0: disk: run.dir = .* free, the run writes .*: choose another directory, or raise train.keep_every' \
  -- train.keep_every=1 train.steps=4000000000 train.log_every=1000000
tap "no run directory" says 2 '^mdlm: error on rank 0: run.dir = "": say where' -- run.dir=
tap "more than a step of rows" says 0 '^warning: rows: data.train has [0-9]+, a step takes 4096' -- train.global_batch=4096 train.micro_batch=512
tap "fewer validation rows than ranks" says 0 '^warning: rows: a validation has 1 for 2 ranks' -- train.valid_sequences=1
tap "less memory than the ranks need" with SLURM_MEM_PER_NODE=10 6 '^mdlm: error on rank 0: memory: the 2 ranks .*--mem' --
tap "time that is left" with "$(later 36000)" 0 '9:59:.. of the allocation are left|10:00:00 of' --
tap "a signal too late to save" with "$(later 36000),MDLM_SIGNAL_SECONDS=1e-6" 2 \
  '^mdlm: error on rank 0: time: saving takes up to .* s, the signal comes 1e-06 s before the end: ask for --signal=B:USR1@[0-9]*' --
tap "a validation longer than the signal's warning" with "$(later 36000),MDLM_SIGNAL_SECONDS=2" 0 \
  '^warning: time: a validation takes about .* s, the signal comes 2 s before the end' -- "${long[@]}"
tap "no time for a validation" with "$(later -1)" 2 '^mdlm: error on rank 0: time: the first checkpoint .*train.save_minutes' 'time: a validation takes .*train.valid_sequences' \
  -- "${long[@]}"
tap "no time for a checkpoint" with "$(later 60)" 2 '^mdlm: error on rank 0: time: the first checkpoint comes after .*train.save_every' \
  -- train.steps=1000000000 train.save_every=100000000 train.log_every=1000000
if [ "$(nproc --all)" -gt 1 ] && command -v taskset > /dev/null; then
  tap "one core of many" one_core
else
  tap_skip "one core of many" "one core, or no taskset"
fi
finish
