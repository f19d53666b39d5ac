#!/usr/bin/env bash
# bench.sh [shape…] — every shape in f32 and bf16 with all cores, then weak scaling from one rank to two. `make bench`.
set -eu
bench=${BUILD:-build}/bench
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
echo "$(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
for shape in "${@:-demo small128 small1024}"; do
  for s in $shape; do
    steps=3
    [ "$s" = demo ] && steps=15
    for matmul in f32 bf16; do OMP_NUM_THREADS=$(nproc) "$bench" "$s" $matmul $steps || echo "$s $matmul: left out"; done
  done
done
echo "weak scaling, one thread a rank, demo shape"
export OMP_NUM_THREADS=1
one=$(mpirun -n 1 "$bench" demo f32 31 | tee /dev/stderr | sed -n 's/.* \([0-9.]*\) tokens.*/\1/p')
two=$(mpirun -n 2 "$bench" demo f32 31 | tee /dev/stderr | sed -n 's/.* \([0-9.]*\) tokens.*/\1/p')
awk -v a="$one" -v b="$two" 'BEGIN { printf "two ranks / twice one rank: %.3f\n", b / a / 2 }'
