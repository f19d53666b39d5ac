#!/bin/bash
# check.sh [PART…] — compares the CUDA backend with the CPU: on a GPU (MODE=gpu), or emulated (MODE=emulated) with
# smaller sizes and fewer steps. Prints TAP.
#
# Parts, by default all:
#   ops     the test programs linked with the device: ops, a whole step, the distribution of samples
#   curves  losses of the smoke decks on the device and on the CPU, in f32 and with bf16 products
#   resume  a run stopped and resumed on the device, bit for bit; checkpoints moved between device and CPU
#   uses    evaluation and sampling
#   ranks   one rank; two, if there are two GPUs
#   memory  compute-sanitizer on the test programs (MODE=gpu): $MEMORY_TOOLS on test_X for each X of $MEMORY_TESTS
#   errors  no GPU, an old GPU, too little memory, a fault in a kernel, too many ranks: one line and no hang
# Variables: MODE; PROGRAM: mdlm; TESTS: the folder of the test programs; COMPARE: the program of compare.c; DATA: data of
# `input/smoke.sh --data`, by default made in a temporary folder; DEVICE: cuda, or cpu to try this script without a GPU;
# DECKS: those of `curves`, by default all of input/smoke; MEMORY_TOOLS (memcheck racecheck); MEMORY_TESTS, by default all.
# shellcheck disable=SC2317,SC2086,SC2034,SC2206,SC2154
MODE=${MODE:-gpu} DEVICE=${DEVICE:-cuda}
case $MODE in
gpu) build=${BUILD:-build} TESTS=${TESTS:-$build/gpu/tests} PROGRAM=${PROGRAM:-$build/mdlm} ;;
emulated) build=${BUILD:-build}/emulated TESTS=${TESTS:-$build/tests} PROGRAM=${PROGRAM:-$build/mdlm} ;;
*) echo "check.sh: MODE=$MODE: gpu or emulated"; exit 2 ;;
esac
COMPARE=${COMPARE:-${BUILD:-build}/tests/cuda/compare}
gpus() { # the number of GPUs
  if [ "$MODE" = emulated ]; then echo "${EMULATION_GPUS:-2}"; else nvidia-smi -L 2> /dev/null | grep -c '^GPU'; fi
}
if [ "$DEVICE" = cuda ] && [ "$(gpus)" = 0 ]; then
  echo "Bail out! there is no GPU on this machine (nvidia-smi -L lists none); make check runs the kernels emulated on the CPU"
  exit 1
