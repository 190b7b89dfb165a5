// The sanitised record: one line of JSON per snapshot (docs/snapshots.md, "The sanitised record").
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/snapshot/schema.h"

namespace stemfabric {

// Appends the record and a line feed. Numbers are written in the shortest form that reads back to
// the same float32 (features, stems) or double (the rest).
void append_record(const SnapshotRecord& record, std::string& out);

// Reads sanitised records; keeps its memory from one to the next. Not thread-safe.
class RecordReader {
 public:
  RecordReader();
  ~RecordReader();
  RecordReader(const RecordReader&) = delete;
  RecordReader& operator=(const RecordReader&) = delete;

  // `line` is followed by kJsonPadding readable bytes. An InputError "<where>: <field> …" if it is
  // no sanitised record; `where` names file and line.
  void read(std::string_view line, const std::string& where, SnapshotRecord& record);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stemfabric
