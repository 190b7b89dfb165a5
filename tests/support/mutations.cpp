#include "tests/support/mutations.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "tests/support/paths.h"

namespace stemfabric::test {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kCanLimitMemory = false;  // the sanitizers reserve terabytes of addresses
#else
constexpr bool kCanLimitMemory = true;
#endif

// While it lives, more memory than a small file accounts for is refused by the system, so that a
// reader that believes a damaged size ends in std::bad_alloc.
class MemoryLimit {
 public:
  MemoryLimit() {
    ::getrlimit(RLIMIT_AS, &before_);
    if (kCanLimitMemory) {
      std::ifstream statm("/proc/self/statm");
      rlim_t pages = 0;
      statm >> pages;
      rlimit limit = before_;
      limit.rlim_cur = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + (128UL << 20);
      ::setrlimit(RLIMIT_AS, &limit);
    }
  }
  ~MemoryLimit() { ::setrlimit(RLIMIT_AS, &before_); }
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

 private:
  rlimit before_{};
};

void change_once(std::string& bytes, std::mt19937& random) {
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : random() % n; };
  const std::size_t at = below(bytes.size());
  switch (below(7)) {
    case 0:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
      break;
    case 1:
      bytes[at] = "\x00\xff\x7f\x80{}[]\",:-9e\n"[below(16)];
      break;
    case 2:
      bytes.erase(at, 1 + below(8));
      break;
    case 3:
      bytes.insert(at, bytes.substr(below(bytes.size()), below(40)));
      break;
    case 4:
      bytes.resize(at);
      break;
    case 5:
      bytes.insert(at, 1 + below(16), static_cast<char>(random()));
      break;
    default:  // a digit from here on: sizes and counts in text
      const std::size_t digit = bytes.find_first_of("0123456789", at);
      if (digit != std::string::npos) {
        bytes.insert(digit, std::string(1 + below(20), static_cast<char>('0' + below(10))));
      }
      break;
  }
}

}  // namespace

std::string mutated(std::string_view bytes, uint32_t seed, int round) {
  std::mt19937 random(seed * 1000003U + static_cast<uint32_t>(round));
  std::string changed(bytes);
  for (std::size_t changes = 1 + random() % 3; changes > 0 && !changed.empty(); --changes) {
    change_once(changed, random);
  }
  return changed;
}

MutationCounts read_mutated(std::string_view name, std::string_view bytes,
                            const MutationOptions& options,
                            const std::function<void(const std::string&)>& read) {
  MutationCounts counts;
  for (int round = 0; round < options.rounds; ++round) {
    const std::string damaged = mutated(bytes, options.seed, round);
    SCOPED_TRACE("seed " + std::to_string(options.seed) + ", round " + std::to_string(round));
    try {
      const MemoryLimit limit;
      read(damaged);
      ++counts.accepted;
    } catch (const Error& error) {
      ++counts.refused;
      EXPECT_EQ(error.kind(), options.kind) << error.what();
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    } catch (const std::exception& error) {
      ADD_FAILURE() << "another exception: " << error.what();
    }
  }
  return counts;
}

MutationCounts read_mutated(const std::filesystem::path& path, std::string_view bytes,
                            const MutationOptions& options, const std::function<void()>& read) {
  return read_mutated(path.filename().string(), bytes, options, [&](const std::string& damaged) {
    put_file(path, damaged);
    read();
  });
}

}  // namespace stemfabric::test
