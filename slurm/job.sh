# job.sh — sourced by the job scripts: the settings of the site, and functions that start mdlm on all tasks and requeue
# the job.
# shellcheck shell=bash

# shellcheck source=slurm/env.sh
. "${MDLM_ENV:-$MDLM_HOME/slurm/env.sh}" || return 1

# For `mdlm check`: the end of the allocation, in seconds since 1970, which Slurm itself tells since 23.02; and how many
# seconds before it the signal of --signal comes, as the header says.
if [ -z "${SLURM_JOB_END_TIME:-}" ]; then
  SLURM_JOB_END_TIME=$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null | sed -n 's/.*EndTime=\([0-9T:-]*\).*/\1/p')
  SLURM_JOB_END_TIME=$(date -d "${SLURM_JOB_END_TIME:-unknown}" +%s 2>/dev/null)
fi
MDLM_SIGNAL_SECONDS=${MDLM_SIGNAL_SECONDS:-$(sed -n 's/^#SBATCH --signal=B:USR1@\([0-9]*\).*/\1/p' "$0")}
export SLURM_JOB_END_TIME MDLM_SIGNAL_SECONDS

# launch WORD… — run mdlm WORD… on all tasks and return its exit code. SIGUSR1, which Slurm sends to this shell, is
# passed on to the ranks and sets SIGNALLED to 1. SIGTERM sets TERMINATED to 1 and is not passed on: Slurm sends it to
# the ranks too, and they save.
launch() {
  local pid
  SIGNALLED=0 TERMINATED=0
  if ! command -v mdlm >/dev/null; then
    echo "error: there is no program mdlm in ${PATH%%:*} or in PATH: build it, or set BUILD to its folder" >&2
    return 2
  fi
  $LAUNCH mdlm "$@" &
  pid=$!
  trap 'SIGNALLED=1; kill -USR1 $pid 2>/dev/null' USR1
  trap TERMINATED=1 TERM
  while kill -0 $pid 2>/dev/null; do wait $pid; done # a trapped signal ends wait early
  trap - USR1 TERM
  wait $pid # returns the exit code, which the shell remembers
}

# finish CODE — end the job script after launch has returned CODE:
#   75 after SIGUSR1   the state is saved: requeue the job
#   0, 2-6, 9, 10, 75  mdlm itself has ended the run (`mdlm train --help` lists the codes): exit with CODE
#   any other          a rank, a node, a device or the network is lost: requeue, at most MDLM_RETRIES times (3) from one
#                      SIGUSR1 to the next; not when the job is being cancelled
# JOB_NAME-JOB_ID.lost, where sbatch was called, keeps the number of losses while the job waits and runs again.
finish() {
  local code=$1 losses=0 retries=${MDLM_RETRIES:-3} count=$SLURM_SUBMIT_DIR/$SLURM_JOB_NAME-$SLURM_JOB_ID.lost
  [ "${SLURM_RESTART_COUNT:-0}" = 0 ] || [ ! -e "$count" ] || losses=$(cat "$count")
  rm -f "$count"
  case $code in
    0) ;;
    75) [ "$SIGNALLED" = 0 ] || requeue "state saved" ;;
    [2-6] | 9 | 10) echo "$SLURM_JOB_NAME: not requeued: mdlm itself has ended the run, with exit code $code" ;;
    *)
      losses=$((losses + 1))
      if [ "$TERMINATED" = 1 ]; then
        echo "$SLURM_JOB_NAME: not requeued: the job was being ended; exit code $code"
      elif [ $losses -gt "$retries" ]; then
        echo "$SLURM_JOB_NAME: not requeued: exit code $code, $losses losses in a row; MDLM_RETRIES allows $retries"
      else
        echo $losses >"$count" && requeue "exit code $code, a rank is lost: retry $losses of $retries from the last checkpoint"
      fi
      ;;
  esac
  exit "$code"
}

requeue() { # WHY
  echo "$SLURM_JOB_NAME: $1; requeueing job $SLURM_JOB_ID"
  scontrol requeue "$SLURM_JOB_ID" && exit 0
}
