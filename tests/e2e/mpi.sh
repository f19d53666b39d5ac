# mpi.sh — settings of Open MPI for tests: all ranks on this machine, more ranks than cores, and starts that cost little.
# shellcheck shell=bash
#
# Sourced by lib.sh and tests/run.sh. BUILD is the folder of the programs.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 # a container's user is root
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
# no daemon for a single process and no search for networks: this makes hundreds of starts several times faster
export OMPI_MCA_ess_singleton_isolated=1 OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader
# nor for cores, displays and devices: reading the configuration of every PCI device costs a third of a start
export HWLOC_PLUGINS_PATH=/nonexistent HWLOC_SYNTHETIC=pu:2
export PMIX_MCA_gds=hash # what mpirun tells its ranks comes in messages, not in mapped files
# other steps share the cores: a rank that waits yields, and naps where the library is
export OMPI_MCA_mpi_yield_when_idle=1
mpi_nap=$(realpath -m "${BUILD:-build}/tests/nap.so")
[ ! -e "$mpi_nap" ] || export OMPI_MCA_mca_base_env_list=LD_PRELOAD="$mpi_nap"
