#!/bin/bash
# keys_test.sh — every key of a deck is read by the code that it is for, not only written into a file beside the results, as
# it is when a merge has lost the line that used it. Prints TAP.
set -u
export LC_ALL=C.UTF-8
cd "$(dirname "$0")/../.." || exit 1

# unread KEYS SOURCE…: the keys, as section_name, that no line of the sources uses but to write them
unread() {
  local keys=$1
  shift
  grep -hE '(->|\.)[a-z]+_[a-z_0-9A-Z]+' "$@" | grep -v h5_set_ | grep -oE '(->|\.)[a-z]+_[a-zA-Z_0-9]+' | sed -E 's/^(->|\.)//' | sort -u |
    awk 'NR == FNR { used[$0]; next } !($0 in used)' - "$keys"
}

T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
sed -nE 's/^KEY_[A-Z]+ *\(([a-z]+), *([a-zA-Z_0-9]+),.*/\1_\2/p' src/base/keys.def > "$T/keys"
mapfile -t sources < <(find src -name '*.[ch]' ! -name 'config*' | sort)

echo 1..2
printf 'a_used\na_written\n' > "$T/two"
printf 'x = cfg->a_used;\nh5_set_str(f, "/", "written", cfg->a_written);\n' > "$T/source.c"
found=$(unread "$T/two" "$T/source.c")
if [ "$found" = a_written ]; then echo "ok 1 - a key that is only written is found"; else echo "not ok 1 - found: $found"; fi
found=$(unread "$T/keys" "${sources[@]}")
if [ -z "$found" ] && [ "$(wc -l < "$T/keys")" -gt 150 ]; then
  echo "ok 2 - every key is used"
else
  echo "not ok 2 - not used: $found"
  exit 1
fi
