// safetensors files (github.com/huggingface/safetensors): JSON header, then raw little-endian
// bytes. The reader treats its input as hostile: header at most 100 MB, no overlap, no holes, sizes
// equal to shape x dtype; errors are InputErrors with file and tensor name.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/core/tensor_view.h"
#include "runtime/io/file.h"

namespace stemfabric {

// A memory-mapped file; the views stay valid as long as it lives.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  const std::filesystem::path& path() const { return file_.path(); }
  const std::map<std::string, ConstTensorView>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool contains(const std::string& name) const { return tensors_.contains(name); }
  const ConstTensorView& at(
      const std::string& name) const;  // InputError that names file and tensor

 private:
  MappedFile file_;
  std::map<std::string, ConstTensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

struct NamedTensor {
  std::string name;
  ConstTensorView view;  // rows may be strided; written contiguously
};
// Atomic; tensors in the given order, 8-byte aligned. Returns the SHA-256 of the file.
std::string write_safetensors(const std::filesystem::path& path,
                              const std::vector<NamedTensor>& tensors,
                              const std::map<std::string, std::string>& metadata);

}  // namespace stemfabric
