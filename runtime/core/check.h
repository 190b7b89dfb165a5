// Typed errors and the SF_CHECK macros. Libraries throw; only the command line prints and exits.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace stemfabric {

// What went wrong, seen from the user. The command line turns it into an exit status.
enum class ErrorKind : uint8_t {
  kUsage,        // wrong command line                        -> 2
  kConfig,       // wrong configuration (file, line, key)     -> 2
  kInputData,    // input data refused (file, field)          -> 3
  kIo,           // a file could not be read or written       -> 1
  kOutOfMemory,  // an allocation failed                      -> 1
  kDevice,       // device or driver                          -> 1
  kNumeric,      // non-finite values stopped the run         -> 1
  kRanks,        // another rank died or hangs                -> 76
  kInternal,     // a broken invariant: a bug of ours         -> 1
};

std::string_view error_kind_name(ErrorKind kind);
int exit_status(ErrorKind kind);

// Every error of the project. `what()` is a whole sentence that names the file, key or tensor at
// fault and says what to do; internal errors add the expression and file:line.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// NOLINTBEGIN(bugprone-macro-parentheses): Name is the name of a class
#define SF_DEFINE_ERROR(Name, Kind)                                        \
  class Name : public Error {                                              \
   public:                                                                 \
    explicit Name(const std::string& message) : Error(Kind, message) {}    \
    template <typename... Args>                                            \
    explicit Name(fmt::format_string<Args...> format,                      \
                  Args&&... args) requires(sizeof...(Args) > 0)            \
        : Error(Kind, fmt::format(format, std::forward<Args>(args)...)) {} \
  }
SF_DEFINE_ERROR(UsageError, ErrorKind::kUsage);
SF_DEFINE_ERROR(ConfigError, ErrorKind::kConfig);
SF_DEFINE_ERROR(InputError, ErrorKind::kInputData);
SF_DEFINE_ERROR(IoError, ErrorKind::kIo);
SF_DEFINE_ERROR(OutOfMemoryError, ErrorKind::kOutOfMemory);
SF_DEFINE_ERROR(DeviceError, ErrorKind::kDevice);
SF_DEFINE_ERROR(NumericError, ErrorKind::kNumeric);
SF_DEFINE_ERROR(CollectiveError, ErrorKind::kRanks);
SF_DEFINE_ERROR(InternalError, ErrorKind::kInternal);
#undef SF_DEFINE_ERROR
// NOLINTEND(bugprone-macro-parentheses)

namespace detail {
[[noreturn]] void check_failed(const char* expression, const char* file, int line,
                               const std::string& message);
inline std::string check_message() { return {}; }
template <typename... Args>
std::string check_message(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace detail

}  // namespace stemfabric

// SF_CHECK(condition) or SF_CHECK(condition, "format {}", values...): an InternalError if it is
// false.
#define SF_CHECK(condition, ...)                                                            \
  do {                                                                                      \
    if (!(condition)) [[unlikely]] {                                                        \
      ::stemfabric::detail::check_failed(#condition, __FILE__, __LINE__,                    \
                                         ::stemfabric::detail::check_message(__VA_ARGS__)); \
    }                                                                                       \
  } while (false)
