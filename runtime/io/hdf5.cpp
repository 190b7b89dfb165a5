#include "runtime/io/hdf5.h"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>

#include "runtime/core/check.h"
#include "runtime/io/file.h"

namespace stemfabric {
namespace {

static_assert(sizeof(hid_t) == sizeof(int64_t));

constexpr uint64_t kMaxFileBytes = 4ULL << 30;
constexpr hssize_t kMaxStrings = 65536;

// The library prints its error stack unless told not to.
void silence_library() {
  static std::once_flag once;
  std::call_once(once, [] { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); });
}

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& what) {
  H5Eclear2(H5E_DEFAULT);
  throw InputError("{}: {}", path.string(), what);
}

// An identifier with the function that releases it.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  ~Handle() {
    if (id_ >= 0) {
      close_(id_);
    }
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  hid_t get() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

// Writing happens in memory: whatever fails is lack of memory or our mistake.
void must(bool done, const std::filesystem::path& path, const std::string& what) {
  if (!done) {
    H5Eclear2(H5E_DEFAULT);
    throw IoError(
        "cannot write {}: the HDF5 library refused its {}, for lack of memory or because "
        "it is too large for that format",
        path.string(), what);
  }
}

hid_t create_in_memory() {
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  if (!access || H5Pset_fapl_core(access.get(), 1 << 20, 0) < 0 ||
      H5Pset_libver_bounds(access.get(), H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST) < 0) {
    return -1;
  }
  // Nothing goes to disk under this name, but two open files may not have the same one.
  static std::atomic<uint64_t> counter{0};
  const std::string name = fmt::format("stemfabric-in-memory-{}.h5", counter.fetch_add(1));
  return H5Fcreate(name.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get());
}

// A fixed-length string type, padded with NUL.
hid_t string_type(std::size_t size) {
  const hid_t type = H5Tcopy(H5T_C_S1);
  if (type >= 0 && (H5Tset_size(type, std::max<std::size_t>(size, 1)) < 0 ||
                    H5Tset_strpad(type, H5T_STR_NULLPAD) < 0)) {
    H5Tclose(type);
    return -1;
  }
  return type;
}

void write_strings(hid_t file, const std::filesystem::path& path, const std::string& object,
                   const std::string& name, hid_t space_id,
                   const std::vector<std::string_view>& values) {
  std::size_t width = 1;
  for (const std::string_view value : values) {
    width = std::max(width, value.size());
  }
  if (width * values.size() > Hdf5Writer::kMaxAttributeBytes) {
    H5Sclose(space_id);
    throw InputError("{}: the attribute '{}' of '{}' would need {} bytes; HDF5 holds at most {}",
                     path.string(), name, object, width * values.size(),
                     Hdf5Writer::kMaxAttributeBytes);
  }
  std::string bytes;
  for (const std::string_view value : values) {
    bytes += value;
    bytes.append(width - value.size(), '\0');
  }
  const Handle space(space_id, H5Sclose);
  const Handle type(string_type(width), H5Tclose);
  must(space && type, path, "attribute " + name);
  const Handle attribute(H5Acreate_by_name(file, object.c_str(), name.c_str(), type.get(),
                                           space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT),
                         H5Aclose);
  must(attribute && H5Awrite(attribute.get(), type.get(), bytes.c_str()) >= 0, path,
       "attribute " + name + " of " + object);
}

// Links are made with the groups on their way.
hid_t link_property() {
  const hid_t property = H5Pcreate(H5P_LINK_CREATE);
  if (property >= 0) {
    H5Pset_create_intermediate_group(property, 1);
  }
  return property;
}

}  // namespace

Hdf5Writer::Hdf5Writer(const std::filesystem::path& path) : path_(path) {
  silence_library();
  file_ = create_in_memory();
  must(file_ >= 0, path_, "HDF5 file in memory");
}

Hdf5Writer::~Hdf5Writer() {
  if (file_ >= 0) {
    H5Fclose(file_);
  }
}

void Hdf5Writer::create_group(const std::string& group) {
  const Handle link(link_property(), H5Pclose);
  const Handle made(H5Gcreate2(file_, group.c_str(), link.get(), H5P_DEFAULT, H5P_DEFAULT),
                    H5Gclose);
  must(link && made, path_, "group " + group);
}

