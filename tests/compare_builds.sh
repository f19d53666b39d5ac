#!/bin/bash
# compare_builds.sh OLD NEW [NAME…] — whether two builds of mdlm (programs, or their folders) compute the same numbers.
# Run it by hand after a refactoring that should change none. Takes some minutes on two cores.
#
# For every deck of input/smoke, or those named, with the data of `smoke.sh --data`, each program
#   trains 50 steps on one rank with two threads and on two ranks, and evaluates, samples and scores on two ranks;
#   evaluates with each estimator, writes logits, and draws with each sampler and option that it accepts, on one rank.
# NEW also resumes at step 25 a run that OLD began on two ranks; the state must equal that of OLD's uninterrupted run.
# Compared bit for bit: every data set and every numeric attribute that OLD writes: weights, moving averages, moments,
# steps, metrics, tokens, text, entropies, losses, logits. Not compared: text attributes (git revision, deck, dates,
# paths, digests), the columns of metrics that depend on the clock, and data that only NEW writes. A sampler, estimator
# or option that only one program accepts is a difference.
# Prints one line per deck, with the first difference; ends with "N passed, N failed". Environment: see
# tests/e2e/lib.sh.
# shellcheck source=tests/e2e/lib.sh disable=SC2317

usage() { echo "compare_builds.sh: $*; usage: tests/compare_builds.sh OLD NEW [NAME…]" >&2; exit 2; }
program() { # PATH: the program in PATH, which is a file or its folder
  local path
  path=$(realpath -- "$1") || return 1
  [ ! -d "$path" ] || path+=/mdlm
  [ -x "$path" ] && echo "$path"
}
[ $# -ge 2 ] || usage "two builds are needed"
OLD=$(program "$1") || usage "$1: no program"
NEW=$(program "$2") || usage "$2: no program"
shift 2
PY=${PY:-$(dirname "$0")/../.venv/bin/python}
[ -x "$PY" ] || usage "no Python environment $PY, which make setup makes"
PY=$(realpath -s "$PY")
PROGRAM=$OLD . "$(dirname "$0")/e2e/lib.sh"
# both programs run at once, and busy waiting would slow them down
export OMPI_MCA_mpi_yield_when_idle=1 OMP_WAIT_POLICY=passive
# a private folder, because the first process to end removes it
export OMPI_MCA_orte_tmpdir_base=$T
STEPS=50 HALF=25

words() { # KEY: the values that either program accepts
  local it list
  for it in "$OLD" "$NEW"; do
    list=$("$it" help "$1" | tr -s ' \n' ' ' | sed -n 's/.*(one of \([^)]*\)).*/\1/p')
    [ -n "$list" ] || fail "$it help $1: no list of words" >&2 || return 1
    tr -d ' ' <<< "$list" | tr , '\n'
  done | sort -u
}

# maybe ARGUMENT…: a run on one rank, which the program may refuse
maybe() {
  ranks 1 "$@"
  case $? in 0 | 2) return 0 ;; *) fail "failed: mdlm $*" ;; esac
}

