#!/bin/bash
# first_test.sh — a rehearsal of first.sh without a GPU. Call 1 with the emulated backend; call 2 and the faults with programs
# that pretend: each stage writes its results, one that hangs or crashes costs its own cap only and leaves no process, and
# whatever moment first.sh is killed at, whole lines remain. With LONG=1 call 2 is emulated too.
# shellcheck disable=SC2016
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/../e2e/lib.sh"
emulated=${BUILD:-build}/emulated
export PYTHON=$PY LIBRARY=$MDLM BENCH_OPS=$emulated/bench_ops PROGRAM=$emulated/mdlm SIZE=tiny ATTENTION=own
export SMOKE=demo:1:1 KERNELS=demo:1:1 SHAPES=demo:1:1 MEDIUM=demo:1:1 WORDS="model.width=16 model.blocks=1 model.heads=1"
export SAMPLES="sample.count=3 sample.steps=4" DECKS=lm1b_mdlm OP_TESTS=embed:15
mkdir "$T/bin" "$T/tests"

# pretend NAME: the standard input becomes $T/NAME, a script of bash
pretend() {
  { echo '#!/bin/bash'; cat; } > "$T/$1"
  chmod +x "$T/$1"
}
pretend bin/nvidia-smi << 'END'
case "$*" in
*name,driver*) echo "Pretended GPU, 570.00, 81559 MiB, 1980 MHz, 2619 MHz, 700.00 W" ;;
*clocks.sm*) echo "1755, 2619, [N/A], 35" ;;
-L) echo "GPU 0: pretended" ;;
esac
END
pretend bin/compute-sanitizer << 'END'
echo "$2 $5" >> "${0%/*}/../sanitized"
END
pretend bin/ncu << 'END' # two whole steps and the beginning of a third
while [ "$1" != --log-file ]; do shift; done
{
  echo "==PROF== Connected"
  echo '"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"'
  for it in fill:9 nvjet:8 k_adamw:7 nvjet:1,000 k_norm:500 nvjet:1,500 k_adamw:2,000 look:5; do
    printf '"1","%s","gpu__time_duration.sum","ns","%s"\n' "${it%:*}" "${it#*:}"
  done
} > "$2"
END
pretend bench << 'END'
[ "$3" != 0 ] || exec "$EMULATED_BENCH" "$@"
subject="{\"shape\": \"$1\", \"matmul\": \"bf16\", \"network\": \"dit\", \"objective\": \"subs\", \"attention\": \"own\", \"deterministic\": true,"
sleep "${EACH:-0}"
echo "$subject \"ranks\": 1, \"batch\": 2, \"micros\": $4, \"step_s\": 0.5, \"tokens_per_s\": 64, \"loss\": 5.1, \"allocated_bytes\": 9, \"flops\": {\"dense\": 1, \"attention\": 1}, \"bytes\": {\"block\": 1}}"
sleep "${EACH:-0}"
echo "$subject \"look_1_s\": 0.1, \"look_batch\": 8, \"look_batch_s\": 0.2}"
END
pretend torch << 'END' # a Python with torch
case "$*" in
"-c import torch") exit 0 ;;
*peer_torch.py*)
  echo '{"shape": "demo", "matmul": "bf16", "mode": "compile", "head": "masked", "batch": 2, "micros": 1, "step_s": 1, "tokens_per_s": 32}'
  [[ $* == *--no-look* ]]
  ;;
*) exec "$PY" "$@" ;;
esac
END
export PATH=$T/bin:$PATH PY EMULATED_BENCH=$emulated/bench

# first CALL [NAME=VALUE…]: the call, its results in $T/out
first() {
  rm -rf "$T/out"
  env "${@:2}" tests/cuda/first.sh "$1" "$T/out" > "$T/said" 2>&1
}
# verdicts STAGE=VERDICT…: of all stages, in this order
verdicts() {
  sed -n 's/^{"stage": "\([a-z]*\)", "part": "stage", "figures": {"verdict": "\([a-z ]*\)".*/\1=\2/p' "$T/out/results.jsonl" > "$T/got"
  printf '%s\n' "$@" | diff - "$T/got" || { cat "$T/said"; tail -n 20 "$T/out/run.log"; return 1; }
}
# has STAGE PART PATTERN…: a result of that stage and part for each pattern
has() {
  local it
  for it in "${@:3}"; do
    grep "^{\"stage\": \"$1\", \"part\": \"$2\", .*$it" "$T/out/results.jsonl" || { cat "$T/out/results.jsonl"; return 1; }
  done
}
# shows PATTERN…: each is in the table
shows() {
  local it
  for it; do grep "$it" "$T/out/table.md" || { cat "$T/out/table.md"; return 1; }; done
}
# whole: every line is a result, and the table can be made of them
whole() {
  "$PY" -c 'import json, sys
for line in open(sys.argv[1]): x = json.loads(line); x["stage"], x["part"], x["figures"]' "$T/out/results.jsonl" &&
    tests/cuda/first.sh table "$T/out" && shows '^## '
}
three_files() { [ "$(cd "$T/out" && echo *)" = "results.jsonl run.log table.md" ] || fail "$(ls "$T/out")"; }
none_left() { ! grep -lsz '^MDLM_STAGE=first-' /proc/[0-9]*/environ | grep .; }

