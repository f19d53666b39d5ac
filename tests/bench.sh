#!/usr/bin/env bash
# bench.sh [shape…] — measure each shape in f32 and bf16 on all cores, then compare the networks and objectives, and
# block diffusion with none, then measure weak scaling from one rank to two. Called by `make bench`.
set -eu
bench=${BUILD:-build}/bench
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
echo "$(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"
[ $# -gt 0 ] || set -- demo tiny small128 small1024
for shape; do
  case $shape in demo | tiny) steps=25 ;; *) steps=3 ;; esac
  for matmul in f32 bf16; do
    OMP_NUM_THREADS=$(nproc) "$bench" "$shape" $matmul $steps || echo "$shape $matmul: left out"
  done
done

# Each is measured between two runs of dit/subs, so that changes in the speed of the host cancel.
echo "networks and objectives of the shape tiny, f32, all cores: time of a step per FLOP of its matrix products, relative to dit/subs"
per_flop() { # NETWORK OBJECTIVE
  OMP_NUM_THREADS=$(nproc) "$bench" tiny f32 9 1 "$1" "$2" | sed -n 's/.*products: \([0-9.]*\) ps a FLOP.*/\1/p'
}
before=$(per_flop dit subs)
for pair in "ar ar" "dimamba subs" "dit d3pm" "dit sedd"; do
  read -r network objective <<< "$pair"
  it=$(per_flop "$network" "$objective")
  [ -n "$it" ] || { echo "$network/$objective: left out"; continue; }
  after=$(per_flop dit subs)
  awk -v p="$network/$objective" -v a="$before" -v b="$after" -v x="$it" \
    'BEGIN { printf "%-13s %.3f ps a FLOP, %.3f of dit/subs\n", p, x, 2 * x / (a + b) }'
  before=$after
done

# In turn, so that changes in the speed of the host cancel; medians of three ratios.
echo "block diffusion (diffusion.block = 16) and none of the same rows, f32, all cores: ratios of a step and of its attention"
seconds() { # SHAPE [KEY=VALUE]: of a step and of its attention
  OMP_NUM_THREADS=$(nproc) "$bench" "$1" f32 5 1 dit subs "${@:2}" |
    sed -n -e 's/.* step \([0-9.]*\) s$/\1/p' -e 's/.* attention \([0-9.]*\)%.*/\1/p' | paste - - | awk '{ print $1, $1 * $2 / 100 }'
}
median() { sort -g | sed -n 2p; }
for shape in tiny tiny1024; do
  ratios=$(for _ in 1 2 3; do echo "$(seconds $shape) $(seconds $shape diffusion.block=16)"; done | awk '{ print $3 / $1, $4 / $2 }')
  printf '%-9s step %.3f, attention %.3f\n' $shape "$(cut -d' ' -f1 <<< "$ratios" | median)" "$(cut -d' ' -f2 <<< "$ratios" | median)"
done

echo "weak scaling: one thread a rank, four micro-batches a step"
export OMP_NUM_THREADS=1
one=$(mpirun -n 1 "$bench" tiny f32 15 4)
two=$(mpirun -n 2 "$bench" tiny f32 15 4)
printf '%s\n%s\n' "$one" "$two"
rate() { sed -n 's/.* \([0-9.]*\) tokens.*/\1/p' <<< "$1"; }
awk -v a="$(rate "$one")" -v b="$(rate "$two")" 'BEGIN { printf "two ranks / twice one rank: %.3f\n", b / a / 2 }'
