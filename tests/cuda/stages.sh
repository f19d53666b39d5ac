#!/bin/bash
# stages.sh STAGE — one stage of first.sh. Appends a line to $RESULTS for each result at once; all else that is printed goes
# to $LOG. Exit code 0: passed; 77: skipped; any other: failed. A result of part "note" says why.
#
#   environment  the GPU, driver, the CUDA libraries that are found, versions
#   smoke        one micro-batch of the shapes tiny and small1024: no error, no NaN, attention by the kernel $ATTENTION
#   headline     steps of $SHAPES, not deterministic, then deterministic; evaluation; the GPU's clocks meanwhile
#   ops          each op in bf16, the products first
#   kernels      where a step's time goes: each kernel of a step of $KERNELS, timed by Nsight Compute (ncu)
#   tests        the test programs $OP_TESTS, each under its own limit
#   curves       losses of $DECKS beside the CPU's
#   peer         PyTorch's step of $PEER_SHAPES: compiled, its head on masked rows, then on all
#   samples      64 samples by `event`
#   memory       memcheck on $MEMORY_TESTS
#   medium       steps of $MEDIUM
# Variables: those of bench.sh and check.sh (BUILD, MODE, DEVICE, BENCH, BENCH_OPS, PROGRAM, TESTS, SIZE, DATA, PYTHON); a
# shape is NAME:MICRO-BATCHES:STEPS; SMOKE, SHAPES, MEDIUM, PEER_SHAPES, KERNELS: shapes; WORDS: further key=value words of bench;
# SAMPLES: such words of `samples`; OP_TESTS: NAME:SECONDS; LIBRARY: that of the CUDA backend; ATTENTION (cudnn).
# shellcheck disable=SC2086,SC2153
set -u
export LC_ALL=C.UTF-8
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_hwloc_base_binding_policy=none
export MODE=${MODE:-gpu} DEVICE=${DEVICE:-cuda}
build=${BUILD:-build} suffix=/gpu
[ "$MODE" = gpu ] || build=$build/emulated suffix=
BENCH=${BENCH:-$build/bench} BENCH_OPS=${BENCH_OPS:-$build/bench_ops} PROGRAM=${PROGRAM:-$build/mdlm}
TESTS=${TESTS:-$build$suffix/tests} LIBRARY=${LIBRARY:-$build/libmdlm_cuda.so} SIZE=${SIZE:-small}
SMOKE=${SMOKE:-tiny:1:3 small1024:1:3} SHAPES=${SHAPES:-small1024:8:5 small128:2:20} MEDIUM=${MEDIUM:-medium1024:16:3}
KERNELS=${KERNELS:-small1024:1:1 small128:1:1}
PEER_SHAPES=${PEER_SHAPES:-small1024:8:5 small128:2:20}
SAMPLES=${SAMPLES:-sample.count=64 sample.steps=1000}
OP_TESTS=${OP_TESTS:-dense:30 attention:30 step:30 residual_norm:15 loss:15 embed:15 update:15 draw:15 draw_rule:15}
# the host initialises the weights; of what is timed, only the times of events (stage samples) are computed on several cores
cores=$(nproc) OMP_NUM_THREADS=$((cores < 16 ? cores : 16))
export OMP_NUM_THREADS
here=$(dirname "$0")
# shellcheck source=tests/cuda/sweep.sh
. "$here/sweep.sh"

# ---- results
put() { printf '{"stage": "%s", "part": "%s", "figures": %s}\n' "$STAGE" "$1" "$2" >> "$RESULTS"; } # PART JSON
quoted() { # TEXT…: as a JSON string
  local text=$*
  text=${text//[[:cntrl:]]/ }
  text=${text:0:400}
  text=${text//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}
note() { put note "$(quoted "$*")"; }

# explain CODE WHAT SIZE END: a note why a command failed, by a line that the log has after its first SIZE bytes: the first or
# the last one (END: head or tail) that is no result
explain() {
  local line
  line=$(tail -c +$(($3 + 1)) "$LOG" | grep -avE '^(\{.*|== .*|(# )?(not )?ok .*|1\.\..*|warning: .*|[[:space:]]*)$' | "$4" -n 1)
  case $1 in
  0) ;;
  124) note "$2: out of time" ;;
  137) note "$2: killed, out of time or memory" ;;
  *) if [ "$1" -gt 128 ]; then note "$2: signal $(($1 - 128))"; else note "$2: ${line:-exit code $1}"; fi ;;
  esac
}

