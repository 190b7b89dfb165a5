#include "runtime/io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <utility>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

using json = nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 16ULL << 20;
constexpr std::size_t kMaxTensors = 65536;
constexpr std::size_t kMaxNameBytes = 1024;
constexpr const char* kMetadataKey = "__metadata__";

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& what) {
  throw InputError("{}: {}", path.string(), what);
}

// Names from a file go into messages shortened and without control characters.
std::string quote_name(const std::string& name) {
  std::string text;
  for (const char c : name.substr(0, 80)) {
    text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return "'" + text + (name.size() > 80 ? "…'" : "'");
}

std::optional<DType> dtype_of(const std::string& name) {
  static const std::map<std::string, DType> kTypes = {
      {"F32", DType::kF32}, {"F64", DType::kF64}, {"BF16", DType::kBF16}, {"F16", DType::kF16},
      {"I32", DType::kI32}, {"I64", DType::kI64}, {"U32", DType::kU32},   {"U64", DType::kU64},
      {"U8", DType::kU8},   {"BOOL", DType::kU8}, {"I16", DType::kI16}};
  const auto it = kTypes.find(name);
  return it == kTypes.end() ? std::nullopt : std::optional(it->second);
}

const char* type_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF64:
      return "F64";
    case DType::kBF16:
      return "BF16";
    case DType::kF16:
      return "F16";
    case DType::kI32:
      return "I32";
    case DType::kI64:
      return "I64";
    case DType::kU32:
      return "U32";
    case DType::kU64:
      return "U64";
    case DType::kU8:
      return "U8";
    case DType::kI16:
      return "I16";
  }
  throw InternalError("unknown dtype");
}

struct Entry {
  std::string dtype;
  std::vector<uint64_t> shape;
  std::vector<uint64_t> offsets;
  bool has_dtype = false;
  bool has_shape = false;
  bool has_offsets = false;
};

// Takes the header event by event, so that no document of unknown depth or size is built, and
// duplicates (which a document would hide) are seen. Depth never exceeds three.
class HeaderHandler final : public nlohmann::json_sax<json> {
 public:
  explicit HeaderHandler(const std::filesystem::path& path) : path_(path) {}

  std::vector<std::pair<std::string, Entry>> entries;
  std::map<std::string, std::string> metadata;

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    unexpected("a number that is not an integer below 2^64");
  }
  bool binary(binary_t&) override { unexpected("binary data"); }
  bool number_unsigned(number_unsigned_t value) override {
    if (!list_) {
      unexpected("a number");
    }
    if (list_->size() >= 8) {
      refuse(path_, fmt::format("{}: {} has more than 8 numbers", where(), field_));
    }
    list_->push_back(value);
    return true;
  }
  bool string(string_t& value) override {
    if (depth_ == 2 && in_metadata_) {
      if (!metadata.emplace(field_, value).second) {
        refuse(path_, fmt::format("the metadata name {} twice", quote_name(field_)));
      }
      return true;
    }
    if (depth_ != 2 || field_ != "dtype") {
      unexpected("a string");
    }
    entries.back().second.dtype = value;
    return true;
  }
  bool start_object(std::size_t) override {
    if (depth_ > 1 || list_) {
      unexpected("an object");
    }
    ++depth_;
    return true;
  }
  bool end_object() override {
    if (--depth_ == 1 && !in_metadata_) {
      const Entry& entry = entries.back().second;
      if (!entry.has_dtype || !entry.has_shape || !entry.has_offsets) {
        refuse(path_, fmt::format("{} lacks dtype, shape or data_offsets", where()));
      }
    }
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ != 2 || in_metadata_ || list_ || (field_ != "shape" && field_ != "data_offsets")) {
      unexpected("a list");
    }
    Entry& entry = entries.back().second;
    list_ = field_ == "shape" ? &entry.shape : &entry.offsets;
    return true;
  }
  bool end_array() override {
    list_ = nullptr;
    return true;
  }
  bool key(string_t& name) override { return depth_ == 1 ? top_key(name) : field_key(name); }
  bool parse_error(std::size_t position, const std::string&, const json::exception&) override {
    refuse(path_, fmt::format("the header is not valid JSON in UTF-8 (at byte {})", position + 8));
  }

 private:
  std::string where() const {
    return depth_ == 0    ? "the header"
           : in_metadata_ ? "the metadata"
                          : "tensor " + quote_name(name_);
  }
  [[noreturn]] void unexpected(const char* what) const {
    refuse(path_, fmt::format("{} holds {} where the format has none", where(), what));
  }
  bool top_key(string_t& name) {
    in_metadata_ = name == kMetadataKey;
    if (name.empty() || name.size() > kMaxNameBytes) {
      refuse(path_, fmt::format("a tensor name has {} bytes; 1 to {} are accepted", name.size(),
                                kMaxNameBytes));
    }
    if (in_metadata_) {
      if (std::exchange(seen_metadata_, true)) {
        refuse(path_, "has __metadata__ twice");
      }
    } else {
      if (entries.size() >= kMaxTensors) {
        refuse(path_, fmt::format("has more than {} tensors", kMaxTensors));
      }
      entries.emplace_back(name, Entry{});
    }
    name_ = name;
    return true;
  }
  bool field_key(string_t& name) {
    field_ = name;
    if (in_metadata_) {
      return true;
    }
    Entry& entry = entries.back().second;
    bool* seen = name == "dtype"          ? &entry.has_dtype
                 : name == "shape"        ? &entry.has_shape
                 : name == "data_offsets" ? &entry.has_offsets
                                          : nullptr;
    if (seen == nullptr || *seen) {
      refuse(path_, fmt::format("{} has the {} field {}", where(),
                                seen == nullptr ? "unknown" : "repeated", quote_name(name)));
    }
    *seen = true;
    return true;
  }

  const std::filesystem::path& path_;
  int depth_ = 0;
  bool in_metadata_ = false;
  bool seen_metadata_ = false;
  std::string name_;   // current tensor
  std::string field_;  // current key inside it, or inside the metadata
  std::vector<uint64_t>* list_ = nullptr;
};

