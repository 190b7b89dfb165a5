// One process at a time in a folder: a lock on the file `.lock` in it, which ends with the process.
#pragma once

#include <filesystem>
#include <string_view>

#include "runtime/io/file_internal.h"

namespace stemfabric {

class FolderLock {
 public:
  // The folder must exist. If another process (or another FolderLock of this one) has it: IoError
  // that names the process. `user` is who takes such a lock ("trainer"), `option` what names
  // another folder.
  FolderLock(const std::filesystem::path& folder, std::string_view user, std::string_view option);
  // Whether somebody has it at this moment.
  static bool held(const std::filesystem::path& folder);

 private:
  io_internal::Descriptor file_;
};

}  // namespace stemfabric
