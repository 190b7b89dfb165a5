// The report of `sanitize --report`: {"counts":{…},"files":[{"file","line","verdict","reasons"}]}.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/snapshot/snapshot_parser.h"

namespace stemfabric {

// Entries go to an unnamed temporary file beside the target, for the counts come first.
class VerdictReport {
 public:
  explicit VerdictReport(const std::filesystem::path& path);
  ~VerdictReport();
  VerdictReport(const VerdictReport&) = delete;
  VerdictReport& operator=(const VerdictReport&) = delete;

  void add(std::string_view file, int64_t line, Verdict verdict,
           const std::vector<std::string>& reasons);
  void commit(const std::array<int64_t, kVerdictCount>& counts);

 private:
  std::filesystem::path path_;
  std::FILE* spool_ = nullptr;
  bool first_ = true;
};

}  // namespace stemfabric