# inputs NAME: create $T/NAME.in.h5 for `mdlm logits`, $T/NAME.prompt, and with OLD the scoring network $T/NAME.judge
inputs() {
  local data shape
  data=$(sed -n 's/.* valid = "\([^"]*\)".*/\1/p' "input/smoke/$1.cfg")
  shape=$("$PY" -c 'import mdlm_h5, sys; d = mdlm_h5.data(sys.argv[1])
print(d.shape[1], len(d.vocabulary.tokens), d.vocabulary.attributes["mask"])' "$data") || return 1
  # shellcheck disable=SC2086
  "$PY" tests/e2e/logits.py make "$T/$1.in.h5" 4 $shape &&
    awk -v n="${shape%% *}" 'BEGIN { for (i = 0; i < n; i++) printf "%s ", i % 4 == 1 ? 5 + i % 8 : "_" }' > "$T/$1.prompt" &&
    ranks 1 train input/smoke/lm1b_ar.cfg run.dir="$T/$1.judge" data.train="$data" data.valid="$data" train.steps=5
}

# work PROGRAM FOLDER NAME: all runs of one program with a deck; results in FOLDER
work() {
  local MDLM=$1 dir=$2 deck=(input/smoke/"$3".cfg device.threads=1 device.pin=false) sampler option options
  local draw=(sample.count=16 sample.batch=6 sample.steps=8)
  local -x OMPI_MCA_orte_tmpdir_base=$dir
  ranks 1 train "${deck[@]}" run.dir="$dir/1_rank" train.steps=$STEPS device.threads=2 || return 1
  deck+=(run.dir="$dir/2_ranks")
  ranks 2 train "${deck[@]}" train.steps=$STEPS && ranks 2 eval "${deck[@]}" && ranks 2 sample "${deck[@]}" "${draw[@]}" &&
    ranks 2 score "${deck[@]}" score.checkpoint="$T/$3.judge/last.h5" &&
    ranks 1 logits "${deck[@]}" logits.input="$T/$3.in.h5" logits.log_p=true logits.output="$dir/logits.h5" || return 1
  for option in $ESTIMATORS; do
    maybe eval "${deck[@]}" eval.estimator="$option" eval.output="$dir/eval_$option.h5" || return 1
  done
  for sampler in $SAMPLERS; do
    options=(steps=8 num_strides=2+stride_length=8 temperature=0.7 nucleus=0.9 draw=f32 prompt="$T/$3.prompt")
    case $sampler in
    ar) options+=(cache=false) ;;
    remask) options+=(remask=rescale remask=confidence) ;;
    esac
    for option in "${options[@]}"; do
      # shellcheck disable=SC2086
      maybe sample "${deck[@]}" "${draw[@]}" sample.sampler="$sampler" sample.${option//+/ sample.} \
        sample.output="$dir/sample_${sampler}_${option##*/}.h5" || return 1
    done
  done
}

# resumed NAME: OLD begins a run and NEW resumes it
resumed() {
  local keys=(input/smoke/"$1".cfg device.threads=1 device.pin=false run.dir="$T/resumed/$1")
  MDLM=$OLD ranks 2 train "${keys[@]}" train.steps=$HALF &&
    MDLM=$NEW ranks 1 train "${keys[@]}" train.steps=$STEPS run.resume=must
}

# differences NAME: print one line per difference
differences() {
  same "$T/old/$1" "$T/new/$1" || return 1
  same "$T/old/$1/1_rank/last.h5" "$T/resumed/$1/last.h5" params ema adam_m adam_v @step @tokens @masked_tokens
}

count() { find "$T/old/$2" -name "$1*.h5" | wc -l; } # WORD NAME: number of files

compare() { # NAME: run both programs with a deck and print one line
  local pid failed='' found
  mkdir -p "$T"/{old,new,resumed}/"$1"
  if inputs "$1" > "$T/inputs.log" 2>&1; then
    work "$OLD" "$T/old/$1" "$1" > "$T/old.log" 2>&1 &
    pid=$!
    work "$NEW" "$T/new/$1" "$1" > "$T/new.log" 2>&1 || failed=new
    wait $pid || failed=old
    [ "$failed" ] || resumed "$1" > "$T/resumed.log" 2>&1 || failed=resumed
  else
    failed=inputs
  fi
  if [ "$failed" ]; then
    fail "failed ($failed): $(tail -n 2 "$T/$failed.log")"
  elif found=$(differences "$1" 2>&1); then
    echo "$STEPS steps, 1 and 2 ranks: weights, $(count sample "$1") sample files, $(count eval "$1") evaluations, scores," \
      "logits, resuming: identical"
  else
    fail "different: $(head -n 1 <<< "$found") (of $(wc -l <<< "$found") differences)"
  fi
}

SAMPLERS=$(words sample.sampler) && ESTIMATORS=$(words eval.estimator) || exit 1
DATA=data input/smoke.sh --data > "$T/log" 2>&1 || { cat "$T/log"; exit 1; }
passed=0 failed=0
[ $# -gt 0 ] || for deck in input/smoke/*.cfg; do set -- "$@" "$(basename "$deck" .cfg)"; done
for name; do
  printf '%-16s ' "$name"
  if compare "$name"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
