#!/bin/bash
# processors_test.sh — the CPU backend compiles without a warning for processors other than this one: with the vectors of
# SSE2, AVX2 and AVX-512. `make check-long` also runs what is built so. Prints TAP.
set -u
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/../.." || exit 1
read -r -a compile < "${BUILD:-build}/flags"
processors=(x86-64 x86-64-v3 x86-64-v4)
echo "1..${#processors[@]}"
if [ "$(uname -m)" != x86_64 ]; then
  for p in "${processors[@]}"; do echo "ok - $p # SKIP the compiler is not for it"; done
  exit 0
fi

compiles() { # PROCESSOR
  local file
  for file in src/ops/cpu/*.c; do
    "${compile[@]}" -O1 -g0 -march="$1" -Werror -c -o /dev/null "$file" || return 1
  done
}

failures=0
for p in "${processors[@]}"; do
  if output=$(compiles "$p" 2>&1); then
    echo "ok - $p"
  else
    failures=1
    echo "not ok - $p"
    head -n 30 <<< "$output" | sed 's/^/# /'
  fi
done
exit $failures
