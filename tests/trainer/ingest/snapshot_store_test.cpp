#include "trainer/ingest/snapshot_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <fmt/core.h>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "tests/support/paths.h"
#include "tests/support/wait_until.h"
#include "trainer/ingest/log_checkpointer.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string id(int number) { return fmt::format("00000000-0000-4000-8000-{:012x}", number); }
StoredSnapshot snapshot(int number, std::size_t size = 100) {
  return {.received = 1000 * number,
          .id = id(number),
          .repairs = number % 2 == 0 ? "" : "id: made lower-case",
          .record = fmt::format("<{}>", number) + std::string(size, 'r')};
}
std::vector<StoredSnapshot> snapshots(int first, int last, std::size_t size = 100) {
  std::vector<StoredSnapshot> all;
  for (int i = first; i <= last; ++i) {
    all.push_back(snapshot(i, size));
  }
  return all;
}

class SnapshotStoreTest : public testing::Test {
 protected:
  fs::path path() const { return dir_ / "store.db"; }
  std::string message(StoreAccess access) const {
    try {
      const SnapshotStore store(path(), access);
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  }
  test::TempDir dir_;
};

TEST_F(SnapshotStoreTest, EachIdOnceAndInOrder) {
  {
    SnapshotStore store(path(), StoreAccess::kWrite);
    EXPECT_EQ(store.count(), 0);
    EXPECT_THAT(store.insert(snapshots(1, 3)), ElementsAre(true, true, true));
    const std::vector<StoredSnapshot> mixed = {snapshot(3), snapshot(4), snapshot(4), snapshot(1)};
    EXPECT_THAT(store.insert(mixed), ElementsAre(false, true, false, false));
    EXPECT_EQ(store.count(), 4);
  }
  SnapshotStore store(path(), StoreAccess::kRead);
  EXPECT_EQ(store.count(), 4);
  const auto all = store.read_after(0, 1 << 20);
  ASSERT_EQ(all.size(), 4U);
  for (int i = 0; i < 4; ++i) {
    const StoredSnapshot& one = all[static_cast<std::size_t>(i)];
    const StoredSnapshot expected = snapshot(i + 1);
    EXPECT_EQ(one.id, expected.id);
    EXPECT_EQ(one.received, expected.received);
    EXPECT_EQ(one.repairs, expected.repairs);
    EXPECT_EQ(one.record, expected.record);
    EXPECT_GT(one.sequence, i == 0 ? 0 : all[static_cast<std::size_t>(i) - 1].sequence);
  }
}

TEST_F(SnapshotStoreTest, IsReadInBlocksWhileItGrows) {
  SnapshotStore writer(path(), StoreAccess::kWrite);
  writer.insert(snapshots(1, 10));
  SnapshotStore reader(path(), StoreAccess::kRead);
  std::vector<std::string> ids;
  int64_t sequence = 0;
  for (int next = 11;; ++next) {
    const auto block = reader.read_after(sequence, 250);  // three of 103 bytes
    if (block.empty()) {
      break;
    }
    EXPECT_LE(block.size(), 3U);
    for (const StoredSnapshot& one : block) {
      ids.push_back(one.id);
    }
    sequence = block.back().sequence;
    if (next < 14) {
      writer.insert(snapshots(next, next));
    }
  }
  ASSERT_EQ(ids.size(), 13U);
  for (int i = 0; i < 13; ++i) {
    EXPECT_EQ(ids[static_cast<std::size_t>(i)], id(i + 1));
  }
  EXPECT_EQ(reader.count(), 13);  // what another connection added
}

TEST_F(SnapshotStoreTest, PurgesByAgeAndIdAndLeavesNoTrace) {
  SnapshotStore store(path(), StoreAccess::kWrite);
  store.insert(snapshots(1, 20, 30000));
  EXPECT_EQ(store.count(), 20);
  EXPECT_EQ(store.purge_received_before(10 * 1000, 4), 4);
  EXPECT_EQ(store.count(), 16);
  EXPECT_EQ(store.purge_received_before(10 * 1000, 100), 5);
  EXPECT_EQ(store.purge_received_before(10 * 1000, 100), 0);
  EXPECT_EQ(store.count(), 11);
  EXPECT_TRUE(store.purge_id("00000000-0000-4000-8000-00000000000F"));
  EXPECT_FALSE(store.purge_id(id(15)));
  EXPECT_FALSE(store.purge_id(id(99)));
  EXPECT_EQ(store.count(), 10);
  EXPECT_TRUE(store.truncate_log());
  std::string bytes;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir_.path())) {
    bytes += read_text_file(entry.path());
  }
  for (int i = 1; i <= 20; ++i) {
    EXPECT_EQ(bytes.find(fmt::format("<{}>", i)) == std::string::npos, i < 10 || i == 15) << i;
  }
  // A number is never given twice, so that readers who remember one miss nothing.
  EXPECT_TRUE(store.purge_id(id(20)));
  store.insert(snapshots(20, 20));
  EXPECT_EQ(store.read_after(0, 1 << 20).back().sequence, 21);
}

