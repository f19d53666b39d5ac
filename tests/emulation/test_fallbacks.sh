#!/bin/bash
# test_fallbacks.sh — if cuBLASLt refuses a product, or cuDNN an attention, when it is planned or when it runs, a fallback
# computes it with the same accuracy and prints a warning. Attention with our own kernel is reported by a warning and by
# the bench. Runs on the emulated backend.
# limit: 600
# shellcheck disable=SC2317,SC2034
PY=none # lib.sh: no Python needed
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/../e2e/lib.sh"
emulated=${BUILD:-build}/emulated
export OMP_NUM_THREADS=1
[ "${LONG:-}" = 1 ] || export CHECK_RUNS=1 # the bits of fallbacks are compared by LONG=1 only
refusal='^warning: cuBLASLt refuses a product (.*): an unsupported value or parameter'

# dense REFUSAL: whether the tests of matrix products pass with this refusal and print the warning
dense() {
  EMULATION_CUBLASLT=$1 CMOCKA_MESSAGE_OUTPUT=TAP "$emulated/tests/test_dense" > "$T/out" 2> "$T/err" || { grep -v '^ok' "$T/out"; return 1; }
  grep -q "$refusal" "$T/err" || fail "no warning of a refusal"
}
refusals=(epilogue every)
[ "${LONG:-}" != 1 ] || refusals+=(first)
for it in "${refusals[@]}"; do tap "products with refusal $it" dense "$it"; done

# attention WHEN: the same for attention, if cuDNN refuses odd numbers of sequences when a plan is built or when it runs
attention() {
  EMULATION_CUDNN=$1 CMOCKA_MESSAGE_OUTPUT=TAP "$emulated/tests/test_attention_cudnn" > "$T/out" 2> "$T/err" || { grep -v '^ok' "$T/out"; return 1; }
  grep -q "^warning: attention uses our own kernel.*cuDNN refuses to $1" "$T/err" || fail "no warning of a refusal"
}
for it in plan run; do tap "attention with cuDNN's refusal to $it" attention "$it"; done

# bench REFUSAL WORD…: time a step of a small network on device cuda
bench() {
  EMULATION_CUBLASLT=$1 "$emulated/bench" demo bf16 1 1 dit subs cuda model.width=32 model.blocks=1 "${@:2}" > "$T/out" 2> "$T/err"
}
# warns N PATTERN: whether N lines of the last bench's warnings match; bench opens two devices, for training and
# inference
warns() { [ "$(grep -c "$2" "$T/err")" = "$1" ] || { cat "$T/err"; return 1; }; }
says() { grep -qF "$1" "$T/out" || { cat "$T/out"; return 1; }; }

tap "bench in bf16" bench none
tap "… names the kernel of attention" says '"attention": "own"'
tap "… names the libraries' versions" says '"library": "CUDA 0.0, no driver on this machine"'
tap "… is deterministic by default" says '"deterministic": true'
tap "… warns of slow attention once per device, with the reason" warns 2 "^warning: attention uses our own kernel.*: this build lacks cuDNN"
tap "… warns of no refusal" warns 0 refuses
tap "bench with every product refused and device.deterministic=false" bench every device.deterministic=false
tap "… is not deterministic" says '"deterministic": false'
tap "… warns of refusals once per device" warns 2 "$refusal"
tap "bench with the types of bias and aux refused" bench attribute
tap "… warns of refusals once per device" warns 2 "$refusal"
tap "bench with an unknown key" exits 2 bench none device.deterministc=false
finish
