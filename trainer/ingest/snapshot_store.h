// The collector's store: one SQLite database of validated snapshots, each id once
// (docs/ingest.md, "What is stored"). Write-ahead log, synchronous = FULL: what insert() returned
// from is on the disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace stemfabric {

struct StoredSnapshot {
  int64_t sequence = 0;  // in order of arrival, from 1, never given twice; set by the store
  int64_t received = 0;  // ms since 1970 by the collector's clock
  std::string id;        // UUID, lower case
  std::string repairs;   // what validation repaired, one per line; holds no text of the snapshot
  std::string record;    // sanitised record as one line of JSON, its id still the UUID
};

// Whether the file begins like an SQLite database.
bool is_sqlite_file(const std::filesystem::path& path);

enum class StoreAccess : uint8_t { kWrite, kRead };

// One connection, for one thread at a time. Several connections and processes may use a store at
// once. InputError if the file is no snapshot store; IoError, with SQLite's reason, if the system
// fails (a full disk, say): the call then changed nothing and may be repeated.
class SnapshotStore {
 public:
  // kWrite makes the file if it is not there; its folder must exist.
  SnapshotStore(const std::filesystem::path& path, StoreAccess access);
  ~SnapshotStore();
  SnapshotStore(const SnapshotStore&) = delete;
  SnapshotStore& operator=(const SnapshotStore&) = delete;

  // Stores all of them in one transaction; those whose id is already there are left out. fresh[i]:
  // whether snapshots[i] is new.
  std::vector<bool> insert(std::span<const StoredSnapshot> snapshots);

  // An IoError unless a transaction can be written; this one changes nothing.
  void probe();

  // Snapshots in the store, those of other connections included.
  int64_t count();

  // The next ones behind `sequence`, in order: as many as fit in `bytes`, at least one. Empty at
  // the end. Holds no lock between two calls.
  std::vector<StoredSnapshot> read_after(int64_t sequence, std::size_t bytes);

  // Removes at most `limit` snapshots that were received before this time (ms since 1970), oldest
  // first; returns how many.
  int64_t purge_received_before(int64_t time, int64_t limit);
  // Whether there was one. The id as the Studio wrote it: upper case counts as lower.
  bool purge_id(std::string_view id);
  // Moves what is in the write-ahead log into the main file, as far as nobody reads there.
  void checkpoint();
  // After a purge: removes what is left of purged snapshots in the write-ahead log. False if
  // another connection is working there, which is not waited for: try again.
  bool truncate_log();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace stemfabric
