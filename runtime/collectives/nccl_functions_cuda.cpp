// NCCL, loaded when the first rank of several takes a GPU.
#include "runtime/core/check.h"
#if SF_HAVE_NCCL
#include <dlfcn.h>
#include <nccl.h>

#include <cstring>
#include <type_traits>

#include "runtime/collectives/nccl_functions.h"
#include "runtime/device/cuda_library.h"

namespace stemfabric {
namespace {

static_assert(kNcclSuccess == ncclSuccess && kNcclSystemError == ncclSystemError &&
              kNcclRemoteError == ncclRemoteError && kNcclInProgress == ncclInProgress &&
              kNcclIdBytes == NCCL_UNIQUE_ID_BYTES);

// The functions of the library that we call, of the types that its header gives them.
struct Library {
  decltype(&ncclGetVersion) version;
  decltype(&ncclGetUniqueId) unique_id;
  decltype(&ncclCommInitRankConfig) init_rank;
  decltype(&ncclCommGetAsyncError) async_error;
  decltype(&ncclAllReduce) all_reduce;
  decltype(&ncclCommFinalize) finalize;
  decltype(&ncclCommDestroy) destroy;
  decltype(&ncclCommAbort) abort;
  decltype(&ncclGetErrorString) error_string;
  decltype(&ncclGetLastError) last_error;
};

std::string version_text(int code) {  // 22809 of 2.28.9
  return fmt::format("{}.{}.{}", code / 10000, code / 100 % 100, code % 100);
}

Library load() {
  const cuda::OpenedLibrary opened = cuda::open_library("libnccl.so.2");
  if (opened.handle == nullptr) {
    throw DeviceError(
        "several ranks on GPUs need NCCL, which could not be loaded ({}); install NCCL {}.{} or "
        "newer for this CUDA, or put the folder of libnccl.so.2 on LD_LIBRARY_PATH",
        opened.reason, NCCL_MAJOR, NCCL_MINOR);
  }
  const auto find = [&](auto& function, const char* name) {
    function =
        reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(opened.handle, name));
    if (function == nullptr) {
      throw DeviceError("the NCCL that is installed has no function {}; this build needs {}.{}",
                        name, NCCL_MAJOR, NCCL_MINOR);
    }
  };
  Library library{};
  find(library.version, "ncclGetVersion");
  int version = 0;
  library.version(&version);
  // What the build knows of structures and results is its header's: an older library may differ.
  if (version / 100 < NCCL_VERSION_CODE / 100) {
    throw DeviceError(
        "NCCL {} is installed; this build needs {}.{} or newer: install that, or put the folder of "
        "its libnccl.so.2 on LD_LIBRARY_PATH before the other's",
        version_text(version), NCCL_MAJOR, NCCL_MINOR);
  }
  find(library.unique_id, "ncclGetUniqueId");
  find(library.init_rank, "ncclCommInitRankConfig");
  find(library.async_error, "ncclCommGetAsyncError");
  find(library.all_reduce, "ncclAllReduce");
  find(library.finalize, "ncclCommFinalize");
  find(library.destroy, "ncclCommDestroy");
  find(library.abort, "ncclCommAbort");
  find(library.error_string, "ncclGetErrorString");
  find(library.last_error, "ncclGetLastError");
  return library;
}

const Library& nccl() {
  static const Library library = load();  // tried again if it threw
  return library;
}

int unique_id(std::byte* id) {
  ncclUniqueId made;
  const ncclResult_t result = nccl().unique_id(&made);
  std::memcpy(id, &made, sizeof made);
  return result;
}

int init_rank(void** communicator, int ranks, const std::byte* id, int rank) {
  ncclUniqueId of_all;
  std::memcpy(&of_all, id, sizeof of_all);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return nccl().init_rank(reinterpret_cast<ncclComm_t*>(communicator), ranks, of_all, rank,
                          &config);
}

int async_error(void* communicator, int* state) {
  ncclResult_t now = ncclSuccess;
  const ncclResult_t result = nccl().async_error(static_cast<ncclComm_t>(communicator), &now);
  *state = now;
  return result;
}

ncclDataType_t data_type(DType type) {
  switch (type) {
    case DType::kF32:
      return ncclFloat32;
    case DType::kF64:
      return ncclFloat64;
    case DType::kBF16:
      return ncclBfloat16;
    default:
      throw InternalError("sums over devices of {}", dtype_name(type));
  }
}

int all_reduce(void* data, std::size_t elements, DType type, void* communicator, void* stream) {
  return nccl().all_reduce(data, data, elements, data_type(type), ncclSum,
                           static_cast<ncclComm_t>(communicator),
                           static_cast<cudaStream_t>(stream));
}

int finalize(void* communicator) { return nccl().finalize(static_cast<ncclComm_t>(communicator)); }
int destroy(void* communicator) { return nccl().destroy(static_cast<ncclComm_t>(communicator)); }
int abort_sums(void* communicator) { return nccl().abort(static_cast<ncclComm_t>(communicator)); }
const char* error_string(int result) {
  return nccl().error_string(static_cast<ncclResult_t>(result));
}
const char* last_error(void* communicator) {
  return nccl().last_error(static_cast<ncclComm_t>(communicator));
}

}  // namespace

const NcclFunctions& load_nccl() {
  nccl();
  static constexpr NcclFunctions kFunctions = {unique_id,  init_rank,    async_error,
                                               all_reduce, finalize,     destroy,
                                               abort_sums, error_string, last_error};
  return kFunctions;
}

std::string nccl_version() {
  int version = 0;
  nccl().version(&version);
  return version_text(version);
}

}  // namespace stemfabric
#endif
