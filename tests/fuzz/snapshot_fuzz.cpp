#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/io/file.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/paths.h"
#include "trainer/snapshot/input_files.h"
#include "trainer/snapshot/record.h"
#include "trainer/snapshot/snapshot_parser.h"

namespace stemfabric::fuzz {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

PaddedText padded(std::string_view bytes) {
  PaddedText text;
  text.resize(bytes.size());
  std::copy(bytes.begin(), bytes.end(), text.data());
  return text;
}

// The record of one line; written and read again it gives the same line.
void read_back(std::string_view line, const std::string& where) {
  static RecordReader reader;
  SnapshotRecord record;
  reader.read(padded(line).view(), where, record);
  std::string again;
  append_record(record, again);
  SnapshotRecord second;
  reader.read(padded(again).view(), "the record written again", second);
  std::string third;
  append_record(second, third);
  SF_CHECK(third == again, "{} became {}", again, third);
}

// The verdict is the same the second time; a refusal gives one reason, in plain words; what is
// accepted makes a record that is read back.
void read_snapshot(std::string_view bytes) {
  static SnapshotParser parser;
  SnapshotRecord record;
  std::vector<std::string> reasons;
  const PaddedText text = padded(bytes);
  const Verdict verdict = parser.parse(text.view(), record, reasons);
  std::vector<std::string> second_reasons;
  SF_CHECK(parser.parse(text.view(), record, second_reasons) == verdict);
  SF_CHECK(second_reasons == reasons);
  for (const std::string& reason : reasons) {
    SF_CHECK(std::ranges::all_of(reason, [](char c) { return c >= ' ' && c <= '~'; }), "{}",
             reason);
  }
  if (verdict == Verdict::kReject) {
    SF_CHECK(reasons.size() == 1);
    throw InputError("{}: {}", kSource, reasons[0]);
  }
  record.id = sha256_hex(record.id);
  std::string line;
  append_record(record, line);
  read_back(line, "the record of an accepted snapshot");
}

void read_record(std::string_view bytes) { read_back(bytes, std::string(kSource)); }

// The beginning of every list: small enough to be changed everywhere.
void shorten(Json& json) {
  constexpr std::size_t kItems = 6;
  if (json.is_array() && json.size() > kItems) {
    json.erase(json.begin() + kItems, json.end());
  }
  if (json.is_structured()) {
    std::ranges::for_each(json, shorten);
  }
}

std::vector<fs::path> files_of(const char* folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(test::data_dir() / folder)) {
    files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

std::vector<std::string> snapshots() {
  std::vector<std::string> all;
  for (const fs::path& file : files_of("snapshots")) {
    Json json = Json::parse(read_text_file(file));
    shorten(json);
    all.push_back(json.dump());
  }
  return all;
}

std::vector<std::string> snapshot_seeds() {
  std::vector<std::string> all = snapshots();
  for (const fs::path& file : files_of("bad_snapshots")) {
    all.push_back(read_text_file(file));
  }
  return all;
}

std::vector<std::string> record_seeds() {
  std::vector<std::string> all;
  SnapshotParser parser;
  for (const std::string& snapshot : snapshots()) {
    SnapshotRecord record;
    std::vector<std::string> reasons;
    SF_CHECK(parser.parse(padded(snapshot).view(), record, reasons) != Verdict::kReject, "{}",
             reasons[0]);
    record.id = sha256_hex(record.id);
    append_record(record, all.emplace_back());
    all.back().pop_back();  // the line feed
  }
  return all;
}

}  // namespace

const FuzzTarget kSnapshot = {"snapshot", ErrorKind::kInputData, read_snapshot, snapshot_seeds};
const FuzzTarget kRecord = {"record", ErrorKind::kInputData, read_record, record_seeds};

}  // namespace stemfabric::fuzz