void Hdf5Writer::write_dataset(const std::string& name, const ConstTensorView& tensor) {
  SF_CHECK(tensor && tensor.dtype() == DType::kF32 && tensor.contiguous(),
           "HDF5 data set {} needs a contiguous f32 tensor", name);
  std::array<hsize_t, Shape::kMaxRank> dims{};
  std::ranges::copy(tensor.shape().dims(), dims.begin());
  const Handle space(tensor.rank() == 0 ? H5Screate(H5S_SCALAR)
                                        : H5Screate_simple(tensor.rank(), dims.data(), nullptr),
                     H5Sclose);
  const Handle link(link_property(), H5Pclose);
  const Handle create(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  must(space && link && create && H5Pset_obj_track_times(create.get(), false) >= 0, path_,
       "data set " + name);
  const Handle data(H5Dcreate2(file_, name.c_str(), H5T_IEEE_F32LE, space.get(), link.get(),
                               create.get(), H5P_DEFAULT),
                    H5Dclose);
  must(data && H5Dwrite(data.get(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                        tensor.data()) >= 0,
       path_, "data set " + name);
}

void Hdf5Writer::set_attribute(const std::string& object, const std::string& name,
                               std::string_view value) {
  write_strings(file_, path_, object, name, H5Screate(H5S_SCALAR), {value});
}

void Hdf5Writer::set_attribute(const std::string& object, const std::string& name,
                               const std::vector<std::string>& values) {
  const hsize_t count = values.size();
  write_strings(file_, path_, object, name, H5Screate_simple(1, &count, nullptr),
                {values.begin(), values.end()});
}

std::string Hdf5Writer::commit() {
  must(H5Fflush(file_, H5F_SCOPE_GLOBAL) >= 0, path_, "HDF5 file");
  const ssize_t size = H5Fget_file_image(file_, nullptr, 0);
  must(size > 0, path_, "size of the HDF5 file");
  std::string image(static_cast<std::size_t>(size), '\0');
  must(H5Fget_file_image(file_, image.data(), image.size()) == size, path_, "HDF5 file");
  H5Fclose(file_);
  file_ = -1;
  write_text_file(path_, image);
  return sha256_hex(image);
}

// ---- reading

Hdf5File::Hdf5File(const std::filesystem::path& path) : path_(path) {
  silence_library();
  const MappedFile exists(path);  // an IoError with the system's reason if it cannot be read
  if (exists.bytes().size() > kMaxFileBytes) {
    refuse(path_, fmt::format("has {} bytes; at most {} are accepted", exists.bytes().size(),
                              kMaxFileBytes));
  }
  file_ = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  if (file_ < 0) {
    refuse(path_, "is not an HDF5 file, or is damaged");
  }
}

Hdf5File::~Hdf5File() {
  if (file_ >= 0) {
    H5Fclose(file_);
  }
}

std::vector<std::string> Hdf5File::children(const std::string& name) const {
  const Handle group(H5Gopen2(file_, name.c_str(), H5P_DEFAULT), H5Gclose);
  H5G_info_t info{};
  if (!group || H5Gget_info(group.get(), &info) < 0) {
    refuse(path_, fmt::format("has no group '{}'", name));
  }
  std::vector<std::string> names;
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    const ssize_t size = H5Lget_name_by_idx(group.get(), ".", H5_INDEX_NAME, H5_ITER_INC, i,
                                            nullptr, 0, H5P_DEFAULT);
    if (size < 0) {
      refuse(path_, fmt::format("the group '{}' is damaged", name));
    }
    std::string child(static_cast<std::size_t>(size), '\0');
    H5Lget_name_by_idx(group.get(), ".", H5_INDEX_NAME, H5_ITER_INC, i, child.data(),
                       child.size() + 1, H5P_DEFAULT);
    names.push_back(child);
  }
  return names;
}

Tensor Hdf5File::read_dataset(const std::string& name) const {
  const Handle data(H5Dopen2(file_, name.c_str(), H5P_DEFAULT), H5Dclose);
  if (!data) {
    refuse(path_, fmt::format("has no data set '{}'", name));
  }
  const Handle type(H5Dget_type(data.get()), H5Tclose);
  if (!type || H5Tequal(type.get(), H5T_IEEE_F32LE) <= 0) {
    refuse(path_, fmt::format("the data set '{}' is not float32, little-endian", name));
  }
  const Handle space(H5Dget_space(data.get()), H5Sclose);
  const int rank = space ? H5Sget_simple_extent_ndims(space.get()) : -1;
  if (rank < 0 || rank > Shape::kMaxRank) {
    refuse(path_, fmt::format("the data set '{}' has no shape of at most {} dimensions", name,
                              Shape::kMaxRank));
  }
  std::array<hsize_t, Shape::kMaxRank> dims{};
  H5Sget_simple_extent_dims(space.get(), dims.data(), nullptr);
  std::vector<int64_t> sizes;
  uint64_t bytes = sizeof(float);
  for (int axis = 0; axis < rank; ++axis) {
    const hsize_t size = dims[static_cast<std::size_t>(axis)];
    if (__builtin_mul_overflow(bytes, std::max<uint64_t>(size, 1), &bytes) ||
        bytes > kMaxFileBytes) {
      refuse(path_, fmt::format("the data set '{}' is larger than {} bytes", name, kMaxFileBytes));
    }
    sizes.push_back(static_cast<int64_t>(size));
  }
  // Contiguous data lie in the file as they are: a damaged shape cannot ask for more than that.
  const Handle layout(H5Dget_create_plist(data.get()), H5Pclose);
  if (!layout || H5Pget_layout(layout.get()) != H5D_CONTIGUOUS ||
      H5Pget_external_count(layout.get()) != 0) {
    refuse(path_, fmt::format("the data set '{}' is chunked, compressed or in another file; "
                              "expected plain contiguous data",
                              name));
  }
  const Shape shape{std::span<const int64_t>(sizes)};
  if (shape.elements() > 0 && H5Dget_storage_size(data.get()) != bytes) {
    refuse(path_, fmt::format("the data set '{}' is incomplete", name));
  }
  Tensor tensor(shape, DType::kF32);
  if (H5Dread(data.get(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, tensor.view().data()) <
      0) {
    refuse(path_, fmt::format("the data set '{}' cannot be read: it is damaged", name));
  }
  return tensor;
}

std::string Hdf5File::read_attribute(const std::string& object, const std::string& name) const {
  const auto values = read_attribute_list(object, name);
  if (values.size() != 1) {
    refuse(path_, fmt::format("the attribute '{}' of '{}' holds {} strings; expected one", name,
                              object, values.size()));
  }
  return values.front();
}

std::vector<std::string> Hdf5File::read_attribute_list(const std::string& object,
                                                       const std::string& name) const {
  const Handle attribute(
      H5Aopen_by_name(file_, object.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (!attribute) {
    refuse(path_, fmt::format("has no attribute '{}' of '{}'", name, object));
  }
  const Handle type(H5Aget_type(attribute.get()), H5Tclose);
  const Handle space(H5Aget_space(attribute.get()), H5Sclose);
  if (!type || !space || H5Tget_class(type.get()) != H5T_STRING ||
      H5Tis_variable_str(type.get()) != 0) {
    refuse(path_,
           fmt::format("the attribute '{}' of '{}' is no fixed-length string", name, object));
  }
  const std::size_t width = H5Tget_size(type.get());
  const hssize_t count = H5Sget_simple_extent_npoints(space.get());
  if (width == 0 || width > Hdf5Writer::kMaxAttributeBytes * 2 || count < 0 ||
      count > kMaxStrings) {
    refuse(path_, fmt::format("the attribute '{}' of '{}' is too large", name, object));
  }
  std::string bytes(width * static_cast<std::size_t>(count), '\0');
  if (count > 0 && H5Aread(attribute.get(), type.get(), bytes.data()) < 0) {
    refuse(path_,
           fmt::format("the attribute '{}' of '{}' cannot be read: it is damaged", name, object));
  }
  std::vector<std::string> values;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    const std::string value = bytes.substr(i * width, width);
    values.push_back(value.substr(0, value.find('\0')));
  }
  return values;
}

}  // namespace stemfabric