# ---- call 1, emulated
tap "call 1" first 1 MODE=emulated BENCH="$emulated/bench"
tap "… every stage passes" verdicts environment=passed smoke=passed headline=passed ops=passed kernels=passed tests=passed curves=passed
tap "… names GPU and driver" has environment machine '"gpu": "Pretended GPU", "driver": "570.00"'
tap "… measures steps, deterministic and not, and evaluation" has headline steps '"deterministic": false' '"deterministic": true' '"look_batch_s"'
tap "… reads clocks" has headline clocks '"when": "before", "sm_mhz": "1755"' '"when": "after"'
tap "… measures ops" has ops ops '"op": "dense head, backward"'
tap "… sums each kernel's launches of a step" has kernels kernels '"kernel": "nvjet", "launches": 2, "seconds": 2.5e-06'
tap "… lists checks of ops" has tests check 'ok 1 - test_embed (test_embed)'
tap "… lists checks of losses" has curves check 'lm1b_mdlm, bf16: losses within'
tap "… leaves three files" three_files
tap "… and a table of all of that" shows 'Pretended GPU, driver 570.00' '| headline | passed |' '| dense qkv |' 'demo, dit/subs.*| no |' '| during\|after | 1755 |'
tap "… of whole lines" whole

# ---- call 2
bench=$T/bench
[ "${LONG:-}" != 1 ] || bench=$EMULATED_BENCH
tap "call 2" first 2 BENCH="$bench" TESTS="$emulated/tests" PYTHON="$T/torch" MODE=gpu DATA=none
tap "… every stage passes" verdicts environment=passed smoke=passed headline=passed peer=passed samples=passed memory=passed medium=passed
tap "… PyTorch's step" has peer peer '"mode": "compile"'
tap "… samples" has samples samples '"sampler": "event", "samples": 3'
tap "… memcheck of three programs, and no other" diff "$T/sanitized" \
  <(printf "memcheck $emulated/tests/test_%s\n" residual_norm loss embed)
tap "… a table" shows '| demo | compile, masked head |' '| 3 of 16 tokens, demo | event, 4 steps |'
tap "… of whole lines" whole

# ---- faults, within shorter caps, which leave time for a start on a busy machine
pretend hang << 'END'
trap '' TERM
setsid bash -c 'trap "" TERM; while :; do sleep 1; done' &
while :; do sleep 1; done
END
pretend crash << 'END'
echo '{"op": "copy", "matmul": "bf16", "seconds": 1, "flops": 0, "bytes": 8}'
kill -SEGV $$
END
cp "$T/hang" "$T/tests/test_slow"
pretend tests/test_crash <<< 'echo "ok 1 - before"; kill -SEGV $$'
pretend tests/test_wrong <<< 'echo "not ok 1 - sum"; exit 1'
pretend tests/test_right <<< 'echo "ok 1 - sum"'
pretend python <<< '[ "$*" != "-c import torch" ] || exit 1; exec "$PY" "$@"'
faults=(SCALE=.15 BENCH="$T/hang" BENCH_OPS="$T/crash" TESTS="$T/tests" OP_TESTS="slow:15 crash:15 wrong:15 right:15"
  PROGRAM="$T/none" MODE=gpu DATA=none)
working=("${faults[@]}" BENCH="$T/bench" OP_TESTS=right:15)
tap "call 1 with faults fails" exits 1 first 1 "${faults[@]}"
tap "… each stage has its verdict" verdicts environment=failed "smoke=out of time" headline=skipped ops=failed kernels=passed tests=failed curves=failed
tap "… with what it was at" has smoke note 'during .*/hang demo bf16'
tap "… training is not measured after it" has headline note 'smoke has not passed'
tap "… what was measured before a crash is kept" has ops ops '"op": "copy"'
tap "… a crash is named" has ops note 'signal 11'
tap "… tests have their own limits" has tests note 'test_slow: killed, out of time' 'test_crash: signal 11'
tap "… and the others go on" has tests check '"not ok 1 - sum (test_wrong)' '"ok 1 - sum (test_right)'
tap "… no process is left" none_left
tap "… of whole lines" whole

tap "attention by another kernel than cuDNN's fails" exits 1 first 1 "${working[@]}" ATTENTION=cudnn
tap "… is named" has smoke note 'demo: attention is not by cudnn'
tap "… leaves out the headline and nothing else" verdicts environment=failed smoke=failed headline=skipped ops=failed kernels=passed tests=passed curves=failed
tap "a budget that is used up fails" exits 1 first 1 "${faults[@]}" SCALE=1 BUDGET=2
tap "… and is not exceeded" verdicts environment=failed "smoke=out of time" "headline=no time" "ops=no time" "kernels=no time" "tests=no time" "curves=no time"
tap "call 2 without PyTorch and sanitizer" first 2 "${working[@]}" SCALE=1 PYTHON="$T/python" PROGRAM="$MDLM" MODE=emulated
tap "… skips these two" verdicts environment=passed smoke=passed headline=passed peer=skipped samples=passed memory=skipped medium=passed
tap "… with the reason" has peer note "$T/python has no torch"
tap "call 1 without Python fails" exits 1 first 1 "${working[@]}" PYTHON="$T/none"
tap "… and the table can be made later" whole

# ---- killed
# killed SIGNAL SECONDS [NAME=VALUE…]: first.sh is killed so long after it has begun
killed() {
  local process
  rm -rf "$T/out"
  env "${working[@]}" EACH=0.1 "${@:3}" tests/cuda/first.sh 1 "$T/out" > "$T/said" 2>&1 &
  process=$!
  wait_for "$LIMIT" test -e "$T/out/results.jsonl"
  sleep "$2"
  kill -"$1" "$process"
  wait "$process"
  wait_for "$LIMIT" none_left # a stage under way goes on, at the most to its cap
}
whole_after() { killed "$@" && whole; }
for it in 0 .4 .6 .8 1.1; do tap "killed after $it s" whole_after KILL $it; done
tap "terminated" whole_after TERM .6 SCALE=1 BENCH="$T/hang"
tap "… ends the stage under way and makes the table" grep -A1 '| interrupted |' "$T/said"
finish
