#include "runtime/io/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <fstream>

#include "runtime/core/check.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/paths.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::TempDir;
using testing::AllOf;
using testing::HasSubstr;

template <typename F>
std::string io_error(F&& f) {
  try {
    f();
  } catch (const IoError& error) {
    return error.what();
  }
  return "no IoError";
}

int entries(const fs::path& folder) {
  return static_cast<int>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(File, WritesAndReads) {
  const TempDir dir;
  const std::string text =
      "line\n\0with NUL\xff"
      "end";
  write_text_file(dir / "a.txt", text);
  EXPECT_EQ(read_text_file(dir / "a.txt"), text);
  const MappedFile map(dir / "a.txt");
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(map.bytes().data()), map.bytes().size()),
            text);
  write_text_file(dir / "a.txt", "");
  EXPECT_EQ(read_text_file(dir / "a.txt"), "");
  EXPECT_TRUE(MappedFile(dir / "a.txt").bytes().empty());
  EXPECT_EQ(entries(dir.path()), 1);
}

TEST(File, LargeWritesKeepTheirOrder) {
  const TempDir dir;
  std::string all;
  AtomicFile file(dir / "large");
  for (int i = 0; i < 40; ++i) {
    const std::string part(static_cast<std::size_t>(1) << (i % 20),
                           static_cast<char>('a' + i % 26));
    file.write(part);
    all += part;
  }
  EXPECT_EQ(file.written(), all.size());
  EXPECT_FALSE(fs::exists(dir / "large"));
  file.commit();
  EXPECT_TRUE(read_text_file(dir / "large") == all);
}

TEST(File, WithoutCommitNothingChanges) {
  const TempDir dir;
  write_text_file(dir / "a", "old");
  {
    AtomicFile file(dir / "a");
    file.write("new");
  }
  EXPECT_EQ(read_text_file(dir / "a"), "old");
  EXPECT_EQ(entries(dir.path()), 1);
}

TEST(File, MovedMapsStayValid) {
  const TempDir dir;
  write_text_file(dir / "a", "aaa");
  write_text_file(dir / "b", "bb");
  MappedFile a(dir / "a");
  MappedFile b(std::move(a));
  MappedFile c(dir / "b");
  c = std::move(b);
  EXPECT_EQ(c.bytes().size(), 3U);
  EXPECT_EQ(c.path(), dir / "a");
}

TEST(File, ReadErrorsNamePathAndReason) {
  const TempDir dir;
  EXPECT_THAT(io_error([&] { MappedFile(dir / "missing"); }),
              AllOf(HasSubstr((dir / "missing").string()), HasSubstr("No such file")));
  EXPECT_THAT(io_error([&] { read_text_file(dir / "missing"); }), HasSubstr("No such file"));
  EXPECT_THAT(io_error([&] { sha256_file(dir / "missing"); }), HasSubstr("No such file"));
  EXPECT_THAT(io_error([&] { MappedFile{dir.path()}; }), HasSubstr("it is a folder"));
  EXPECT_THAT(io_error([&] { MappedFile("/dev/zero"); }), HasSubstr("a device"));
  EXPECT_THAT(io_error([&] { read_text_file(dir.path()); }), HasSubstr("Is a directory"));
  write_text_file(dir / "big", std::string(100, 'x'));
  EXPECT_THAT(io_error([&] { read_text_file(dir / "big", 99); }), HasSubstr("at most 99"));
  EXPECT_EQ(read_text_file(dir / "big", 100).size(), 100U);
  EXPECT_THAT(io_error([&] { read_text_file("/dev/zero", 1000); }), HasSubstr("at most 1000"));
}

TEST(File, WriteErrorsNamePathAndReason) {
  const TempDir dir;
  EXPECT_THAT(io_error([&] { write_text_file(dir / "no/such/file", "x"); }),
              AllOf(HasSubstr((dir / "no/such/file").string()), HasSubstr("No such file")));
  write_text_file(dir / "plain", "x");
  EXPECT_THAT(io_error([&] { write_text_file(dir / "plain/below", "x"); }),
              HasSubstr("Not a directory"));
  EXPECT_THAT(io_error([&] { make_directories(dir / "plain/below"); }),
              AllOf(HasSubstr("create folder"), HasSubstr((dir / "plain/below").string())));
  EXPECT_THAT(io_error([&] { make_directories(dir / "plain"); }), HasSubstr("Not a directory"));
  // A folder stands where the file should go: refused by rename, and nothing stays behind.
  fs::create_directory(dir / "folder");
  EXPECT_THAT(io_error([&] { write_text_file(dir / "folder", "x"); }), HasSubstr("folder"));
  EXPECT_EQ(entries(dir.path()), 2);
}

