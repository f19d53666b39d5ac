#!/bin/bash
# bench_peer.sh [SHAPE[:BATCH]…] — training speed on this processor beside PyTorch's, the same network, batch and dropout.
# In each round ours and every variant of PyTorch's run in turn, so that a host that slows down slows all; printed are medians
# over the rounds and the ratio of ours to the best variant of the same round. Called by `make bench-peer`.
# Variables: PEER: a Python with torch, numpy and h5py; ROUNDS (3); MATMUL (f32), or several as "f32 bf16", of which each side
# then has its best, too; VARIANTS, as in peer_torch.py; STEPS of a run, by default 9 at widths up to 256 and else 3; BUILD.
# Both use all cores.
set -eu
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/.."
bench=${BUILD:-build}/bench rounds=${ROUNDS:-3} matmul=${MATMUL:-f32}
variants=${VARIANTS:-eager:full,eager:masked,compile:full,compile:masked}
[ $# -gt 0 ] || set -- demo:8 tiny:16 small128:8
OMP_NUM_THREADS=$(nproc)
export OMP_NUM_THREADS
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT

ours() { "$bench" "$1" "$3" "$2" | sed -n 's/.* \([0-9.]*\) tokens.*/ours \1/p'; }
theirs() {
  "$PEER" tests/golden/peer_torch.py --device cpu --no-look --shape "$1" --batch "$4" --matmul "$3" --steps "$2" \
    --variants "$variants" 2> "$T/err" | "$PEER" -c '
import json, sys
for line in sys.stdin:
    x = json.loads(line)
    print(x["mode"] + ":" + x["head"], x["tokens_per_s"])' || { cat "$T/err" >&2; return 1; }
}

echo "$(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1); PyTorch $("$PEER" -c 'import torch; print(torch.__version__)')"
for it; do
  shape=${it%:*} batch=${it#*:}
  case $shape in demo | tiny) steps=${STEPS:-9} ;; *) steps=${STEPS:-3} ;; esac
  : > "$T/lines"
  for ((round = 0; round < rounds; round++)); do
    for one in $matmul; do
      { ours "$shape" "$steps" "$one"; theirs "$shape" "$steps" "$one" "$batch"; } | sed "s/^/$round $one /" >> "$T/lines"
    done
  done
  "$PEER" - "$shape" "$T/lines" << 'PYTHON'
import statistics
import sys

shape, path = sys.argv[1:]
Rates = dict[str, dict[int, float]]
of: dict[str, Rates] = {}  # by type of products, variant and round
for line in open(path):
    turn, matmul, name, rate = line.split()
    of.setdefault(matmul, {}).setdefault(name, {})[int(turn)] = float(rate)


def best(title: str, ours: Rates, theirs: Rates) -> None:
    rounds = next(iter(ours.values()))
    ratios = [max(x[i] for x in ours.values()) / max(x[i] for x in theirs.values()) for i in rounds]
    middle = statistics.median(ratios)
    print(f"  {title}: {middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds)")


mine: Rates = {}
peers: Rates = {}
for matmul, rates in of.items():
    ours = mine[matmul] = rates.pop("ours")
    peers |= {f"{matmul} {name}": turns for name, turns in rates.items()}
    print(f"{shape}, {matmul}: mdlm {statistics.median(ours.values()):,.0f} tokens/s")
    for name, turns in rates.items():
        ratio = statistics.median(ours[i] / rate for i, rate in turns.items())
        print(f"  PyTorch, {name} head: {statistics.median(turns.values()):,.0f} tokens/s; mdlm is {ratio:.2f} times as fast")
    best("mdlm to PyTorch's best", {matmul: ours}, rates)
if len(of) > 1:
    best("mdlm's best to PyTorch's best of " + ", ".join(of), mine, peers)
PYTHON
done