TEST_F(SnapshotStoreTest, RefusesOtherFiles) {
  write_text_file(path(), "no database at all, but a text that is long enough to look at");
  EXPECT_THAT(message(StoreAccess::kRead), HasSubstr("no intact snapshot store"));
  EXPECT_THAT(message(StoreAccess::kWrite), HasSubstr("no intact snapshot store"));
  fs::remove(path());
  EXPECT_THAT(message(StoreAccess::kRead), HasSubstr("unable to open"));

  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open(path().c_str(), &other), SQLITE_OK);
  sqlite3_exec(other, "CREATE TABLE songs(a); INSERT INTO songs VALUES(1)", nullptr, nullptr,
               nullptr);
  EXPECT_THAT(message(StoreAccess::kRead), HasSubstr("another program"));
  EXPECT_THAT(message(StoreAccess::kWrite), HasSubstr("another program"));
  sqlite3_exec(other, "PRAGMA application_id = 0x53464e50; PRAGMA user_version = 2", nullptr,
               nullptr, nullptr);
  EXPECT_THAT(message(StoreAccess::kWrite), HasSubstr("format 2; this program knows format 1"));
  sqlite3_close(other);
}

TEST_F(SnapshotStoreTest, CheckpointerMovesTheLogBesideTheWriter) {
  SnapshotStore store(path(), StoreAccess::kWrite);
  const LogCheckpointer checkpointer(path());
  store.insert(snapshots(1, 5));
  ASSERT_TRUE(
      test::wait_until([this] { return read_text_file(path()).find("<5>") != std::string::npos; }));
  store.insert(snapshots(6, 7));
  EXPECT_EQ(store.count(), 7);
}

TEST_F(SnapshotStoreTest, LogIsClearedWhenNobodyReads) {
  SnapshotStore store(path(), StoreAccess::kWrite);
  store.insert(snapshots(1, 5));
  sqlite3* reader = nullptr;
  ASSERT_EQ(sqlite3_open(path().c_str(), &reader), SQLITE_OK);
  ASSERT_EQ(
      sqlite3_exec(reader, "BEGIN; SELECT count(*) FROM snapshots", nullptr, nullptr, nullptr),
      SQLITE_OK);
  EXPECT_TRUE(store.purge_id(id(5)));
  EXPECT_FALSE(store.truncate_log());
  EXPECT_THAT(store.insert(snapshots(6, 6)), ElementsAre(true));
  sqlite3_close(reader);
  EXPECT_TRUE(store.truncate_log());
  EXPECT_EQ(fs::file_size(path().string() + "-wal"), 0U);
}

// The backup that the documentation recommends.
TEST_F(SnapshotStoreTest, VacuumIntoCopiesAStoreInUse) {
  SnapshotStore store(path(), StoreAccess::kWrite);
  store.insert(snapshots(1, 5));
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open(path().c_str(), &other), SQLITE_OK);
  const fs::path copy = dir_ / "copy.db";
  const std::string vacuum = fmt::format("VACUUM INTO '{}'", copy.string());
  EXPECT_EQ(sqlite3_exec(other, vacuum.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(other);
  store.insert(snapshots(6, 6));
  SnapshotStore copied(copy, StoreAccess::kWrite);
  EXPECT_EQ(copied.count(), 5);
  EXPECT_THAT(copied.insert(snapshots(5, 6)), ElementsAre(false, true));
}

// What a crash leaves: the database and a log whose end was being written.
TEST_F(SnapshotStoreTest, TornLogLosesNothingThatWasCommitted) {
  SnapshotStore store(path(), StoreAccess::kWrite);
  store.insert(snapshots(1, 5));
  const std::string before = read_text_file(path());
  const std::string log = read_text_file(path().string() + "-wal");
  store.insert(snapshots(6, 8, 20000));
  const std::string longer = read_text_file(path().string() + "-wal");
  ASSERT_GT(longer.size(), log.size());
  // The second transaction cut at several places, or followed by garbage.
  for (std::size_t size = log.size(); size < longer.size(); size += 5000) {
    const fs::path copy = dir_ / fmt::format("copy{}.db", size);
    test::put_file(copy, before);
    test::put_file(copy.string() + "-wal", longer.substr(0, size) + std::string(3000, '\x5a'));
    SnapshotStore torn(copy, StoreAccess::kWrite);
    EXPECT_EQ(torn.count(), 5);
    EXPECT_THAT(torn.insert(snapshots(5, 6)), ElementsAre(false, true));
  }
}

TEST_F(SnapshotStoreTest, DamagedPagesAreAnError) {
  {
    SnapshotStore store(path(), StoreAccess::kWrite);
    store.insert(snapshots(1, 50, 20000));
  }
  std::string bytes = read_text_file(path());
  for (std::size_t at = 8192; at < bytes.size(); at += 4096) {
    bytes.replace(at, 64, std::string(64, '\xff'));
  }
  test::put_file(path(), bytes);
  EXPECT_THROW(
      {
        SnapshotStore store(path(), StoreAccess::kRead);
        store.read_after(0, 1 << 30);
      },
      InputError);
}

}  // namespace
}  // namespace stemfabric
