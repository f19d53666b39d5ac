#!/bin/bash
# compile_test.sh [--write] — the kernels of cuda/ compile for both GPU generations without warnings, none spills
# registers, and none uses more registers than tests/cuda/registers.txt lists. More registers can lower the occupancy,
# which no test on a CPU would notice. --write renews the table.
# limit: 600
cd "$(dirname "$0")/../.." || exit 1
export LC_ALL=C
table=tests/cuda/registers.txt archs="80 90"
flags=$(make -s --no-print-directory cuda-flags CUDA_ARCHS="$archs" WERROR=1 2> /dev/null)
[ -n "$flags" ] || { echo "1..0 # SKIP nvcc is not installed"; exit 0; }
version="nvcc $(${flags%% *} --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')"
out=$(mktemp -d "${TMPDIR:-/tmp}/mdlm-nvcc-XXXXXX")
trap 'rm -rf "$out"' EXIT

# if `make check` has compiled the kernels with the same flags, read the logs of that build
build=${BUILD:-build}
make -s -k -j2 --no-print-directory cuda-objects BUILD="$build" CUDA_ARCHS="$archs" WERROR=1 > "$out/make" 2>&1
for source in cuda/*.cu; do
  name=$(basename "$source" .cu)
  c++filt -p < "$build/cuda/$name.log" > "$out/$name.log"
done

# One line per kernel and architecture: NAME ARCH REGISTERS SPILLED
kernels() {
  awk '
    /Compiling entry function/ {
      name = $0
      sub(/.*entry function ./, "", name); sub(/. for .sm_.*/, "", name)
      gsub(/\(anonymous namespace\)::/, "", name); gsub(/__nv_bfloat16/, "bf16", name); gsub(/ /, "", name)
      arch = $0; sub(/.* for .sm_/, "", arch); sub(/[^0-9].*/, "", arch); spilled = 0 }
    /bytes spill/ && !/ 0 bytes spill stores, 0 bytes spill loads/ { spilled = 1 }
    /Used [0-9]+ registers/ { n = $0; sub(/.*Used /, "", n); print name, arch, n + 0, spilled }' "$@"
}

# The lines of the table: NAME REGISTERS…, with one number per architecture
lines() {
  sort -u | awk -v archs="$archs" '
    !($1 in seen) { seen[$1] = 1; names[++n] = $1 }
    { registers[$1, $2] = $3 }
    END { count = split(archs, arch, " ")
          for (i = 1; i <= n; i++) {
            printf "%-44s", names[i]
            for (k = 1; k <= count; k++) printf " %4s", (names[i], arch[k]) in registers ? registers[names[i], arch[k]] : "-"
            print "" } }'
}

test=0 failed=0 complete=1
[[ $flags == *-DHAVE_CUDNN* ]] || complete=0 # attention_graph.cu is empty
for source in cuda/*.cu; do
  test=$((test + 1))
  log=$out/$(basename "$source" .cu).log
  if [ ! -e "$build/cuda/$(basename "$source" .cu).o" ]; then
    missing=$(sed -n 's/.*fatal error: \([a-z]*[/]*\(nccl\|cublas\|cudnn\)[A-Za-z_]*\.h\): No such file.*/\1/p' "$log" | head -1)
    complete=0
    if [ -n "$missing" ]; then
      echo "ok $test - $source # SKIP $missing is not installed"
    else
      echo "not ok $test - $source compiles"
      grep -v '^ptxas info' "$log" | sed 's/^/#   /'
      failed=1
    fi
  elif kernels "$log" | grep ' 1$' > "$out/spilled"; then
    echo "not ok $test - $source spills no registers"
    sed 's/^\(.*\) \(.*\) \(.*\) 1$/#   \1 does on sm_\2/' "$out/spilled"
    failed=1
  else
    echo "ok $test - $source"
  fi
done
kernels "$out"/*.log | lines > "$out/measured"

test=$((test + 1))
if [ "${1:-}" = --write ]; then
  [ $failed$complete = 01 ] || { echo "not ok $test - $table is written only if everything compiles"; exit 1; }
  { echo "# kernel, registers per thread on sm_${archs// / and sm_} ($version; renewed by compile_test.sh --write)"; cat "$out/measured"; } > "$table"
  echo "ok $test - $table is written"
elif [ ! -f "$table" ]; then
  echo "not ok $test - there is no $table; compile_test.sh --write makes it"
  failed=1
elif ! head -1 "$table" | grep -qF "($version;"; then
  echo "ok $test - $table # SKIP it was made by another compiler than $version"
elif ! awk -v complete=$complete '
  function wrong(text) { print "#   " text; bad = 1 }
  FNR == NR { if ($0 !~ /^#/) { line[$1] = $0; for (i = 2; i <= NF; i++) allowed[$1, i] = $i }; next }
  { here[$1] = 1
    if (!($1 in line)) { wrong("a new kernel, add its line: " $0); next }
    for (i = 2; i <= NF; i++) if ($i + 0 > allowed[$1, i] + 0) { wrong("more registers than listed, the line would be: " $0); next } }
  END { if (complete) for (name in line) if (!(name in here)) wrong("no such kernel, remove its line: " line[name])
        exit bad }' "$table" "$out/measured" > "$out/wrong"; then
  echo "not ok $test - registers of the kernels are as in $table"
  cat "$out/wrong"
  failed=1
else
  echo "ok $test - registers of the kernels are as in $table"
fi
echo "1..$test"
exit $failed
