#include "runtime/core/check.h"

namespace stemfabric {

std::string_view error_kind_name(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
      return "usage";
    case ErrorKind::kConfig:
      return "configuration";
    case ErrorKind::kInputData:
      return "input data";
    case ErrorKind::kIo:
      return "file";
    case ErrorKind::kOutOfMemory:
      return "memory";
    case ErrorKind::kDevice:
      return "device";
    case ErrorKind::kNumeric:
      return "numeric";
    case ErrorKind::kRanks:
      return "ranks";
    case ErrorKind::kInternal:
      return "internal";
  }
  return "unknown";
}

int exit_status(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage:
    case ErrorKind::kConfig:
      return 2;
    case ErrorKind::kInputData:
      return 3;
    case ErrorKind::kRanks:
      return 76;
    default:
      return 1;
  }
}

namespace detail {
void check_failed(const char* expression, const char* file, int line, const std::string& message) {
  throw InternalError("{}{}check failed: {} ({}:{}); please report this as a bug", message,
                      message.empty() ? "" : " — ", expression, file, line);
}
}  // namespace detail

}  // namespace stemfabric
