#!/bin/bash
# rules — tests/rules.awk must report each kind of violation, and nothing else.
set -u
rules=$PWD/tests/rules.awk
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
mkdir -p src/base src/ops/cpu src/dist src/model cuda
cat > RULES <<'END'
# room: rooms
base:
ops: base
dist: base     # a comment
model: base ops
main: base dist
cuda: base ops
only mpi.h: src/dist/ src/main.c
only oneapi/dnnl/: src/ops/cpu/
word HAVE_CUDA: 1
words: src/base/keys.def
distinct: ancestral
keys: remask
menu SAMPLERS: src/model/sampler_%.c
END
printf '#define SAMPLERS(ROW) ROW(ancestral) ROW(cached) ROW(remask)\n#define OTHERS(ROW) ROW(other)\n' > src/base/keys.def

number=0
# expect NAME WANTED-OUTPUT FILE TEXT: write the file, run the rules over all files, compare, remove the file
expect() {
  local name=$1 want=$2 file=$3 got code files
  printf '%b' "$4" > "$file"
  mapfile -t files < <(find src cuda -type f | sort)
  got=$(awk -f "$rules" RULES "${files[@]}" 2>&1)
  code=$?
  rm -f "$file"
  number=$((number + 1))
  if [ "$got" = "$want" ] && [ $code = "$([ -z "$want" ] && echo 0 || echo 1)" ]; then
    echo "ok $number - $name"
  else
    echo "not ok $number - $name"
    echo "# exit code $code, output: $got"
    echo "# expected: $want"
  fi
}

printf '#include "base/err.h"\n#include <stdio.h>\n' > src/base/err.c
printf '#include "version.gen.h"\n' > src/base/version.c
printf '#include <mpi.h>\n#include "dist/comm.h"\n#ifdef HAVE_CUDA\n#endif\n' > src/main.c
printf '#include "cpu.h"\n#include <oneapi/dnnl/dnnl.h>\n#include "ops/ops.h"\n' > src/ops/cpu/dense.c
printf '#include "ops/ops.h"\n// HAVE_CUDA_TOO is another word\n' > cuda/dense.cu

echo 1..20
expect "clean sources" "" src/model/a.c '#include "ops/ops.h"\n#include "base/err.h"\n#include "model/a.h"\n'
expect "a room that is not allowed" "src/model/a.c:2: room model may not include dist" src/model/a.c '\n#include "dist/comm.h"\n'
expect "base may include no other room" "src/base/a.h:1: room base may not include ops" src/base/a.h '#include "ops/ops.h"\n'
expect "a relative path" "src/model/a.c:1: room model may not include dist" src/model/a.c '#include "../dist/comm.h"\n'
expect "spaces in the directive" "src/model/a.c:1: room model may not include dist" src/model/a.c '  #  include   "dist/comm.h"\n'
expect "no room may include cuda" "src/ops/cpu/a.c:1: room ops may not include cuda" src/ops/cpu/a.c '#include "cuda/x.cuh"\n'
expect "a library header" "src/model/a.c:1: only src/dist/ src/main.c may include mpi.h" src/model/a.c '#include <mpi.h>\n'
expect "a library folder" "src/ops/a.c:1: only src/ops/cpu/ may include oneapi/dnnl/dnnl.h" src/ops/a.c '#include <oneapi/dnnl/dnnl.h>\n'
expect "a word in too many files" "src/model/a.c:2: HAVE_CUDA may be used in 1 files and is used in src/main.c src/model/a.c" src/model/a.c '\n#if HAVE_CUDA\n#endif\n'
mkdir -p src/util
expect "an unknown room" 'src/util/a.c:1: room "util" is not in RULES' src/util/a.c '#include <stdio.h>\n'
rmdir src/util

# ---- include cycles
printf '#include "model/b.h"\n' > src/model/a.h
expect "a cycle of two headers" "src/model/b.h:1: a circle of files: src/model/a -> src/model/b -> src/model/a" src/model/b.h '#include "model/a.h"\n'
expect "a cycle through a source" "src/model/b.c:2: a circle of files: src/model/a -> src/model/b -> src/model/a" src/model/b.c '#include "model/b.h"\n#include "model/a.h"\n'
expect "two sources of one header" "" src/model/c.c '#include "model/a.h"\n#include "model/b.h"\n'
rm src/model/a.h

# ---- menu words outside their own files
named() { expect "$1" "src/model/a.c:1: $2 is named outside its own file" src/model/a.c "$3\n"; }
named "a choice as a string" cached 'if (strcmp(s, "cached") == 0)'
named "a choice by its symbol" cached 'extern int sampler_cached;'
named "a choice in a message" remask 'CHECK(x, "sample.sampler = remask does not")'
named "a distinct word in a comment" ancestral '/* as ancestral does */'
expect "an ordinary word, and the name of a key" "" src/model/a.c '/* cached */ int cached; h5_set("remask");\n'
expect "a choice in its own file" "" src/model/sampler_cached.c 'int sampler_cached; char *s = "cached";\n'
expect "a word of an unlisted menu" "" src/model/a.c 'char *s = "other";\n'