TEST(File, UnwritableFolder) {
  if (::geteuid() == 0) {
    GTEST_SKIP() << "root may write everywhere";
  }
  const TempDir dir;
  write_text_file(dir / "a", "old");
  fs::permissions(dir.path(), fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_THAT(io_error([&] { write_text_file(dir / "a", "new"); }), HasSubstr("Permission denied"));
  fs::permissions(dir.path(), fs::perms::owner_all);
  EXPECT_EQ(read_text_file(dir / "a"), "old");
}

TEST(File, FailedWriteLeavesTheOldFile) {
  const TempDir dir;
  const std::string large(1 << 20, 'x');
  write_text_file(dir / "a", "old");
  {
    const test::FileSizeLimit limit(100 * 1024);
    EXPECT_THAT(io_error([&] { write_text_file(dir / "a", large); }),
                AllOf(HasSubstr((dir / "a").string()), HasSubstr("File too large")));
    EXPECT_THAT(io_error([&] {
                  create_directory_atomically(dir / "d", [&](const fs::path& folder) {
                    write_text_file(folder / "small", "x");
                    write_text_file(folder / "large", large);
                  });
                }),
                HasSubstr("File too large"));
  }
  EXPECT_EQ(read_text_file(dir / "a"), "old");
  EXPECT_EQ(entries(dir.path()), 1);
}

TEST(File, FolderAppearsWholeOrNotAtAll) {
  const TempDir dir;
  create_directory_atomically(dir / "d", [&](const fs::path& folder) {
    EXPECT_FALSE(fs::exists(dir / "d"));
    fs::create_directory(folder / "sub");
    write_text_file(folder / "sub/x", "x");
  });
  EXPECT_EQ(read_text_file(dir / "d/sub/x"), "x");
  EXPECT_THAT(io_error([&] { create_directory_atomically(dir / "d", [](const fs::path&) {}); }),
              HasSubstr("exists already"));
  // Also an empty folder, which a plain rename would replace, when it appears meanwhile.
  EXPECT_THAT(io_error([&] {
                create_directory_atomically(
                    dir / "e", [&](const fs::path&) { fs::create_directory(dir / "e"); });
              }),
              HasSubstr("File exists"));
  EXPECT_THROW(
      create_directory_atomically(dir / "f", [](const fs::path&) { throw InputError("stop"); }),
      InputError);
  EXPECT_EQ(entries(dir.path()), 2);
  create_directory_atomically(fs::path(dir / "g").string() + "/", [](const fs::path&) {});
  EXPECT_TRUE(fs::is_directory(dir / "g"));
}

TEST(File, FoldersAreReplacedWhole) {
  const TempDir dir;
  const auto fill_with = [](const char* text) {
    return [text](const fs::path& folder) { write_text_file(folder / "x", text); };
  };
  replace_directory_atomically(dir / "d", fill_with("old"));
  write_text_file(dir / "d/more", "");
  EXPECT_THROW(replace_directory_atomically(dir / "d",
                                            [&](const fs::path& folder) {
                                              write_text_file(folder / "x", "half");
                                              throw InputError("stop");
                                            }),
               InputError);
  EXPECT_EQ(read_text_file(dir / "d/x"), "old");
  replace_directory_atomically(dir / "d", [&](const fs::path& folder) {
    EXPECT_EQ(read_text_file(dir / "d/x"), "old");
    write_text_file(folder / "x", "new");
  });
  EXPECT_EQ(read_text_file(dir / "d/x"), "new");
  EXPECT_FALSE(fs::exists(dir / "d/more"));
  EXPECT_EQ(entries(dir.path()), 1);
  write_text_file(dir / "file", "precious");
  EXPECT_THAT(io_error([&] { replace_directory_atomically(dir / "file", fill_with("x")); }),
              HasSubstr("not a folder"));
  EXPECT_EQ(read_text_file(dir / "file"), "precious");
}

// What a killed process left goes with the next writing of the same target; nothing else does.
TEST(File, StalePartialsAreRemoved) {
  const TempDir dir;
  const auto leave = [&](const std::string& name) { std::ofstream(dir / name) << "half"; };
  const std::vector<std::string> others = {"a.partial-7-1.txt", "a.partial-x-1", "ab.partial-7-1",
                                           "a.partial-7"};
  for (const std::string& name : others) {
    leave(name);
  }
  leave("a.partial-7-1");
  leave("a.partial-7-2");
  fs::create_directory(dir / "d.partial-7-3");
  leave("d.partial-7-3/x");
  // Somebody is still writing this one.
  const int held = ::open((dir / "a.partial-7-2").c_str(), O_RDWR);
  ASSERT_EQ(::flock(held, LOCK_EX | LOCK_NB), 0);
  write_text_file(dir / "a", "x");
  EXPECT_FALSE(fs::exists(dir / "a.partial-7-1"));
  EXPECT_TRUE(fs::exists(dir / "a.partial-7-2"));
  ::close(held);
  EXPECT_TRUE(fs::exists(dir / "d.partial-7-3"));
  create_directory_atomically(dir / "d", [](const fs::path&) {});
  EXPECT_FALSE(fs::exists(dir / "d.partial-7-3"));
  for (const std::string& name : others) {
    EXPECT_TRUE(fs::exists(dir / name)) << name;
  }
}

TEST(File, Sha256KnownAnswers) {
  // FIPS 180-4 examples.
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const TempDir dir;
  write_text_file(dir / "a", std::string(1000000, 'a') + std::string(3000000, 'b'));
  Sha256 hash;
  for (int i = 0; i < 4; ++i) {
    hash.update(std::string(1000000, i == 0 ? 'a' : 'b'));
  }
  EXPECT_EQ(sha256_file(dir / "a"), hash.hex());
  write_text_file(dir / "m", std::string(1000000, 'a'));
  EXPECT_EQ(sha256_file(dir / "m"),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

}  // namespace
}  // namespace stemfabric
