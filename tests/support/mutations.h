// Damaged files for readers: whatever the bytes, a reader succeeds or throws an Error of ours that
// names the file, and asks for no memory that the file does not account for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "runtime/core/check.h"

namespace stemfabric::test {

struct MutationOptions {
  uint32_t seed = 1;
  int rounds = 300;
  ErrorKind kind = ErrorKind::kInputData;  // of every refusal
};

// How many of the damaged files were read and how many refused.
struct MutationCounts {
  int accepted = 0;
  int refused = 0;
};

// `bytes` with one to three seeded changes: bits flipped, bytes set, removed, repeated or inserted,
// numbers changed, the end cut off.
std::string mutated(std::string_view bytes, uint32_t seed, int round);

// Calls `read` on damaged versions of `bytes` and checks what it does; an error names `name`.
MutationCounts read_mutated(std::string_view name, std::string_view bytes,
                            const MutationOptions& options,
                            const std::function<void(const std::string&)>& read);
// The same for a reader of files: the damaged versions are written to `path`.
MutationCounts read_mutated(const std::filesystem::path& path, std::string_view bytes,
                            const MutationOptions& options, const std::function<void()>& read);

}  // namespace stemfabric::test