// Finds the JSON text after its length, all within the file.
std::string_view header_text(const MappedFile& file) {
  const auto bytes = file.bytes();
  if (bytes.size() < 8) {
    refuse(file.path(), "is not a safetensors file: it has fewer than 8 bytes");
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  if (length > kMaxHeaderBytes) {
    refuse(file.path(), fmt::format("is not a safetensors file, or its header is too large: {} "
                                    "bytes announced, at most {} accepted",
                                    length, kMaxHeaderBytes));
  }
  if (length > bytes.size() - 8) {
    refuse(file.path(),
           fmt::format("is truncated: its header has {} bytes, the file {}", length, bytes.size()));
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8,
                              static_cast<std::size_t>(length));
  if (text.empty() || text.front() != '{') {
    refuse(file.path(), "is not a safetensors file: its header does not begin with {");
  }
  // The JSON parser takes NUL for the end of its input.
  if (text.find('\0') != std::string_view::npos) {
    refuse(file.path(), "the header holds a NUL byte");
  }
  return text;
}

struct Placed {
  const std::string* name;
  DType dtype;
  Shape shape;
  uint64_t begin;
  uint64_t end;
};

// Checks one entry in itself: dtype, rank, sizes, offsets inside `data_bytes`.
Placed check_entry(const std::filesystem::path& path, const std::string& name, const Entry& entry,
                   uint64_t data_bytes) {
  const auto dtype = dtype_of(entry.dtype);
  if (!dtype) {
    refuse(path, fmt::format("tensor {} has dtype {}, which is not supported", quote_name(name),
                             quote_name(entry.dtype)));
  }
  if (entry.shape.size() > Shape::kMaxRank) {
    refuse(path, fmt::format("tensor {} has {} dimensions; at most {} are supported",
                             quote_name(name), entry.shape.size(), Shape::kMaxRank));
  }
  // Zeros must not hide sizes whose strides overflow, so they count as one here.
  int64_t bytes = static_cast<int64_t>(dtype_size(*dtype));
  bool empty = false;
  std::vector<int64_t> dims;
  for (const uint64_t size : entry.shape) {
    if (size > static_cast<uint64_t>(INT64_MAX) ||
        __builtin_mul_overflow(bytes, std::max<int64_t>(static_cast<int64_t>(size), 1), &bytes)) {
      refuse(path,
             fmt::format("tensor {} has a shape whose size overflows 64 bits", quote_name(name)));
    }
    empty = empty || size == 0;
    dims.push_back(static_cast<int64_t>(size));
  }
  const Shape shape(dims);
  const uint64_t want = empty ? 0 : static_cast<uint64_t>(bytes);
  if (entry.offsets.size() != 2 || entry.offsets[1] < entry.offsets[0]) {
    refuse(path,
           fmt::format("tensor {} has data_offsets that are not [begin, end]", quote_name(name)));
  }
  const uint64_t begin = entry.offsets[0];
  const uint64_t end = entry.offsets[1];
  if (end - begin != want) {
    refuse(path, fmt::format("tensor {} has shape {} of {}, that is {} bytes, but its data_offsets "
                             "span {}",
                             quote_name(name), shape.to_string(), entry.dtype, want, end - begin));
  }
  if (end > data_bytes) {
    refuse(path, fmt::format("tensor {} ends at byte {} of the data, but there are only {}: the "
                             "file is truncated or damaged",
                             quote_name(name), end, data_bytes));
  }
  return {&name, *dtype, shape, begin, end};
}

// Together the tensors cover the data exactly once.
void check_cover(const std::filesystem::path& path, std::vector<Placed>& placed,
                 uint64_t data_bytes) {
  std::ranges::sort(placed, [](const Placed& a, const Placed& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t at = 0;
  for (const Placed& tensor : placed) {
    if (tensor.begin != at) {
      refuse(path, fmt::format("tensor {} begins at byte {} of the data, but the tensor before it "
                               "ends at {}: {}",
                               quote_name(*tensor.name), tensor.begin, at,
                               tensor.begin > at ? "there is a hole" : "they overlap"));
    }
    at = tensor.end;
  }
  if (at != data_bytes) {
    refuse(path, fmt::format("has {} bytes after its last tensor", data_bytes - at));
  }
  std::ranges::sort(placed, {}, [](const Placed& tensor) { return *tensor.name; });
  const auto twice =
      std::ranges::adjacent_find(placed, {}, [](const Placed& tensor) { return *tensor.name; });
  if (twice != placed.end()) {
    refuse(path, fmt::format("has tensor {} twice", quote_name(*twice->name)));
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const std::string_view text = header_text(file_);
  HeaderHandler handler(path);
  json::sax_parse(text.begin(), text.end(), &handler);
  const auto data = file_.bytes().subspan(8 + text.size());
  std::vector<Placed> placed;
  for (const auto& [name, entry] : handler.entries) {
    placed.push_back(check_entry(path, name, entry, data.size()));
  }
  check_cover(path, placed, data.size());
  for (const Placed& tensor : placed) {
    const std::byte* at = data.data() + tensor.begin;
    const std::size_t bytes = static_cast<std::size_t>(tensor.end - tensor.begin);
    if (reinterpret_cast<std::uintptr_t>(at) % dtype_size(tensor.dtype) != 0) {
      realigned_.emplace_back(host_resource(), bytes, "realigned tensor of a safetensors file");
      if (bytes > 0) {
        std::memcpy(realigned_.back().data(), at, bytes);
      }
      at = static_cast<const std::byte*>(realigned_.back().data());
    }
    tensors_.emplace(*tensor.name, ConstTensorView(at, tensor.dtype, tensor.shape));
  }
  metadata_ = std::move(handler.metadata);
}

const ConstTensorView& SafetensorsFile::at(const std::string& name) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) {
    refuse(path(), fmt::format("has no tensor {}", quote_name(name)));
  }
  return it->second;
}

namespace {

// Writes and hashes the same bytes.
struct HashedFile {
  AtomicFile file;
  Sha256 hash;
  void write(std::string_view bytes) {
    file.write(bytes);
    hash.update(bytes);
  }
};

// The elements of a view in row-major order, in runs as long as its strides allow.
void write_elements(HashedFile& out, const ConstTensorView& view) {
  const std::size_t item = dtype_size(view.dtype());
  int axis = view.rank();
  int64_t run = 1;
  while (axis > 0 && (view.stride(axis - 1) == run || view.dim(axis - 1) == 1)) {
    run *= view.dim(--axis);
  }
  const char* base = static_cast<const char*>(view.data());
  const int64_t runs = view.elements() == 0 ? 0 : view.elements() / run;
  for (int64_t r = 0; r < runs; ++r) {
    int64_t offset = 0;
    int64_t rest = r;
    for (int a = axis - 1; a >= 0; --a) {
      offset += rest % view.dim(a) * view.stride(a);
      rest /= view.dim(a);
    }
    out.write({base + offset * static_cast<int64_t>(item), static_cast<std::size_t>(run) * item});
  }
}

std::string make_header(const std::vector<const NamedTensor*>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) {
    header[kMetadataKey] = metadata;
  }
  uint64_t at = 0;
  for (const NamedTensor* tensor : tensors) {
    SF_CHECK(tensor->view, "tensor '{}' is absent", tensor->name);
    SF_CHECK(!tensor->name.empty() && tensor->name.size() <= kMaxNameBytes &&
                 tensor->name != kMetadataKey,
             "tensor name '{}'", tensor->name);
    const uint64_t end = at + tensor->view.bytes();
    header[tensor->name] = {{"dtype", type_name(tensor->view.dtype())},
                            {"shape", tensor->view.shape().dims()},
                            {"data_offsets", {at, end}}};
    at = end;
  }
  SF_CHECK(header.size() == tensors.size() + (metadata.empty() ? 0 : 1),
           "two tensors have the same name");
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception& error) {
    throw InternalError("a safetensors header cannot be written: {}", error.what());
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  SF_CHECK(text.size() <= kMaxHeaderBytes, "a safetensors header of {} bytes; at most {} allowed",
           text.size(), kMaxHeaderBytes);
  return text;
}

}  // namespace

std::string write_safetensors(const std::filesystem::path& path,
                              const std::vector<NamedTensor>& tensors,
                              const std::map<std::string, std::string>& metadata) {
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& tensor : tensors) {
    order.push_back(&tensor);
  }
  std::ranges::stable_sort(order, [](const NamedTensor* a, const NamedTensor* b) {
    return dtype_size(a->view.dtype()) > dtype_size(b->view.dtype());
  });
  const std::string header = make_header(order, metadata);
  const uint64_t length = header.size();
  HashedFile out{AtomicFile(path), {}};
  out.write({reinterpret_cast<const char*>(&length), 8});
  out.write(header);
  for (const NamedTensor* tensor : order) {
    write_elements(out, tensor->view);
  }
  out.file.commit();
  return out.hash.hex();
}

}  // namespace stemfabric
