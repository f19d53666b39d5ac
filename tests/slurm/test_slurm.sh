#!/bin/bash
# test_slurm.sh — the scripts of slurm/ on a real Slurm with two virtual nodes on this machine (sandbox.sh). A training
# run is signalled, requeued and resumed, and its weights equal those of an uninterrupted run bit for bit. Prints TAP.
# BUILD: folder of the program (build).  PY: a Python with the package of input/ (.venv/bin/python).
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=$(realpath "${BUILD:-build}")
PY=${PY:-.venv/bin/python}
COUNT=0
FAILED=0
DIR=
STEPS=300 # some seconds on one core: long enough to be signalled in the middle

skip_all() {
  printf '1..1\nok 1 - slurm # SKIP %s\n' "$1"
  exit 0
}
[ "$(id -u)" = 0 ] || skip_all "a private Slurm needs root"
for tool in slurmctld slurmd munged sbatch srun scontrol; do
  command -v $tool >/dev/null || skip_all "$tool is missing (packages slurm-wlm, munge)"
done
unshare --uts --mount true 2>/dev/null || skip_all "unshare may not make namespaces here"

finish() {
  [ -n "$DIR" ] || return
  tests/slurm/sandbox.sh stop >/dev/null
  rm -rf "$DIR"
}
trap finish EXIT
trap 'trap "" INT TERM; exit 1' INT TERM # a second signal must not interrupt the clean-up
DIR=$(mktemp -d "${TMPDIR:-/tmp}/mdlm-slurm.XXXXXX") || exit 1

# what run.sh sets for ranks on one machine
unset OMPI_MCA_{ess_singleton_isolated,pml,btl,mca_base_env_list} PMIX_MCA_gds HWLOC_{PLUGINS_PATH,SYNTHETIC}
export BUILD OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
export OMP_PROC_BIND=false # the virtual nodes share the cores
export SLURM_SANDBOX_DIR=$DIR/slurm SLURM_SANDBOX_PORT=$((20000 + $$ % 10000)) SLURM_CONF=$DIR/slurm/slurm.conf
export DECK=$DIR/deck.cfg

