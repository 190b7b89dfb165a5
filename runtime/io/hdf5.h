// A small part of HDF5: groups, float32 data sets, string attributes. Enough for Keras weight
// files and for reading them back. Errors are IoErrors (files) and InputErrors (contents) that name
// file and object. One thread at a time: the library behind it is not thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/tensor_view.h"
#include "runtime/memory/buffer.h"

namespace stemfabric {

// Builds the file in memory, in the oldest file format that holds it, without time stamps: equal
// contents give equal bytes. commit() writes it atomically.
class Hdf5Writer {
 public:
  explicit Hdf5Writer(const std::filesystem::path& path);
  ~Hdf5Writer();
  Hdf5Writer(const Hdf5Writer&) = delete;
  Hdf5Writer& operator=(const Hdf5Writer&) = delete;

  // Object names are paths from the root ("/dense/dense/kernel:0"); missing groups are created.
  void create_group(const std::string& group);
  void write_dataset(const std::string& name, const ConstTensorView& tensor);  // f32, contiguous
  // Attributes of an existing object ("/" is the root): one string, or a list of them. HDF5 limits
  // them to kMaxAttributeBytes; more is an InputError.
  void set_attribute(const std::string& object, const std::string& name, std::string_view value);
  void set_attribute(const std::string& object, const std::string& name,
                     const std::vector<std::string>& values);
  // Returns the SHA-256 of the file.
  std::string commit();

  static constexpr std::size_t kMaxAttributeBytes = 64512;

 private:
  std::filesystem::path path_;
  int64_t file_ = -1;
};

class Hdf5File {
 public:
  explicit Hdf5File(const std::filesystem::path& path);
  ~Hdf5File();
  Hdf5File(const Hdf5File&) = delete;
  Hdf5File& operator=(const Hdf5File&) = delete;

  std::vector<std::string> children(const std::string& group) const;  // sorted by name
  Tensor read_dataset(const std::string& name) const;                 // float32 only
  std::string read_attribute(const std::string& object, const std::string& name) const;
  std::vector<std::string> read_attribute_list(const std::string& object,
                                               const std::string& name) const;

 private:
  std::filesystem::path path_;
  int64_t file_ = -1;
};

}  // namespace stemfabric
