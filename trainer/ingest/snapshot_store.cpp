#include "trainer/ingest/snapshot_store.h"

#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>
#include <optional>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

constexpr int kApplicationId = 0x53464e50;  // "SFNP"
constexpr int kSchemaVersion = 1;
constexpr int kBusyMilliseconds = 5000;  // while another process writes
constexpr const char* kPageSize = "PRAGMA page_size = 8192";
// From 64 MiB of log on, a commit moves what the LogCheckpointer has left, so that the log can
// begin anew: under load it never catches up by itself.
constexpr const char* kSettings =
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;"
    "PRAGMA wal_autocheckpoint = 8192;";
// `record` comes last: the other columns then lie in the first page of a row.
constexpr const char* kSchema =
    "CREATE TABLE snapshots("
    "  sequence INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id TEXT NOT NULL UNIQUE,"
    "  received INTEGER NOT NULL,"
    "  repairs TEXT NOT NULL,"
    "  record TEXT NOT NULL);"
    "CREATE INDEX snapshots_received ON snapshots(received);";
constexpr const char* kInsert =
    "INSERT INTO snapshots(id, received, repairs, record) VALUES(?1, ?2, ?3, ?4)"
    " ON CONFLICT(id) DO NOTHING";
constexpr const char* kReadAfter =
    "SELECT sequence, received, id, repairs, record FROM snapshots WHERE sequence > ?1"
    " ORDER BY sequence";
constexpr const char* kPurgeBefore =
    "DELETE FROM snapshots WHERE sequence IN"
    " (SELECT sequence FROM snapshots WHERE received < ?1 ORDER BY received LIMIT ?2)";
constexpr const char* kPurgeId = "DELETE FROM snapshots WHERE id = ?1";

class Database {
 public:
  Database(const fs::path& file, int flags) : path_(file.string()) {
    sqlite3* handle = nullptr;
    const int code = sqlite3_open_v2(path_.c_str(), &handle, flags | SQLITE_OPEN_NOMUTEX, nullptr);
    handle_.reset(handle);
    check(code);
    sqlite3_extended_result_codes(handle, 1);
    sqlite3_busy_timeout(handle, kBusyMilliseconds);
  }

  sqlite3* get() const { return handle_.get(); }
  const std::string& path() const { return path_; }
  void check(int code) const {
    if (code != SQLITE_OK && code != SQLITE_ROW && code != SQLITE_DONE) {
      fail(code);
    }
  }
  void run(const std::string& sql) const {
    check(sqlite3_exec(get(), sql.c_str(), nullptr, nullptr, nullptr));
  }
  int64_t changes() const { return sqlite3_changes64(get()); }

 private:
  [[noreturn]] void fail(int code) const {
    const char* reason = handle_ ? sqlite3_errmsg(get()) : "out of memory";
    const int kind = code & 0xff;
    if (kind == SQLITE_NOTADB || kind == SQLITE_CORRUPT) {
      throw InputError("{}: is no intact snapshot store ({})", path_, reason);
    }
    const bool space = kind == SQLITE_FULL || code == SQLITE_IOERR_WRITE;
    throw IoError("{}: the snapshot store cannot be used ({}){}", path_, reason,
                  space ? "; make room on the disk" : "");
  }

  struct Close {
    void operator()(sqlite3* handle) const { sqlite3_close(handle); }
  };
  std::string path_;
  std::unique_ptr<sqlite3, Close> handle_;
};

// A prepared statement; run it again after reset().
class Statement {
 public:
  Statement(const Database& database, const std::string& sql) : database_(database) {
    database_.check(sqlite3_prepare_v2(database.get(), sql.c_str(), -1, &handle_, nullptr));
  }
  ~Statement() { sqlite3_finalize(handle_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  void bind(int index, int64_t value) const {
    database_.check(sqlite3_bind_int64(handle_, index, value));
  }
  void bind(int index, std::string_view text) const {  // which lives until the next reset()
    database_.check(
        sqlite3_bind_text64(handle_, index, text.data(), text.size(), SQLITE_STATIC, SQLITE_UTF8));
  }
  bool step() const {  // whether there is a row
    const int code = sqlite3_step(handle_);
    database_.check(code);
    return code == SQLITE_ROW;
  }
  void reset() const { sqlite3_reset(handle_); }
  int64_t integer(int column) const { return sqlite3_column_int64(handle_, column); }
  std::string text(int column) const {
    const unsigned char* text = sqlite3_column_text(handle_, column);
    const auto size = static_cast<std::size_t>(sqlite3_column_bytes(handle_, column));
    return text == nullptr ? std::string() : std::string(reinterpret_cast<const char*>(text), size);
  }

 private:
  const Database& database_;
  sqlite3_stmt* handle_ = nullptr;
};

int64_t number(const Database& database, const std::string& sql) {
  const Statement statement(database, sql);
  return statement.step() ? statement.integer(0) : 0;
}

// Rolled back unless it was committed.
class Transaction {
 public:
  explicit Transaction(const Database& database) : database_(database) {
    database_.run("BEGIN IMMEDIATE");
  }
  ~Transaction() {
    if (sqlite3_get_autocommit(database_.get()) == 0) {
      sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    }
  }
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit() const { database_.run("COMMIT"); }

 private:
  const Database& database_;
};

// While it lives, a lock that another connection holds is not waited for.
class NoWaiting {
 public:
  explicit NoWaiting(const Database& database) : database_(database) {
    sqlite3_busy_timeout(database_.get(), 0);
  }
  ~NoWaiting() { sqlite3_busy_timeout(database_.get(), kBusyMilliseconds); }
  NoWaiting(const NoWaiting&) = delete;
  NoWaiting& operator=(const NoWaiting&) = delete;

 private:
  const Database& database_;
};

void require_store(const Database& database) {
  if (number(database, "PRAGMA application_id") != kApplicationId) {
    throw InputError("{}: is a database of another program; give the store of an ingest",
                     database.path());
  }
  const int64_t version = number(database, "PRAGMA user_version");
  if (version != kSchemaVersion) {
    throw InputError("{}: is a snapshot store of format {}; this program knows format {}",
                     database.path(), version, kSchemaVersion);
  }
}

// Makes the tables in an empty database; two processes may do so at the same time.
void open_for_writing(const Database& database) {
  const bool empty = number(database, "PRAGMA page_count") == 0;
  if (!empty) {
    require_store(database);
  } else {
    database.run(kPageSize);
  }
  database.run(kSettings);
  const Transaction transaction(database);
  if (number(database, "SELECT count(*) FROM sqlite_schema") == 0) {
    database.run(kSchema);
    database.run(fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}", kApplicationId,
                             kSchemaVersion));
  }
  transaction.commit();
}

}  // namespace

