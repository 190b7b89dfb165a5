// Which side of a split a record belongs to: a hash of its id and the seed alone, so that a record
// keeps its side however the data grow.
#pragma once

#include <cstdint>
#include <string_view>

namespace stemfabric {

// Uniform in [0, 1): the first 53 bits of SHA-256("<seed>:<id>"). Below the training ratio: train.
double split_position(std::string_view id, uint64_t seed);

}  // namespace stemfabric
