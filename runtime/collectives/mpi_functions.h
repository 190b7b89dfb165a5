// What the library asks of MPI, as a table of C functions. They live in a module of their own
// (mpi_functions_mpi.cpp), which is loaded only where a run has several ranks: the program itself
// needs no MPI library.
//
// All but error_text return 0 or an MPI error code. All are called from one thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace stemfabric {

enum class MpiType : int { kFloat, kDouble, kInt64 };

struct MpiFunctions {
  int (*initialise)(int* rank, int* size);
  int (*finalise)();
  void (*abort_all)(int status);  // does not return
  void (*library)(char* text, std::size_t capacity);
  void (*error_text)(int code, char* text, std::size_t capacity);

  int (*all_reduce)(void* data, int count, MpiType type, void** request);
  // Bytes and offsets by rank: of what is sent, and of what is received.
  int (*exchange)(const void* send, const int* sent, const int* send_at, void* receive,
                  const int* received, const int* receive_at, void** request);
  int (*all_gather)(void* data, const int* bytes, const int* at, void** request);
  int (*broadcast)(void* data, int bytes, void** request);
  int (*test)(void* request, int* done);  // done: the request is gone

  int (*tell)(int rank, std::int64_t value);
  int (*hear)(int* rank, std::int64_t* value, int* heard);  // the next that was told, if any
};

// The one symbol of the module.
inline constexpr const char* kMpiModule = "libstemfabric_mpi.so";
inline constexpr const char* kMpiSymbol = "stemfabric_mpi_functions";
using MpiEntry = const MpiFunctions* (*)();

}  // namespace stemfabric
