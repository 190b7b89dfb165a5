#include "runtime/io/npy.h"

#include <algorithm>
#include <cstring>

#include "tests/fuzz/fuzz_target.h"

namespace stemfabric::fuzz {
namespace {

namespace fs = std::filesystem;

bool can_be_written(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF64 || dtype == DType::kI32 ||
         dtype == DType::kI64 || dtype == DType::kU8;
}

// Read in parts it is what it is as a whole; written and read again it is the same.
void read(std::string_view bytes) {
  const fs::path path = hostile_file(".npy", bytes);
  const Tensor whole = read_npy(path);
  const NpyFile file(path);
  SF_CHECK(file.shape() == whole.shape() && file.dtype() == whole.dtype());
  const int64_t count = whole.elements();
  const std::size_t element = dtype_size(whole.dtype());
  const auto* expected = static_cast<const char*>(whole.view().data());
  std::vector<char> part(static_cast<std::size_t>(7 * std::max<int64_t>(count, 1)) * element);
  for (int64_t begin = 0; begin < std::min<int64_t>(count, 50); begin += 7) {
    const int64_t n = std::min<int64_t>(7, count - begin);
    const std::size_t part_bytes = static_cast<std::size_t>(n) * element;
    file.copy(begin, n, part.data());
    SF_CHECK(std::memcmp(part.data(), expected + static_cast<std::size_t>(begin) * element,
                         part_bytes) == 0);
  }
  if (!can_be_written(whole.dtype())) {
    return;
  }
  const fs::path copy_path = scratch_folder() / "copy.npy";
  write_npy(copy_path, whole.view());
  const Tensor copy = read_npy(copy_path);
  SF_CHECK(copy.shape() == whole.shape() && copy.dtype() == whole.dtype());
  SF_CHECK(count == 0 || std::memcmp(copy.view().data(), expected, whole.bytes()) == 0);
}

// Version 1.0 with this dictionary.
std::string file_of(const std::string& dictionary, const std::string& data) {
  const std::string header = dictionary + "\n";
  std::string bytes("\x93NUMPY\1\0", 8);
  bytes += static_cast<char>(header.size() % 256);
  bytes += static_cast<char>(header.size() / 256);
  return bytes + header + data;
}

std::vector<std::string> seeds() {
  std::vector<std::string> all;
  const std::vector<float> values = {1, -2, 3.5F, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  for (const Shape& shape : {Shape{3, 4}, Shape{12}, Shape{}, Shape{2, 0, 3}, Shape{1, 2, 2, 3}}) {
    all.push_back(written(".npy", [&](const fs::path& path) {
      write_npy(path, ConstTensorView(values.data(), shape));
    }));
  }
  for (const char* type : {">f8", "<f2", "|b1", "|u1", ">i2", "<i8", "<u4"}) {
    const std::size_t bytes = static_cast<std::size_t>(type[2] - '0') * 6;
    all.push_back(
        file_of(fmt::format("{{'descr': '{}', 'fortran_order': True, 'shape': (2, 3), }}", type),
                std::string(bytes, '\1')));
  }
  std::string version_2 = all[0];  // the same header, its length in four bytes
  version_2[6] = 2;
  version_2.insert(10, std::string(2, '\0'));
  all.push_back(version_2);
  return all;
}

}  // namespace

const FuzzTarget kNpy = {"npy", ErrorKind::kInputData, read, seeds};

}  // namespace stemfabric::fuzz
