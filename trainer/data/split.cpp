#include "trainer/data/split.h"

#include <fmt/core.h>

#include <charconv>
#include <string>

#include "runtime/io/file.h"

namespace stemfabric {

double split_position(std::string_view id, uint64_t seed) {
  const std::string hex = sha256_hex(fmt::format("{}:{}", seed, id));
  uint64_t bits = 0;
  std::from_chars(hex.data(), hex.data() + 16, bits, 16);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace stemfabric
