// What the library asks of NCCL, as a table of C functions: NCCL's own are looked up in its library
// at run time (nccl_functions_cuda.cpp), the tests give others. So only a run whose ranks share
// GPUs needs the library, and the code around it is tested without one.
#pragma once

#include <cstddef>
#include <string>

#include "runtime/core/dtype.h"

namespace stemfabric {

// The results of NCCL's functions that are told apart.
inline constexpr int kNcclSuccess = 0;
inline constexpr int kNcclSystemError = 2;  // a call of the system failed: mostly the network
inline constexpr int kNcclRemoteError = 6;  // another rank ended, or the network to it
inline constexpr int kNcclInProgress = 7;   // of a communicator that does not block: ask again

inline constexpr std::size_t kNcclIdBytes = 128;

// All that return int return NCCL's results. A communicator never blocks: what it was asked to do
// may be in progress for a while (async_error).
struct NcclFunctions {
  int (*unique_id)(std::byte* id);  // kNcclIdBytes
  int (*init_rank)(void** communicator, int ranks, const std::byte* id, int rank);
  int (*async_error)(void* communicator, int* state);
  // In place, in device memory of f32, f64 or bf16; `stream` is a cudaStream_t.
  int (*all_reduce)(void* data, std::size_t elements, DType type, void* communicator, void* stream);
  int (*finalize)(void* communicator);  // destroy follows when it is no longer in progress
  int (*destroy)(void* communicator);
  int (*abort)(void* communicator);
  const char* (*error_string)(int result);
  const char* (*last_error)(void* communicator);  // in more words; null: of no communicator
};

// Those of the library, which is loaded by the first call. DeviceError that says what to do if this
// build has no NCCL, or if the library is missing or older than the build.
const NcclFunctions& load_nccl();
// "2.28.9" of the library; loads it likewise.
std::string nccl_version();

}  // namespace stemfabric