fi
[ "${1:-}" != present ] || exit 0
[ -n "${DATA:-}" ] || PY=${PY:-.venv/bin/python} # to make the data
[ -z "${DATA:-}" ] || PY=none
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/../e2e/lib.sh"
LIMIT=300
[ $# -gt 0 ] || set -- ops curves resume uses ranks memory errors
if [ -z "${DATA:-}" ]; then
  DATA=$T/data
  text 600 > "$T/text" || exit 1
  PY=$PY CORPUS=$T/text DATA=$DATA input/smoke.sh --data > "$T/log" 2>&1 || { cat "$T/log"; exit 1; }
fi
if [ "$MODE" = gpu ]; then # twenty steps of 16 sequences; the emulation is too slow for more than a few
  decks=(input/smoke/*.cfg) steps=20 stop=7 size=()
else
  decks=(input/smoke/lm1b_{mdlm,ar,mdlm_mamba}.cfg) # test_step has every network with every objective
  [ "${LONG:-}" != 1 ] || decks=(input/smoke/lm1b_*.cfg)
  steps=3 stop=2 size=(device.threads=1 train.global_batch=2 train.micro_batch=1 train.warmup=1 model.blocks=1)
fi
[ -z "${DECKS:-}" ] || mapfile -t decks < <(printf 'input/smoke/%s.cfg\n' $DECKS)

# train NAME DECK DEVICE MATMUL [KEY=VALUE…]: train in $T/NAME
train() {
  local set
  set=$(basename "$2" .cfg)
  set=${set%%_*} data=$DATA/smoke/${set}_
  [ "$set" != owt ] || data=$DATA/demo/
  ranks "${RANKS:-1}" train "$2" run.dir="$T/$1" data.train="${data}train.h5" data.valid="${data}valid.h5" device.name="$3" \
    device.matmul="$4" train.steps=$steps train.log_every=1 train.valid_every=0 train.save_every=0 train.valid_sequences=4 \
    "${size[@]}" "${@:5}"
}
same_state() { # A B: whether weights, averages and moments are equal
  "$COMPARE" same "$T/$1/last.h5" "$T/$2/last.h5" params ema adam_m adam_v
}
near() { "$COMPARE" close "$T/$1/metrics.h5" "$T/$2/metrics.h5" "$3" train/loss; } # A B BOUND
deck=input/smoke/lm1b_mdlm.cfg mamba=input/smoke/lm1b_mdlm_mamba.cfg

# In f32, device and CPU differ in the order of sums, by some 1e-7 of a loss. Twenty steps of AdamW can amplify this: if
# a gradient is near zero, its sign decides the step. With bf16 products the CPU's losses are within 1e-3 of those in
# f32; a device also rounds activations and is allowed ten times as much.
declare -A most=([f32]=1e-4 [bf16]=1e-2)

part_ops() {
  local t
  [ "$DEVICE" = cuda ] || { tap_skip "the test programs" "DEVICE=$DEVICE"; return; }
  for t in "$TESTS"/test_*; do tap "$(basename "$t")" program "$t"; done
}
program() { # at least one of its tests ran, and none failed
  CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 5 300 "$1" > "$T/out" 2>&1 || { grep -v '^ok' "$T/out"; return 1; }
  grep -q '^ok' "$T/out"
}

part_curves() {
  local it name matmul
  for it in "${decks[@]}"; do
    name=$(basename "$it" .cfg)
    tap "$name on the CPU" train "$name-cpu" "$it" cpu f32
    for matmul in f32 bf16; do
      tap "$name, $matmul: $steps steps" train "$name-$matmul" "$it" "$DEVICE" $matmul
      tap "$name, $matmul: losses within ${most[$matmul]} of the CPU's" near "$name-$matmul" "$name-cpu" "${most[$matmul]}"
    done
  done
}

part_resume() {
  local matmul it name
  for it in "$deck" "$mamba"; do
    for matmul in f32 bf16; do
      name=$(basename "$it" .cfg)-$matmul
      tap "$name: $steps steps" train "$name-whole" "$it" "$DEVICE" $matmul
      tap "$name: stopped after $stop" train "$name-parts" "$it" "$DEVICE" $matmul train.steps=$stop
      tap "$name: resumed" resumed "$name-parts" "$it" "$DEVICE" $matmul
      tap "$name: the same state bit for bit" same_state "$name-whole" "$name-parts"
    done
  done
  moved "$DEVICE" cpu
  [ "$DEVICE" = cpu ] || moved cpu "$DEVICE"
}
resumed() { # as train, and whether the run was resumed
  train "$@" > "$T/out" || { cat "$T/out"; return 1; }
  grep "^resuming from .*/last.h5 at step $stop$" "$T/out"
}
moved() { # FROM TO: a checkpoint of FROM resumed on TO has the same next loss
  local from=$1 to=$2 it
  tap "a checkpoint of $from" train "$from-first" "$deck" "$from" f32 train.steps=$stop
  for it in from to; do
    cp -r "$T/$from-first" "$T/$from-$it"
    tap "… resumed on ${!it}" resumed "$from-$it" "$deck" "${!it}" f32 train.steps=$((stop + 1))
  done
  tap "… with the same next loss, within ${most[f32]}" near "$from-from" "$from-to" "${most[f32]}"
}

part_uses() {
  tap "a run for evaluation and sampling" train used "$deck" "$DEVICE" f32
  keys=("$deck" run.dir="$T/used" data.train="$DATA/smoke/lm1b_train.h5" data.valid="$DATA/smoke/lm1b_valid.h5"
    eval.sequences=8 eval.batch=4 sample.count=2 sample.batch=2 sample.steps=4 "${size[@]}")
  tap "evaluated on the CPU" ranks 1 eval "${keys[@]}" eval.output="$T/cpu.h5"
  for matmul in f32 bf16; do
    local on=("${keys[@]}" device.name="$DEVICE" device.matmul=$matmul)
    tap "evaluated, $matmul" ranks 1 eval "${on[@]}" eval.output="$T/$matmul.h5"
    tap "the bounds of the sequences within ${most[$matmul]} of the CPU's" \
      "$COMPARE" close "$T/$matmul.h5" "$T/cpu.h5" "${most[$matmul]}" loss
    tap "sampled, $matmul" ranks 1 sample "${on[@]}" sample.output="$T/samples-$matmul.h5"
  done
}

part_ranks() {
  local reduce
  have_mpirun=$(command -v mpirun)
  for reduce in tree fast; do
    tap "1 rank, $reduce" train "one-$reduce" "$deck" "$DEVICE" f32 dist.reduce=$reduce
  done
  tap "1 rank: the same loss with tree and fast" near one-fast one-tree "${most[f32]}"
  if [ -z "$have_mpirun" ]; then
    tap_skip "2 ranks" "mpirun is not installed"
  elif [ "$(gpus)" -lt 2 ]; then
    tap_skip "2 ranks" "there is only one GPU"
  else
    tap "2 ranks: reductions" timeout -k 5 "$LIMIT" mpirun -n 2 "$TESTS/test_device_comm"
    for reduce in tree fast; do
      RANKS=2 tap "2 ranks, $reduce" train "two-$reduce" "$deck" "$DEVICE" f32 dist.reduce=$reduce
    done
    tap "2 ranks, tree: the state of 1 rank bit for bit" same_state two-tree one-tree
    RANKS=2 tap "2 ranks, state divided" train two-divided "$deck" "$DEVICE" f32 dist.shard_optimizer=true
    tap "2 ranks, state divided: the state of 1 rank bit for bit" same_state two-divided one-tree
    tap "2 ranks, fast: losses within ${most[f32]} of those of 1 rank" near two-fast one-tree "${most[f32]}"
  fi
}

part_memory() {
  local sanitizer t tool programs=("$TESTS"/test_*)
  [ -z "${MEMORY_TESTS:-}" ] || mapfile -t programs < <(printf "$TESTS/test_%s\n" $MEMORY_TESTS)
  sanitizer=$(command -v compute-sanitizer || ls "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer" 2> /dev/null)
  if [ "$MODE" = emulated ]; then
    tap_skip "compute-sanitizer" "there is no GPU; the emulation itself guards device memory and poisons shared memory"
  elif [ -z "$sanitizer" ]; then
    tap_skip "compute-sanitizer" "it is not installed"
  else
    for tool in ${MEMORY_TOOLS:-memcheck racecheck}; do
      for t in "${programs[@]}"; do
        tap "$tool $(basename "$t")" timeout -k 5 600 "$sanitizer" --tool $tool --error-exitcode 9 "$t"
      done
    done
  fi
}

# refused PATTERN COMMAND…: whether it fails in time with one matching error line
refused() {
  local pattern=$1 code=0
  "${@:2}" > "$T/out" 2> "$T/err" || code=$?
  cat "$T/err"
  [ $code -gt 0 ] && [ $code -lt 124 ] || fail "exit code $code" || return 1
  [ "$(grep -c '^mdlm: error' "$T/err")" = 1 ] || fail "not exactly one line of error" || return 1
  grep -qE "^mdlm: error.*$pattern" "$T/err" || fail "no line matches: $pattern"
}
refused_late() { # as refused, but after the run has printed its header
  refused "$@" && grep -q '^run ' "$T/out"
}
attempt() { RANKS=$1 train "none$RANDOM" "$deck" "$DEVICE" f32 "${@:2}"; } # RANKS [KEY=VALUE…]
faulty() { # N: launch N fails on the second of two ranks
  train=("$MDLM" train "$deck" run.dir="$T/faulty" data.train="$DATA/smoke/lm1b_train.h5" data.valid= device.name="$DEVICE" "${size[@]}")
  timeout -k 5 "$LIMIT" mpirun -n 1 "${train[@]}" : -n 1 env EMULATION_FAULT="$1" "${train[@]}" < /dev/null
}

part_errors() {
  local at
  [ "$DEVICE" = cuda ] || { tap_skip "errors of a GPU" "DEVICE=$DEVICE"; return; }
  if [ "$MODE" = gpu ]; then
    CUDA_VISIBLE_DEVICES=-1 tap "no GPU to be seen" refused 'there is no GPU' attempt 1
    tap "out of memory" refused 'out of memory.*micro_batch = [0-9]+ does not fit, train.micro_batch = [0-9]+ does' attempt 1 model.width=1024 train.micro_batch=1048576 \
      train.global_batch=1048576
  else
    EMULATION_GPUS=0 tap "no GPU" refused 'there is no GPU.*device.name = cpu' attempt 1
    EMULATION_GPUS=-1 tap "no driver" refused 'no driver.*device.name = cpu' attempt 1
    EMULATION_CAPABILITY=7 tap "a GPU that is too old" refused 'compute capability 7.0.*oldest' attempt 1
    EMULATION_MEMORY=0 tap "no memory at all" refused 'out of memory.*MiB requested' attempt 1
    EMULATION_MEMORY=1 tap "too little memory" refused 'out of memory.*MiB requested' attempt 1
    EMULATION_MEMORY=30 tap "too little memory for scratch" refused 'out of memory.*no train.micro_batch is small enough' attempt 1
    if [ "${LONG:-}" = 1 ]; then # half a minute, since each attempt ends with an emulated forward pass
      EMULATION_MEMORY=400 tap "too large a micro-batch" refused 'out of memory.*micro_batch = [0-9]+ does not fit, train.micro_batch = [0-9]+ does' \
        attempt 1 train.global_batch=4096 train.micro_batch=4096
    fi
    for at in 1 10 200; do
      EMULATION_FAULT=$at tap "a fault in kernel $at" refused 'illegal memory access' attempt 1
    done
    if command -v mpirun > /dev/null; then
      tap "a fault on one of two ranks, before the first step" refused 'illegal memory access' faulty 50
      tap "a fault on one of two ranks, in a step" refused_late 'illegal memory access' faulty 200
    else
      tap_skip "a fault on one of two ranks" "mpirun is not installed"
    fi
  fi
  if command -v mpirun > /dev/null; then
    EMULATION_GPUS=1 tap "more ranks than GPUs" refused 'at most one rank per GPU' attempt $((2 * $(EMULATION_GPUS=1 gpus)))
  else
    tap_skip "more ranks than GPUs" "mpirun is not installed"
  fi
}

for part; do "part_$part"; done
echo "# $((tests - failures)) of $tests passed"
finish
