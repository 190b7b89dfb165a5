#include "runtime/io/safetensors.h"

#include <cstring>

#include "tests/fuzz/fuzz_target.h"

namespace stemfabric::fuzz {
namespace {

namespace fs = std::filesystem;

// Written and read again, the tensors and metadata are the same.
void read(std::string_view bytes) {
  const SafetensorsFile file(hostile_file(".safetensors", bytes));
  std::vector<NamedTensor> tensors;
  for (const auto& [name, view] : file.tensors()) {
    tensors.push_back({name, view});
  }
  const fs::path copy_path = scratch_folder() / "copy.safetensors";
  write_safetensors(copy_path, tensors, file.metadata());
  const SafetensorsFile copy(copy_path);
  SF_CHECK(copy.metadata() == file.metadata());
  SF_CHECK(copy.tensors().size() == file.tensors().size());
  for (const auto& [name, view] : file.tensors()) {
    const ConstTensorView& again = copy.at(name);
    SF_CHECK(again.dtype() == view.dtype() && again.shape() == view.shape(), "{}", name);
    SF_CHECK(view.bytes() == 0 || std::memcmp(again.data(), view.data(), view.bytes()) == 0, "{}",
             name);
  }
}

std::string file_of(std::string_view header, std::string_view data) {
  const uint64_t size = header.size();
  std::string bytes(reinterpret_cast<const char*>(&size), sizeof size);
  return bytes.append(header).append(data);
}

std::vector<std::string> seeds() {
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const std::vector<uint8_t> flags = {1, 0, 1};
  const std::string several = written(".safetensors", [&](const fs::path& path) {
    write_safetensors(path,
                      {{"matrix", ConstTensorView(values.data(), Shape{2, 3})},
                       {"flags", ConstTensorView(flags.data(), Shape{3})},
                       {"scalar", ConstTensorView(values.data(), Shape{})},
                       {"none \"\\ü", ConstTensorView(values.data(), Shape{0, 4})}},
                      {{"config", R"({"dim":8})"}, {"empty", ""}});
  });
  return {several,
          written(".safetensors", [](const fs::path& path) { write_safetensors(path, {}, {}); }),
          // At an offset that does not suit the dtype; several dtypes; spaces behind the header.
          file_of(R"({"b":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},)"
                  R"("i":{"dtype":"I16","shape":[2],"data_offsets":[1,5]},)"
                  R"("h":{"dtype":"F16","shape":[1,2],"data_offsets":[5,9]},)"
                  R"("d":{"dtype":"F64","shape":[],"data_offsets":[9,17]}}  )",
                  std::string(17, '\1'))};
}

}  // namespace

const FuzzTarget kSafetensors = {"safetensors", ErrorKind::kInputData, read, seeds};

}  // namespace stemfabric::fuzz