# check TITLE COMMAND… — one test; if it fails, the output of the jobs follows as comments.
check() {
  local title=$1
  COUNT=$((COUNT + 1))
  if "${@:2}"; then
    echo "ok $COUNT - $title"
  else
    FAILED=1
    echo "not ok $COUNT - $title"
    tail -n 40 "$DIR"/*.out 2>/dev/null | sed 's/^/# /'
  fi
}
# long_check TITLE COMMAND…: the same, with LONG=1 only
long_check() {
  if [ "${LONG:-}" = 1 ]; then
    check "$@"
  else
    COUNT=$((COUNT + 1))
    echo "ok $COUNT - $1 # SKIP make check-long runs it"
  fi
}
# within COMMAND… — wait until COMMAND succeeds; five minutes are enough for a busy machine.
within() {
  local end=$((SECONDS + 300))
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.1
  done
}
submit() { sbatch --parsable --ntasks-per-node=1 --cpus-per-task=1 --output="$DIR/%j.out" "$@"; }
job() { scontrol show job -o "$1" | tr ' ' '\n' | sed -n "s/^$2=//p"; } # JOB FIELD
job_is() { [ "$(job "$1" JobState)" = "$2" ]; }
step_of() { "$PY" -c 'import mdlm_h5, sys; print(mdlm_h5.checkpoint(sys.argv[1]).step)' "$1"; }

prepare() {
  awk 'BEGIN { srand(7); n = split("the of and to was house stone river old light under garden went wind before winter", w, " ")
    for (i = 0; i < 400; i++) { for (j = 0; j < 12; j++) printf "%s ", w[1 + int(rand() * n)] } }' >"$DIR/text"
  "$PY" -m mdlm_data.prepare --quiet --tokenizer text8 --length 32 --out "$DIR/data.h5" "$DIR/text" || return 1
  cat >"$DECK" <<END
run: { dir = "$DIR/run"; };
data: { train = "$DIR/data.h5"; valid = "$DIR/data.h5"; };
model: { width = 64; blocks = 2; heads = 2; };
train: { steps = $STEPS; global_batch = 16; micro_batch = 4; warmup = 20; save_every = 10; valid_every = 0;
         valid_sequences = 8; };
eval: { sequences = 8; };
sample: { count = 2; steps = 8; };
device: { threads = 1; };
END
}
uninterrupted() { mpirun -n 2 "$BUILD/mdlm" train "$DECK" run.dir="$DIR/plain" >"$DIR/plain.out" 2>&1; }

trains() {
  TRAIN=$(submit slurm/train.sbatch) && within test -f "$DIR/run/last.h5" && job_is "$TRAIN" RUNNING
}
requeued() { job_is "$1" PENDING && [ "$(job "$1" Restarts)" = 1 ]; }
stops() {
  scancel --signal=USR1 --batch "$TRAIN" && within requeued "$TRAIN" || return 1
  STOPPED=$(step_of "$DIR/run/last.h5") && [ "$STOPPED" -lt "$STEPS" ]
}
cleaned() { ! ls "$SLURM_SANDBOX_DIR"/spool/node*/stepd.* >/dev/null 2>&1; }
# Slurm delays a requeued job by two minutes. An update that shortens the delay is lost if the requeueing is not over yet, so
# it is repeated until the job has started.
started() {
  job_is "$1" PENDING || return 0
  scontrol update job="$1" StartTime=now
  return 1
}
resumes() { # start it after the daemons of the old ranks have ended
  within cleaned && within started "$TRAIN" && within job_is "$TRAIN" COMPLETED &&
    [ "$(step_of "$DIR/run/last.h5")" = "$STEPS" ]
}
same_bits() {
  "$PY" - "$DIR/run/last.h5" "$DIR/plain/last.h5" <<'END'
import sys, h5py
def state(path):
    with h5py.File(path) as f:
        return {f"{g}/{k}": (d.shape, d[()].tobytes()) for g in ("params", "ema", "adam_m", "adam_v") for k, d in f[g].items()}
a, b = map(state, sys.argv[1:])
different = [k for k in a.keys() | b.keys() if a.get(k) != b.get(k)]
if different or not a:
    sys.exit(f"# {len(different)} of {len(a)} data sets differ: {sorted(different)[:5]}")
END
}
evaluates() { # by an installed script, from a directory without build/ and slurm/
  local id
  make -s -o all install CUDA=0 PREFIX="$DIR/usr" && id=$(unset BUILD; cd "$DIR" &&
    submit --nodes=2 --dependency=afterok:"$TRAIN" usr/share/mdlm/slurm/eval.sbatch) && within job_is "$id" COMPLETED &&
    grep -q '^nll=.* ppl=' "$DIR/$id.out"
}
samples() {
  local id
  id=$(submit --nodes=2 slurm/sample.sbatch sample.output="$DIR/samples.h5") && within job_is "$id" COMPLETED &&
    [ -f "$DIR/samples.h5" ]
}
sweeps() { # two tasks of an array share the cells
  local id
  ended() { ! scontrol show job "$id" | grep -qE 'JobState=(PENDING|RUNNING|COMPLETING)'; }
  id=$(submit --array=1-2 slurm/sweep.sbatch sweep.dir="$DIR/sweep" sweep.seeds=1,2,3,4 eval.sequences=8) &&
    within test -f "$DIR/sweep/sweep.h5" && within ended && ! scontrol show job "$id" | grep JobState=FAILED &&
    [ "$(find "$DIR/sweep/cells" -name '*.h5' | wc -l)" = 4 ]
}
# fails: whether the job has the program's exit code and is not requeued. Open MPI 4.1 under srun can crash in MPI_Init, where
# a message of a rank that is further meets one that has no handler for it yet: seen once in 300 starts. That is a lost rank.
fails() {
  local id
  id=$(submit slurm/train.sbatch train.stepz=1) && within job_is "$id" FAILED &&
    { [ "$(job "$id" Restarts)" = 0 ] || grep -q 'Signal: Segmentation fault' "$DIR/$id.out"; } &&
    grep -q 'not requeued: mdlm itself has ended the run, with exit code 2' "$DIR/$id.out" && ! job "$id" ExitCode | grep -q '^\(0\|75\):'
}
diverges() { # a NaN is not tried again
  local id
  id=$(submit slurm/train.sbatch run.dir="$DIR/diverges" train.lr=1e3 train.warmup=0 train.clip=0) &&
    within job_is "$id" FAILED && [ "$(job "$id" ExitCode)" = 9:0 ] && [ "$(job "$id" Restarts)" = 0 ] &&
    grep -q 'not requeued: mdlm itself has ended the run' "$DIR/$id.out"
}
checks() { # the pre-flight knows the allocation and its signal
  local id
  id=$(MDLM_COMMAND=check submit --time=10 slurm/train.sbatch run.dir="$DIR/checked") && within job_is "$id" COMPLETED &&
    grep -E '^hosts +2; ranks on each: node1 \(1\), node2 \(1\)' "$DIR/$id.out" &&
    grep -E '^ +(10:00|9:[0-9][0-9]) of the allocation are left, the signal comes 120 s before its end' "$DIR/$id.out"
} >"$DIR/checks"
kill_rank() { # JOB RANK
  local it
  for it in $(pgrep -x mdlm); do
    [ "$(tr '\0' '\n' <"/proc/$it/environ" | grep -cx -e "SLURM_JOB_ID=$1" -e "SLURM_PROCID=$2")" != 2 ] ||
      { kill -KILL "$it" && return; }
  done
  return 1
}
training() { # JOB STARTS: whether the job has started that often and has trained since
  [ "$(awk '/^train.sbatch: /  { starts++; steps = 0 } /^step / { steps++ } END { print starts, (steps > 0) }' "$DIR/$1.out" 2>/dev/null)" = "$2 1" ]
}
trains_again() { # JOB: whether it does in its second start, which is brought forward
  started "$1"
  training "$1" 2
}
loses() { # a rank that is killed requeues the job once; killed again, it is not requeued
  local id
  id=$(cd "$DIR" && MDLM_RETRIES=1 submit usr/share/mdlm/slurm/train.sbatch run.dir="$DIR/lost" train.steps=100000) &&
    within test -f "$DIR/lost/last.h5" && kill_rank "$id" 1 && within requeued "$id" && within cleaned &&
    sleep 2 && # the old credential is revoked for the second of the requeueing
    within trains_again "$id" && grep -q '^resuming from .*last.h5' "$DIR/$id.out" &&
    kill_rank "$id" 0 && within job_is "$id" FAILED && [ "$(job "$id" Restarts)" = 1 ] &&
    ! ls "$DIR"/*.lost 2>/dev/null && grep -q '2 losses in a row' "$DIR/$id.out"
}
saved_between() { # FILE FIRST LAST: whether FILE is a checkpoint with FIRST < step < LAST
  local step
  step=$(step_of "$1" 2>/dev/null) && [ "$step" -gt "$2" ] && [ "$step" -lt "$3" ]
}
cancels() { # cancel after the first regular checkpoint
  local id half=$((STEPS / 2)) saved=$DIR/cancelled/last.h5
  id=$(submit slurm/train.sbatch run.dir="$DIR/cancelled" train.save_every="$half" train.steps=1000000) &&
    within test -f "$saved" && scancel "$id" && within job_is "$id" CANCELLED &&
    within grep -q '^stopped by' "$DIR/$id.out" && saved_between "$saved" "$half" 1000000
}
# taken COMMAND…: a job that Slurm requeues by this command, long before its next regular checkpoint, has saved
taken() {
  local id half=$((STEPS / 2)) saved=$DIR/taken/last.h5
  rm -rf "$DIR/taken"
  id=$(submit slurm/train.sbatch run.dir="$DIR/taken" train.save_every="$half" train.steps=1000000) && within test -f "$saved" &&
    "${@/JOB/$id}" && within requeued "$id" && within saved_between "$saved" "$half" 1000000 && scancel "$id" &&
    within cleaned
}
node_fails() { taken scontrol update nodename=node2 state=down reason=test; }

echo 1..17
check "a tiny corpus is prepared" prepare
check "an uninterrupted run under mpirun completes" uninterrupted
check "two virtual nodes come up" tests/slurm/sandbox.sh start 2
check "train.sbatch trains on two nodes" trains
check "signalled before its limit, it saves and is requeued" stops
check "it resumes and completes" resumes
check "its weights, averages and moments are bitwise those of the uninterrupted run" same_bits
check "installed, eval.sbatch starts after it and prints its perplexity" evaluates
check "sample.sbatch writes samples" samples
check "sweep.sbatch as an array fills its table" sweeps
check "an error of the program fails the job with its exit code" fails
check "a pre-flight on the allocation" checks
check "a NaN fails it with its exit code" diverges
check "a killed rank requeues the job as often as MDLM_RETRIES says" loses
check "scancel ends the job with its state saved" cancels
long_check "preempted, it saves and is requeued" taken scontrol requeue JOB
long_check "when a node goes down, it saves and is requeued" node_fails
exit $FAILED
