// The module behind mpi_functions.h: the only file that includes mpi.h.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "runtime/collectives/mpi_functions.h"

namespace {

using stemfabric::MpiFunctions;
using stemfabric::MpiType;

constexpr int kTellTag = 1;

MPI_Comm g_sums = MPI_COMM_NULL;   // of sums and exchanges
MPI_Comm g_parts = MPI_COMM_NULL;  // of gathers and broadcasts
MPI_Comm g_talk = MPI_COMM_NULL;   // of what ranks tell each other

MPI_Datatype datatype(MpiType type) {
  switch (type) {
    case MpiType::kFloat:
      return MPI_FLOAT;
    case MpiType::kDouble:
      return MPI_DOUBLE;
    case MpiType::kInt64:
      return MPI_INT64_T;
  }
  return MPI_DATATYPE_NULL;
}

// Requests live on the heap: what they are is MPI's business.
template <typename Start>
int start(void** request, const Start& operation) {
  auto handle = std::make_unique<MPI_Request>(MPI_REQUEST_NULL);
  const int code = operation(handle.get());
  *request = code == MPI_SUCCESS ? handle.release() : nullptr;
  return code;
}

int initialise(int* rank, int* size) {
  int level = 0;
  int code = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level);
  const auto then = [&](auto&& call) {
    if (code == MPI_SUCCESS) {
      code = call();
    }
  };
  then([] { return MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN); });
  then([] { return MPI_Comm_dup(MPI_COMM_WORLD, &g_sums); });
  then([] { return MPI_Comm_dup(MPI_COMM_WORLD, &g_parts); });
  then([] { return MPI_Comm_dup(MPI_COMM_WORLD, &g_talk); });
  then([&] { return MPI_Comm_rank(g_sums, rank); });
  then([&] { return MPI_Comm_size(g_sums, size); });
  return code;
}

int finalise() { return MPI_Finalize(); }

void abort_all(int status) { MPI_Abort(MPI_COMM_WORLD, status); }

void copy_text(const char* from, char* text, std::size_t capacity) {
  const std::size_t length = std::min(std::strcspn(from, "\n"), capacity - 1);
  std::memcpy(text, from, length);
  text[length] = '\0';
}

void library(char* text, std::size_t capacity) {
  char full[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(full, &length);
  full[std::strcspn(full, ",")] = '\0';  // "Open MPI v4.1.4, package: …"
  copy_text(full, text, capacity);
}

void error_text(int code, char* text, std::size_t capacity) {
  char full[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, full, &length);
  copy_text(full, text, capacity);
}

int all_reduce(void* data, int count, MpiType type, void** request) {
  return start(request, [&](MPI_Request* handle) {
    return MPI_Iallreduce(MPI_IN_PLACE, data, count, datatype(type), MPI_SUM, g_sums, handle);
  });
}

int exchange(const void* send, const int* sent, const int* send_at, void* receive,
             const int* received, const int* receive_at, void** request) {
  return start(request, [&](MPI_Request* handle) {
    return MPI_Ialltoallv(send, sent, send_at, MPI_BYTE, receive, received, receive_at, MPI_BYTE,
                          g_sums, handle);
  });
}

int all_gather(void* data, const int* bytes, const int* at, void** request) {
  return start(request, [&](MPI_Request* handle) {
    return MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data, bytes, at, MPI_BYTE, g_parts,
                           handle);
  });
}

int broadcast(void* data, int bytes, void** request) {
  return start(request, [&](MPI_Request* handle) {
    return MPI_Ibcast(data, bytes, MPI_BYTE, 0, g_parts, handle);
  });
}

int test(void* request, int* done) {
  auto* handle = static_cast<MPI_Request*>(request);
  const int code = MPI_Test(handle, done, MPI_STATUS_IGNORE);
  if (code != MPI_SUCCESS || *done != 0) {
    delete handle;
  }
  return code;
}

// Eight bytes go out at once (eager), whether or not the other rank lives.
int tell(int rank, std::int64_t value) {
  MPI_Request handle = MPI_REQUEST_NULL;
  static std::int64_t kept[1024];  // MPI may read it later; a run tells seldom
  static std::size_t next = 0;
  std::int64_t& slot = kept[next++ % std::size(kept)];
  slot = value;
  const int code = MPI_Isend(&slot, 1, MPI_INT64_T, rank, kTellTag, g_talk, &handle);
  return code == MPI_SUCCESS ? MPI_Request_free(&handle) : code;
}

int hear(int* rank, std::int64_t* value, int* heard) {
  MPI_Status status;
  const int code = MPI_Iprobe(MPI_ANY_SOURCE, kTellTag, g_talk, heard, &status);
  if (code != MPI_SUCCESS || *heard == 0) {
    return code;
  }
  *rank = status.MPI_SOURCE;
  return MPI_Recv(value, 1, MPI_INT64_T, status.MPI_SOURCE, kTellTag, g_talk, MPI_STATUS_IGNORE);
}

}  // namespace

extern "C" const MpiFunctions* stemfabric_mpi_functions();
extern "C" const MpiFunctions* stemfabric_mpi_functions() {
  static constexpr MpiFunctions kFunctions = {initialise, finalise,   abort_all, library,
                                              error_text, all_reduce, exchange,  all_gather,
                                              broadcast,  test,       tell,      hear};
  return &kFunctions;
}
