#!/bin/bash
# test_nccl.sh — NCCL failures end the job with one line and without a hang: a rank that cannot join or never joins, a
# reduction or a send that fails while it runs. Runs on the emulated backend.
# limit: 120
# shellcheck disable=SC2317,SC2034
PY=none # lib.sh: no Python needed
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/../e2e/lib.sh"
PROGRAM=$(realpath "${BUILD:-build}/emulated/tests/test_device_comm")
CODE=8 # ERR_COMM

# job RANKS FAULT HOW: run the program on RANKS ranks with the fault on the last one; their messages go to $T/said.RANK
job() {
  rm -f "$T"/said*
  # shellcheck disable=SC2016
  timeout -k 5 "$LIMIT" mpirun -n "$1" bash -c '
    [ "$OMPI_COMM_WORLD_RANK" = "$0" ] && export EMULATION_NCCL_FAULT=$1
    exec "$2" "$3" 2> "$4$OMPI_COMM_WORLD_RANK"' "$(($1 - 1))" "$2" "$PROGRAM" "$3" "$T/said." > /dev/null 2>&1
}

# fails LINE RANKS FAULT HOW: whether the job ends with that line and no other
fails() {
  local ended=0
  exits "$CODE" job "${@:2}" || ended=1
  cat "$T"/said.* | grep -v '^\[' > "$T/said" # without Open MPI's own lines
  cat "$T/said"
  [ "$ended" = 0 ] && [ "$(grep -c '^test: ' "$T/said")" = 1 ] && grep -qF "test: $1" "$T/said"
}

for n in 1 2 4; do
  last=$((n - 1)) said="NCCL: remote error: a requested fault"
  tap "$n ranks: no fault" job $n "" fault
  tap "$n ranks: one cannot join" fails "rank $last: joining other ranks: NCCL: unhandled system error" $n 0 fault
  tap "$n ranks: the first sum fails" fails "rank $last: waiting for collectives: $said" $n 1 fault
  tap "$n ranks: a later call fails" fails "rank $last: waiting for collectives: $said" $n 7 fault
done
for call in 2 3; do # reduce, then broadcast
  tap "an exchange of the tree fails" fails "rank 1: waiting for collectives: $said" 2 $call fault
done
tap "ranks that never join" fails "rank 0: joining other ranks: timed out after 0.3 s waiting for other ranks" 2 "" absent
finish
