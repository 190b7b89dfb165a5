// One target as a libFuzzer program: SF_FUZZ_TARGET is its name in fuzz_target.h. Besides
// libFuzzer's own options it knows --seeds=FOLDER, which writes the target's seeds there and ends.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "runtime/io/file.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace stemfabric;  // NOLINT(google-build-using-namespace)

void write_seeds(const std::filesystem::path& folder) {
  make_directories(folder);
  int number = 0;
  for (const std::string& seed : fuzz::SF_FUZZ_TARGET.seeds()) {
    write_text_file(folder / fmt::format("seed-{:02}", number++), seed);
  }
  std::printf("%d seeds in %s\n", number, folder.c_str());
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): the names that libFuzzer calls
extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments);
extern "C" int LLVMFuzzerInitialize(int* count, char*** arguments) {
  constexpr std::string_view kSeeds = "--seeds=";
  for (int i = 1; i < *count; ++i) {
    const std::string_view argument = (*arguments)[i];
    if (argument.starts_with(kSeeds)) {
      write_seeds(argument.substr(kSeeds.size()));
      std::exit(0);
    }
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  fuzz::accepts(fuzz::SF_FUZZ_TARGET, {reinterpret_cast<const char*>(data), size});
  return 0;
}
// NOLINTEND(readability-identifier-naming)
