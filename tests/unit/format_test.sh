#!/bin/bash
# format_test.sh — clang-format finds nothing to change in the C and CUDA sources. Called by `make lint`; prints TAP.
set -u
cd "$(dirname "$0")/../.." || exit 1
version=14 # other versions format some lines differently

skip() {
  echo "ok 1 - clang-format # SKIP $*"
  exit 0
}
echo 1..1
command -v clang-format > /dev/null || skip "clang-format is not installed"
found=$(clang-format --version | sed 's/.*version \([0-9]*\).*/\1/')
[ "$found" = $version ] || skip "clang-format has version $found, the sources are laid out by version $version"

mapfile -t sources < <(find src cuda tests -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | sort)
if output=$(clang-format --dry-run --Werror "${sources[@]}" 2>&1) && [ ${#sources[@]} -gt 0 ]; then
  echo "ok 1 - clang-format"
else
  echo "not ok 1 - clang-format: run make format"
  printf '%s\n' "$output" | sed 's/^/# /'
  exit 1
fi