# run NAME KEEP END COMMAND…: each line that it prints goes to the log and to the function KEEP, at once; what it leaves behind
# is killed; a failure is explained. Its exit code
commands=0
run() {
  local name=$1 keep=$2 end=$3 mark=MDLM_COMMAND=$MDLM_STAGE-$((commands += 1)) output reader code size
  shift 3
  echo "== $*"
  size=$(stat -c %s "$LOG")
  exec {output}> >(while IFS= read -r line; do printf '%s\n' "$line"; $keep "$line"; done)
  reader=$!
  env "$mark" "$@" < /dev/null >&"$output" {output}>&-
  code=$?
  exec {output}>&-
  sweep "$mark"
  wait $reader
  explain $code "$name" "$size" "$end"
  return $code
}

# figures PART COMMAND…: the lines of JSON that it prints are results of that part
figures() {
  local part=$1
  run "$(basename "$2") ${*:3}" keep_figures tail "${@:2}"
}
keep_figures() { [[ $1 != "{"*"}" ]] || put "$part" "$1"; }

# checks NAME COMMAND…: the lines of TAP that it prints are results of part check
checks() { run "$1" keep_checks head "${@:2}"; }
keep_checks() { [[ ! $1 =~ ^(not )?ok\  ]] || put check "$(quoted "$1 ($name)")"; }

# ---- the GPU's clocks, as far as they can be asked for
clocks() { # WHEN
  local sm memory power celsius
  IFS=', ' read -r sm memory power celsius < <(timeout -k 1 3 nvidia-smi \
    --query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu --format=csv,noheader,nounits | head -n 1)
  put clocks "{\"when\": \"$1\", \"sm_mhz\": $(quoted $sm), \"memory_mhz\": $(quoted $memory), \"power_w\": $(quoted $power), \"celsius\": $(quoted $celsius)}"
}

# bench SHAPE [WORD…]: training steps
bench() {
  local shape micros steps
  IFS=: read -r shape micros steps <<< "$1"
  figures steps "$BENCH" $shape bf16 $steps $micros dit subs "$DEVICE" "${@:2}" ${WORDS:-}
}

# ---- stages
stage_environment() {
  local gpu versions libraries bad=0
  timeout -k 1 3 nvidia-smi
  gpu=$(timeout -k 1 3 nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit \
    --format=csv,noheader | head -n 1)
  [ -n "$gpu" ] || { bad=1; note "nvidia-smi lists no GPU"; }
  figures machine "$PYTHON" "$here/results.py" --machine "" "$gpu" # now: the libraries may take long to load
  libraries=$(ldd "$LIBRARY") || { bad=1; note "$LIBRARY cannot be read"; }
  echo "$libraries"
  ! grep 'not found' <<< "$libraries" || { bad=1; note "$LIBRARY: libraries are missing"; }
  libraries=$(awk '/lib(cu(da|blas|dnn)|nccl|nv)|not found/ { print $1, $3 == "not" ? "not found" : $3 }' <<< "$libraries")
  versions=$("$PROGRAM" --version) || { bad=1; note "mdlm --version fails"; }
  echo "$versions"
  figures machine "$PYTHON" "$here/results.py" --machine "$versions" "$gpu" "$libraries" || bad=1
  return $bad
}

