#include "trainer/snapshot/verdict_report.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/core/check.h"
#include "runtime/io/file.h"

namespace stemfabric {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path) {
  throw IoError("{}: the report cannot be written ({})", path.string(), std::strerror(errno));
}

}  // namespace

VerdictReport::VerdictReport(const std::filesystem::path& path) : path_(path) {
  const std::filesystem::path parent = path.has_parent_path() ? path.parent_path() : ".";
  std::string name = (parent / ".report-XXXXXX").string();
  const int descriptor = ::mkstemp(name.data());
  if (descriptor < 0) {
    fail(path_);
  }
  ::unlink(name.c_str());  // gone when it is closed, whatever happens
  spool_ = ::fdopen(descriptor, "w+");
  if (spool_ == nullptr) {
    ::close(descriptor);
    fail(path_);
  }
}

VerdictReport::~VerdictReport() { std::fclose(spool_); }

void VerdictReport::add(std::string_view file, int64_t line, Verdict verdict,
                        const std::vector<std::string>& reasons) {
  const nlohmann::ordered_json entry = {
      {"file", file}, {"line", line}, {"verdict", verdict_name(verdict)}, {"reasons", reasons}};
  const std::string text =
      (first_ ? "\n" : ",\n") +
      entry.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);  // names of any bytes
  first_ = false;
  if (std::fwrite(text.data(), 1, text.size(), spool_) != text.size()) {
    fail(path_);
  }
}

void VerdictReport::commit(const std::array<int64_t, kVerdictCount>& counts) {
  nlohmann::ordered_json numbers;
  for (int i = 0; i < kVerdictCount; ++i) {
    numbers[std::string(verdict_name(static_cast<Verdict>(i)))] =
        counts[static_cast<std::size_t>(i)];
  }
  AtomicFile file(path_);
  file.write("{\"counts\":" + numbers.dump() + ",\"files\":[");
  if (std::fflush(spool_) != 0) {
    fail(path_);
  }
  std::rewind(spool_);
  std::string chunk(1 << 16, '\0');
  while (const std::size_t got = std::fread(chunk.data(), 1, chunk.size(), spool_)) {
    file.write(std::string_view(chunk.data(), got));
  }
  if (std::ferror(spool_) != 0) {
    fail(path_);
  }
  file.write("\n]}\n");
  file.commit();
}

}  // namespace stemfabric
