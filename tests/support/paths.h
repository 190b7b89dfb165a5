// Where tests find their data and put their files.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace stemfabric::test {

// tests/data of the source tree; where that is not, of the package that the program lies in.
std::filesystem::path data_dir();

// A fresh folder, removed with all its contents at the end of the scope.
class TempDir {
 public:
  TempDir();  // in the system's folder for temporary files
  explicit TempDir(const std::filesystem::path& parent);
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// A file with these bytes, not synced to the disk: for tests that write hundreds of small ones.
void put_file(const std::filesystem::path& path, std::string_view bytes);

}  // namespace stemfabric::test
