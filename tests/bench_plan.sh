#!/bin/bash
# bench_plan.sh DECK [key=value…] — the prediction of plan.ranks beside real runs of 1, 2 and 4 ranks on this machine, one
# thread each: in each round `mdlm check` on one rank predicts, and on 2 and 4 ranks measures. Prints medians and errors.
# Called by `make bench-plan`. Variables: BUILD, ROUNDS (5).
set -eu
export LC_ALL=C.UTF-8 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
mdlm=${BUILD:-build}/mdlm rounds=${ROUNDS:-5}
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
run=("$mdlm" check "$@" run.dir="$T/run" device.threads=1 plan.node_link=memory plan.per_node=4)
for ((round = 0; round < rounds; round++)); do
  "${run[@]}" plan.ranks=4 | awk '/^plan / { on = 1 } on && /^ +[0-9]+ +1 / { print "predicted", $1, $3 }' >> "$T/lines"
  for n in 1 2 4; do
    mpirun -n $n "${run[@]}" | awk -v n=$n '/^step / { print "measured", n, $2 }' >> "$T/lines"
  done
done
echo "$(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $rounds rounds"
sort -k 1,2 -k 3g "$T/lines" | awk '
  { key = $1 " " $2; n[key]++; value[key, n[key]] = $3 }
  function median(key) { return value[key, int((n[key] + 1) / 2)] }
  END { for (r = 1; r <= 4; r *= 2) {
    p = median("predicted " r); m = median("measured " r)
    printf("%d rank%s predicted %.4g s, measured %.4g s: %+.0f %%\n", r, (r > 1) ? "s:" : ": ", p, m, 100 * (p / m - 1)) } }'
