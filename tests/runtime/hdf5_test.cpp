#include "runtime/io/hdf5.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "tests/support/mutations.h"
#include "tests/support/paths.h"

namespace stemfabric {
namespace {

using test::TempDir;
using testing::ElementsAre;
using testing::HasSubstr;

void write_example(const std::filesystem::path& path) {
  std::vector<float> values(6);
  std::iota(values.begin(), values.end(), 0.5F);
  Hdf5Writer file(path);
  file.set_attribute("/", "names", {"a", "longer", ""});
  file.set_attribute("/", "one", "{\"json\": \"ü\"}");
  file.create_group("/empty/inner");
  file.write_dataset("/layer/layer/kernel:0", ConstTensorView(values.data(), Shape{2, 3}));
  file.write_dataset("/layer/layer/bias:0", ConstTensorView(values.data(), Shape{}));
  file.set_attribute("/layer", "weights", std::vector<std::string>{"x"});
  const std::string hash = file.commit();
  EXPECT_EQ(hash, sha256_file(path));
}

template <typename F>
std::string refusal(F&& f) {
  try {
    f();
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Hdf5, RoundTrip) {
  const TempDir dir;
  write_example(dir / "x.h5");
  const Hdf5File file(dir / "x.h5");
  EXPECT_THAT(file.children("/"), ElementsAre("empty", "layer"));
  EXPECT_THAT(file.children("/layer/layer"), ElementsAre("bias:0", "kernel:0"));
  EXPECT_THAT(file.children("/empty/inner"), ElementsAre());
  EXPECT_THAT(file.read_attribute_list("/", "names"), ElementsAre("a", "longer", ""));
  EXPECT_EQ(file.read_attribute("/", "one"), "{\"json\": \"ü\"}");
  EXPECT_EQ(file.read_attribute("/layer", "weights"), "x");
  const Tensor kernel = file.read_dataset("/layer/layer/kernel:0");
  EXPECT_EQ(kernel.shape(), Shape({2, 3}));
  EXPECT_EQ(kernel.as<float>()[5], 5.5F);
  EXPECT_EQ(file.read_dataset("/layer/layer/bias:0").shape(), Shape{});
}

TEST(Hdf5, EqualContentsGiveEqualBytes) {
  const TempDir dir;
  write_example(dir / "x.h5");
  write_example(dir / "y.h5");
  EXPECT_EQ(read_text_file(dir / "x.h5"), read_text_file(dir / "y.h5"));
}

TEST(Hdf5, ErrorsNameTheObject) {
  const TempDir dir;
  write_example(dir / "x.h5");
  const Hdf5File file(dir / "x.h5");
  EXPECT_THAT(refusal([&] { (void)file.read_dataset("/none"); }), HasSubstr("no data set '/none'"));
  EXPECT_THAT(refusal([&] { (void)file.children("/none"); }), HasSubstr("no group '/none'"));
  EXPECT_THAT(refusal([&] { (void)file.read_attribute("/", "none"); }),
              HasSubstr("no attribute 'none'"));
  EXPECT_THAT(refusal([&] { (void)file.read_attribute("/", "names"); }), HasSubstr("3 strings"));
  write_text_file(dir / "text", "hello");
  EXPECT_THAT(refusal([&] { Hdf5File text(dir / "text"); }), HasSubstr("not an HDF5 file"));
  EXPECT_THROW(Hdf5File(dir / "missing"), IoError);
  Hdf5Writer writer(dir / "y.h5");
  EXPECT_THAT(refusal([&] { writer.set_attribute("/", "long", std::string(64513, 'x')); }),
              HasSubstr("64513 bytes"));
  writer.create_group("/a");
  EXPECT_THROW(writer.create_group("/a"), IoError);
  Hdf5Writer nowhere(dir / "no/folder.h5");
  EXPECT_THROW(nowhere.commit(), IoError);
}

TEST(Hdf5, EveryTruncationIsRefused) {
  const TempDir dir;
  write_example(dir / "x.h5");
  const std::string whole = read_text_file(dir / "x.h5");
  for (std::size_t size = 0; size < whole.size(); size += 1 + size / 64) {
    write_text_file(dir / "y.h5", whole.substr(0, size));
    EXPECT_NE(refusal([&] {
                const Hdf5File file(dir / "y.h5");
                (void)file.read_dataset("/layer/layer/kernel:0");
              }),
              "accepted")
        << size;
  }
}

TEST(Hdf5, DamagedFilesAreReadOrRefused) {
  const TempDir dir;
  write_example(dir / "x.h5");
  const auto counts = test::read_mutated(
      dir / "damaged.h5", read_text_file(dir / "x.h5"), {.seed = 13, .rounds = 600}, [&] {
        const Hdf5File file(dir / "damaged.h5");
        (void)file.children("/layer/layer");
        (void)file.read_attribute_list("/", "names");
        (void)file.read_attribute("/", "one");
        EXPECT_LE(file.read_dataset("/layer/layer/kernel:0").elements(), 1 << 16);
      });
  EXPECT_GT(counts.refused, 50);
}

}  // namespace
}  // namespace stemfabric
