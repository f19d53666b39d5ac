# env.sh — what this site has: modules, the program, the launcher, MPI. Edit it once; every *.sbatch beside it sources it.
# Each value can also be given in the environment of sbatch.
# shellcheck shell=bash disable=SC2034 # the scripts that source this read SIGNALLED

# ---- modules: what mdlm was built with
# module purge
# module load gcc openmpi hdf5-mpi   # for GPUs also those of CUDA, NCCL and cuDNN

# ---- the program: the build of the directory sbatch was called in, else the one on PATH
PATH=${BUILD:-$SLURM_SUBMIT_DIR/build}:$PATH

# ---- the launcher starts one process per task of the #SBATCH header
# srun speaks PMIx to Open MPI ("srun --mpi=list" shows what a site has). A rank that dies takes the others with it, so that
# the job ends instead of hanging. Where srun has no PMIx: LAUNCH="mpirun" (it reads the allocation itself).
LAUNCH=${LAUNCH:-srun --mpi=pmix --kill-on-bad-exit=1}
# Since Slurm 22.05 srun no longer inherits --cpus-per-task from the header.
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# ---- GPUs (device.name = "cuda")
# Ranks of a node take its GPUs in turn, whether the launcher shows each of them all or only its own. NCCL finds its network
# by itself; where it is wrong:
# export NCCL_SOCKET_IFNAME=eth0 NCCL_IB_HCA=mlx5
# export NCCL_DEBUG=INFO                         # what it has found

# ---- Open MPI
# mpirun would bind each rank to one core, and all its threads with it; mdlm keeps its threads on cores of their own.
export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
# A network of its own for MPI, where the default choice is wrong:
# export OMPI_MCA_pml=ucx                        # InfiniBand through UCX
# export OMPI_MCA_btl_tcp_if_include=eth0        # Ethernet by interface or by 10.0.0.0/16

# ---- HDF5 on a file system without locks (some Lustre and NFS mounts)
# export HDF5_USE_FILE_LOCKING=FALSE

# launch WORD… — run mdlm WORD… on every task and return its exit code. SIGUSR1, which Slurm sends to this shell, goes on to
# the ranks; SIGNALLED then is 1. The shell lives through SIGTERM: Slurm sends that to the ranks too, and they save.
launch() {
  local pid
  SIGNALLED=0
  $LAUNCH mdlm "$@" &
  pid=$!
  trap 'SIGNALLED=1; kill -USR1 $pid 2>/dev/null' USR1
  trap : TERM
  while kill -0 $pid 2>/dev/null; do wait $pid; done # a trapped signal ends wait early
  trap - USR1 TERM
  wait $pid # the exit code, which the shell has kept
}
