// safetensors files (github.com/huggingface/safetensors): JSON header, then raw little-endian
// bytes. The reader treats its input as hostile: header at most 16 MiB (the format allows 100 MB),
// no duplicate names, no overlap, no holes, nothing after the last tensor, sizes equal to
// shape x dtype; errors are InputErrors with file and tensor name.
// Accepted dtypes: F32 F64 BF16 F16 I16 I32 I64 U32 U64 U8, and BOOL as u8; rank at most 6.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "runtime/core/tensor_view.h"
#include "runtime/io/file.h"
#include "runtime/memory/buffer.h"

namespace stemfabric {

// A memory-mapped file; the views stay valid as long as it lives. Tensors that lie in the file at
// an offset that does not suit their dtype (the format allows it) are copied into memory instead.
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
  std::vector<Buffer> realigned_;
  std::map<std::string, ConstTensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

struct NamedTensor {
  std::string name;
  ConstTensorView view;  // rows may be strided; written contiguously
};
// Atomic. Data start 8-byte aligned; tensors with wider elements come first, otherwise in the given
// order, so that each is aligned to its element size without gaps. Returns the SHA-256 of the file.
std::string write_safetensors(const std::filesystem::path& path,
                              const std::vector<NamedTensor>& tensors,
                              const std::map<std::string, std::string>& metadata);

}  // namespace stemfabric
