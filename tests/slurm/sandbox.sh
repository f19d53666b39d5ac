#!/bin/bash
# sandbox.sh start|stop|status [NODES=2] — a private Slurm of NODES virtual nodes on this machine; run it as root
#   SLURM_SANDBOX_DIR   configuration, state and logs ($TMPDIR/slurm-sandbox)
#   SLURM_SANDBOX_PORT  port of the controller; the nodes use the NODES ports after it (16817)
#   SLURM_SANDBOX_CPUS  cores that a virtual node reports (those of the machine)
# Clients (sbatch, squeue, …) need only  export SLURM_CONF=$SLURM_SANDBOX_DIR/slurm.conf
set -u
DIR=${SLURM_SANDBOX_DIR:-${TMPDIR:-/tmp}/slurm-sandbox}
PORT=${SLURM_SANDBOX_PORT:-16817}
CPUS=${SLURM_SANDBOX_CPUS:-$(nproc)}
NODES=${2:-2}
export SLURM_CONF=$DIR/slurm.conf

# Settings that are not the default, and why:
#   TmpFS per node    the PMIx plugin makes a folder there on every node, named after the job
#   linuxproc, none   cgroups need privileges that a virtual node lacks
#   KillWait          seconds between SIGTERM and SIGKILL
#   MinJobAge         finished jobs stay visible to scontrol for the test
configure() {
  mkdir -p "$DIR"/{state,log,munge,spool,tmp}
  chmod 755 "$DIR" "$DIR/munge"
  [ -f "$DIR/munge/key" ] || (umask 377; head -c 1024 /dev/urandom >"$DIR/munge/key")
  { cat /etc/hosts; for i in $(seq "$NODES"); do echo "127.0.0.1 node$i"; done; } >"$DIR/hosts"
  cat >"$SLURM_CONF" <<END
ClusterName=sandbox
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$DIR/munge/socket
CredType=cred/munge
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
TmpFS=$DIR/tmp/%n
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/slurmd.%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=pmix
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=1,bf_interval=2
ReturnToService=2
KillWait=5
MinJobAge=600
JobRequeue=1
NodeName=node[1-$NODES] NodeAddr=127.0.0.1 Port=[$((PORT + 1))-$((PORT + NODES))] CPUs=$CPUS RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
}

# One virtual node with separate UTS and mount namespaces: its own host name, /dev/shm and /etc/hosts. Open MPI names
# its shared memory after host name, job and local rank: with a common /dev/shm the ranks of two nodes would collide and
# crash.
start_node() {
  mkdir -p "$DIR/spool/$1" "$DIR/tmp/$1"
  unshare --uts --mount --propagation private sh -c "hostname $1 && mount -t tmpfs -o mode=1777 tmpfs /dev/shm &&
    mount --bind '$DIR/hosts' /etc/hosts && exec slurmd -N $1"
}

start() {
  configure
  munged --force --key-file="$DIR/munge/key" --socket="$DIR/munge/socket" --pid-file="$DIR/munge/munged.pid" \
    --log-file="$DIR/log/munged.log" --seed-file="$DIR/munge/seed" || return 1
  slurmctld -c || return 1
  for i in $(seq "$NODES"); do start_node "node$i" || return 1; done
  for _ in $(seq 100); do
    [ "$(sinfo -h -N -o %T 2>/dev/null | grep -c '^idle')" = "$NODES" ] && return 0
    sleep 0.1
  done
  echo "sandbox.sh: the nodes do not come up; see $DIR/log" >&2
  return 1
}

# Kill the jobs, then the daemons of this sandbox, by their pid files.
stop() {
  local pids=() pid
  scancel --signal=KILL --full --user=root 2>/dev/null && sleep 0.3
  for pid in "$DIR"/slurmctld.pid "$DIR"/slurmd.node*.pid "$DIR"/munge/munged.pid; do
    [ -f "$pid" ] && pids+=("$(cat "$pid")")
  done
  [ ${#pids[@]} != 0 ] || return 0
  kill "${pids[@]}" 2>/dev/null
  for _ in $(seq 80); do
    kill -0 "${pids[@]}" 2>/dev/null || return 0
    sleep 0.1
  done
  echo "sandbox.sh: still running: ${pids[*]}" >&2
  return 1
}

case ${1:-} in
start) start || { stop; exit 1; } ;;
stop) stop ;;
status) sinfo -N -l && squeue ;;
*) sed -n '2,6s/^# //p' "$0" >&2; exit 2 ;;
esac
