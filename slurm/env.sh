# env.sh — the settings of a site: modules, program, launcher, MPI. Edit it once, every job sources it;
# `make install` keeps an installed one that differs.
# Each value can also be set in the environment of sbatch.
# shellcheck shell=bash

# ---- modules that mdlm was built with
# module purge
# module load gcc openmpi hdf5-mpi   # for GPUs also those of CUDA, NCCL and cuDNN

# ---- the program: that of BUILD, else that beside this folder or of the same `make install`, else the one in PATH
PATH=${BUILD:-$MDLM_HOME/build}:$PATH

# ---- the launcher: starts one process per task of the #SBATCH header
# srun starts Open MPI through PMIx ("srun --mpi=list" lists what a site has). With --kill-on-bad-exit a rank that dies
# ends the job instead of leaving it hanging. Where srun has no PMIx, use LAUNCH=mpirun, which reads the allocation
# itself.
LAUNCH=${LAUNCH:-srun --mpi=pmix --kill-on-bad-exit=1}
# Since Slurm 22.05 srun no longer inherits --cpus-per-task from the header.
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# ---- GPUs (device.name = "cuda")
# The ranks of a node use its GPUs in turn, whether the launcher shows a rank all GPUs or only its own. NCCL chooses its
# network itself; where the choice is wrong:
# export NCCL_SOCKET_IFNAME=eth0 NCCL_IB_HCA=mlx5
# export NCCL_DEBUG=INFO                         # prints what it chose

# ---- Open MPI
# By default mpirun binds a rank, with all its threads, to one core. mdlm binds its threads itself.
export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
# On SIGTERM mpirun waits this many seconds, 1 by default, sends SIGTERM to its ranks, waits again and kills them, whether
# they have saved or not. It also waits after an error. Twice the time should be less than Slurm's KillWait of 30 s.
export OMPI_MCA_odls_base_sigkill_timeout=${OMPI_MCA_odls_base_sigkill_timeout:-10}
# The network of MPI, where the default choice is wrong:
# export OMPI_MCA_pml=ucx                        # InfiniBand through UCX
# export OMPI_MCA_btl_tcp_if_include=eth0        # Ethernet by interface or by 10.0.0.0/16

# ---- a file system without locks (some Lustre and NFS mounts)
# mdlm and its mdlm-… commands open HDF5 without locks. h5py, h5dump and other programs of your own need
# export HDF5_USE_FILE_LOCKING=FALSE