struct SnapshotStore::State {
  explicit State(Database opened) : database(std::move(opened)) {}
  Database database;
  std::optional<Statement> insert;
  int64_t count = -1;         // -1: to be counted
  int64_t data_version = -1;  // when it was counted

  // Rows that the last statement has deleted.
  int64_t removed() {
    const int64_t rows = database.changes();
    count = count < 0 ? count : count - rows;
    return rows;
  }
};

bool is_sqlite_file(const fs::path& path) {
  constexpr std::string_view kMagic("SQLite format 3\0", 16);
  std::error_code error;
  if (!fs::is_regular_file(path, error)) {
    return false;
  }
  std::array<char, kMagic.size()> begin{};
  std::ifstream file(path, std::ios::binary);
  file.read(begin.data(), begin.size());
  return file && std::string_view(begin.data(), begin.size()) == kMagic;
}

SnapshotStore::SnapshotStore(const fs::path& path, StoreAccess access) {
  const bool write = access == StoreAccess::kWrite;
  state_ = std::make_unique<State>(
      Database(path, write ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY));
  if (write) {
    open_for_writing(state_->database);
  }
  require_store(state_->database);
}

SnapshotStore::~SnapshotStore() = default;

std::vector<bool> SnapshotStore::insert(std::span<const StoredSnapshot> snapshots) {
  State& s = *state_;
  if (!s.insert) {
    s.insert.emplace(s.database, kInsert);
  }
  std::vector<bool> fresh;
  const Transaction transaction(s.database);
  for (const StoredSnapshot& snapshot : snapshots) {
    s.insert->reset();
    s.insert->bind(1, snapshot.id);
    s.insert->bind(2, snapshot.received);
    s.insert->bind(3, snapshot.repairs);
    s.insert->bind(4, snapshot.record);
    s.insert->step();
    fresh.push_back(s.database.changes() > 0);
  }
  s.insert->reset();
  transaction.commit();
  if (s.count >= 0) {
    s.count += std::count(fresh.begin(), fresh.end(), true);
  }
  return fresh;
}

void SnapshotStore::probe() {
  // Written even though it is the same.
  state_->database.run(fmt::format("PRAGMA user_version = {}", kSchemaVersion));
}

int64_t SnapshotStore::count() {
  State& s = *state_;
  // Changes only when another connection has written.
  const int64_t version = number(s.database, "PRAGMA data_version");
  if (s.count < 0 || version != s.data_version) {
    s.count = number(s.database, "SELECT count(*) FROM snapshots");
    s.data_version = version;
  }
  return s.count;
}

std::vector<StoredSnapshot> SnapshotStore::read_after(int64_t sequence, std::size_t bytes) {
  const Statement statement(state_->database, kReadAfter);
  statement.bind(1, sequence);
  std::vector<StoredSnapshot> result;
  for (std::size_t size = 0; size < bytes && statement.step();) {
    result.push_back({statement.integer(0), statement.integer(1), statement.text(2),
                      statement.text(3), statement.text(4)});
    size += result.back().record.size();
  }
  return result;
}

int64_t SnapshotStore::purge_received_before(int64_t time, int64_t limit) {
  const Statement statement(state_->database, kPurgeBefore);
  statement.bind(1, time);
  statement.bind(2, limit);
  statement.step();
  return state_->removed();
}

bool SnapshotStore::purge_id(std::string_view id) {
  std::string lower(id);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const Statement statement(state_->database, kPurgeId);
  statement.bind(1, lower);
  statement.step();
  return state_->removed() > 0;
}

void SnapshotStore::checkpoint() { number(state_->database, "PRAGMA wal_checkpoint(PASSIVE)"); }

bool SnapshotStore::truncate_log() {
  const NoWaiting no_waiting(state_->database);
  return number(state_->database, "PRAGMA wal_checkpoint(TRUNCATE)") == 0;
}

}  // namespace stemfabric