stage_smoke() {
  local it last
  for it in $SMOKE; do
    bench $it || return 1
    last=$(grep '"part": "steps".*"step_s"' "$RESULTS" | tail -n 1)
    [[ $last =~ \"loss\":\ [0-9] ]] || { note "${it%%:*}: the loss is no number"; return 1; }
    [[ $last == *"\"attention\": \"${ATTENTION:-cudnn}\""* ]] ||
      { note "${it%%:*}: attention is not by ${ATTENTION:-cudnn}: $(grep -ao 'warning: attention.*' "$LOG" | tail -n 1)"; return 1; }
  done
}

# passed STAGE: its last verdict
passed() { grep "\"stage\": \"$1\", \"part\": \"stage\"" "$RESULTS" | tail -n 1 | grep -q '"verdict": "passed"'; }

stage_headline() {
  local it deterministic reading bad=0
  passed smoke || { note "smoke has not passed"; return 77; }
  clocks before
  while sleep 3 && kill -0 $$; do clocks during; done &
  reading=$!
  for deterministic in false true; do
    for it in $SHAPES; do bench $it device.deterministic=$deterministic || bad=1; done
  done
  kill $reading
  clocks after
  return $bad
}

stage_ops() { figures ops "$BENCH_OPS" "$DEVICE" bf16 "$SIZE"; }

# Kernels run one by one here and at the clocks of that moment: their sum is not the time of a step.
stage_kernels() {
  local it shape ncu limit bad=0
  ncu=$(command -v ncu || ls "${CUDA_HOME:-/usr/local/cuda}/bin/ncu" 2> /dev/null) || { note "Nsight Compute (ncu) is not installed"; return 77; }
  limit=$(awk -v f="${SCALE:-1}" 'BEGIN { print 40 * f }')
  for it in $KERNELS; do
    shape=${it%%:*}
    rm -f "$RESULTS.ncu"
    run "ncu $shape" : tail timeout -k 1 "$limit" "$ncu" --csv --print-units base --print-kernel-base function --log-file "$RESULTS.ncu" \
      --metrics gpu__time_duration.sum --cache-control none --clock-control none --launch-count 4000 \
      "$BENCH" $shape bf16 1 1 dit subs "$DEVICE" device.deterministic=false ${WORDS:-} || bad=1
    figures kernels "$PYTHON" "$here/results.py" --kernels $shape "$RESULTS.ncu" || bad=1
  done
  rm -f "$RESULTS.ncu"
  return $bad
}

stage_tests() {
  local it limit bad=0
  export CMOCKA_MESSAGE_OUTPUT=TAP
  for it in $OP_TESTS; do
    limit=$(awk -v s="${it#*:}" -v f="${SCALE:-1}" 'BEGIN { print s * f }')
    checks "test_${it%:*}" timeout -k 1 "$limit" "$TESTS/test_${it%:*}" || bad=1
  done
  return $bad
}

stage_curves() { DECKS=${DECKS:-owt_mdlm lm1b_mdlm} checks curves "$here/check.sh" curves; }

stage_peer() {
  local it shape micros steps bad=0
  "$PYTHON" -c 'import torch' || { note "$PYTHON has no torch"; return 77; }
  for it in $PEER_SHAPES; do
    IFS=: read -r shape micros steps <<< "$it"
    figures peer "$PYTHON" "$here/../golden/peer_torch.py" --shape $shape --micros $micros --steps $steps --device "$DEVICE" \
      --variants compile:masked,compile:full --no-look || bad=1
  done
  return $bad
}

stage_samples() {
  local it=${SHAPES%% *}
  figures samples "$BENCH" ${it%%:*} bf16 0 1 dit subs "$DEVICE" sample.sampler=event $SAMPLES ${WORDS:-}
}

stage_memory() {
  MEMORY_TOOLS=memcheck MEMORY_TESTS=${MEMORY_TESTS:-residual_norm loss embed} checks memcheck "$here/check.sh" memory || return 1
  ! grep '^{"stage": "memory", "part": "check"' "$RESULTS" | grep -q '# SKIP' || { note "the checks were skipped"; return 77; }
}

stage_medium() {
  local bad=0
  for it in false true; do bench "$MEDIUM" device.deterministic=$it || bad=1; done
  return $bad
}

"stage_$1"
