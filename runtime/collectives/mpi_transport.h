// Ranks that mpirun or srun started.
#pragma once

#include <memory>
#include <string>

#include "runtime/collectives/transport.h"

namespace stemfabric {

// What the environment says of how this process was started.
struct RankEnvironment {
  int size = 1;           // processes that were started together
  int rank = 0;           // of this one
  int local_rank = 0;     // its number among those on its machine
  std::string launcher;   // "mpirun", "srun"; empty: started alone
  std::string variables;  // that say so: "OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0"
};
// Reads OMPI_COMM_WORLD_SIZE, _RANK and _LOCAL_RANK (Open MPI's mpirun), and SLURM_STEP_NUM_TASKS,
// SLURM_PROCID and SLURM_LOCALID with SLURM_STEP_ID (srun; the batch script itself is no step).
// DeviceError if they contradict themselves.
RankEnvironment rank_environment();

// Null where the environment says that this process is alone: MPI is neither loaded nor
// initialised then. DeviceError that says what to do if this build has no MPI, if its module or its
// library cannot be loaded, or if MPI sees another number of ranks than the launcher started.
// Once per process.
std::unique_ptr<Transport> join_ranks();
// "Open MPI v4.1.4"; empty before join_ranks() or alone.
std::string mpi_library();

// At the end of the process; does nothing if MPI was not initialised, or was left before. In order:
// together with the other ranks. Otherwise all ranks of the job are ended at once with this exit
// status, and it does not return.
void leave_ranks(int status, bool in_order);

}  // namespace stemfabric
