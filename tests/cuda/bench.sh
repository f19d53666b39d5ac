#!/bin/bash
# bench.sh [PART…] — measures a GPU: the speed of a large copy and a large matrix product, of each op relative to these,
# of whole training steps, and of PyTorch's step of the same network. Writes one JSON object to $OUT and prints a table.
#
# Parts, by default all: ops, steps, peer. Each writes its lines to $OUT.lines/PART, and $OUT is made from all existing
# parts. If the time of a job is limited, a job can measure one part with its own OUT; of peer, the slowest part, one
# shape and one variant. The results are then merged by  results.py A.json.lines B.json.lines … --out FILE.
# Variables: BENCH, BENCH_OPS: the programs; PROGRAM: mdlm; PYTHON: one with torch, for peer; OUT; SHAPES: shapes of
# tests/bench, each with its number of micro-batches per step; VARIANTS: of the peer; SIZE: of bench_ops; STEPS; DEVICE:
# cuda, or cpu to try this script.
# shellcheck disable=SC2317,SC2086,SC2015
set -u
export LC_ALL=C.UTF-8 OMP_NUM_THREADS=1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_hwloc_base_binding_policy=none
build=${BUILD:-build} DEVICE=${DEVICE:-cuda} SIZE=${SIZE:-small} STEPS=${STEPS:-9}
BENCH=${BENCH:-$build/bench} BENCH_OPS=${BENCH_OPS:-$build/bench_ops} PROGRAM=${PROGRAM:-$build/mdlm}
OUT=${OUT:-$build/bench-cuda.json} PYTHON=${PYTHON:-python3}
# 512 sequences per step, as in the paper's recipes
SHAPES=${SHAPES:-small1024:8 small128:2 medium1024:16}
here=$(dirname "$0") lines=$OUT.lines failed=0
gpus=$(nvidia-smi -L 2> /dev/null | grep -c '^GPU')
if [ "$gpus" = 0 ] && [ "$DEVICE" = cuda ]; then
  echo "bench.sh: there is no GPU on this machine (nvidia-smi -L lists none)"
  exit 1
fi
[ $# -gt 0 ] || set -- ops steps peer
mkdir -p "$lines"

# lines_of PART COMMAND…: append the command's output to the part; report a failure
lines_of() {
  "${@:2}" >> "$lines/$1" < /dev/null || { failed=1; echo "left out: ${*:2}"; }
}

part_machine() {
  : > "$lines/machine"
  "$PYTHON" "$here/results.py" --machine "$("$PROGRAM" --version)" \
    "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null | head -n 1)" > "$lines/machine"
}

part_ops() {
  for matmul in bf16 f32; do lines_of ops "$BENCH_OPS" "$DEVICE" $matmul "$SIZE"; done
}

part_steps() {
  local it n deterministic
  for it in $SHAPES; do
    for deterministic in true false; do
      lines_of steps "$BENCH" "${it%:*}" bf16 "$STEPS" "${it#*:}" dit subs "$DEVICE" device.deterministic=$deterministic
    done
  done
  it=${SHAPES%% *}
  lines_of steps "$BENCH" "${it%:*}" bf16 "$STEPS" "${it#*:}" ar ar "$DEVICE"
  lines_of steps "$BENCH" "${it%:*}" bf16 "$STEPS" "${it#*:}" dimamba subs "$DEVICE"
  for n in 2 4 8; do
    [ "$gpus" -ge $n ] && command -v mpirun > /dev/null || break
    lines_of steps mpirun -n $n "$BENCH" "${it%:*}" bf16 "$STEPS" $((${it#*:} / n)) dit subs "$DEVICE"
  done
}

part_peer() {
  local it
  if ! "$PYTHON" -c 'import torch' 2> /dev/null; then
    echo "left out: peer, since $PYTHON has no torch"
    return
  fi
  for it in $SHAPES; do
    lines_of peer "$PYTHON" "$here/../golden/peer_torch.py" --shape "${it%:*}" --micros "${it#*:}" --device "$DEVICE" \
      --steps "$STEPS" ${VARIANTS:+--variants "$VARIANTS"}
  done
}

part_machine
for part; do
  : > "$lines/$part"
  "part_$part"
done
"$PYTHON" "$here/results.py" "$lines" --out "$OUT" || failed=1
echo "written: $OUT"
exit $failed
