// NumPy .npy files, versions 1.0 to 3.0, C order, little-endian f4 f8 i4 i8 u1 (bool reads as u1).
// Anything else, a wrong size or a truncated file is an InputError that names the file and what is
// wrong. Format: numpy.lib.format.
#pragma once

#include <filesystem>

#include "runtime/memory/buffer.h"

namespace stemfabric {

Tensor read_npy(const std::filesystem::path& path);
void write_npy(const std::filesystem::path& path, const ConstTensorView& tensor);  // atomic

}  // namespace stemfabric
