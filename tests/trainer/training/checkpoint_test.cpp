// Damaged, foreign and missing checkpoints: named, passed over, or refused.
#include "trainer/training/checkpoint.h"

#include <gtest/gtest.h>

#include <fstream>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "tests/support/mutations.h"
#include "tests/support/tiny_training.h"
#include "trainer/training/resume.h"
#include "trainer/training/training.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;
using test::TempDir;
using test::tiny_config;

void overwrite(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

void flip_bit(const fs::path& path, std::size_t byte) {
  std::string bytes = read_text_file(path);
  bytes.at(byte) = static_cast<char>(bytes.at(byte) ^ 4);
  overwrite(path, bytes);
}

// A run of 8 steps with checkpoints at 2, 4, 6 and 8.
class CheckpointFaults : public testing::Test {
 protected:
  CheckpointFaults() {
    set_log_level(LogLevel::kError);
    test::write_tiny_dataset(folder_ / "data", {.train = 16, .validation = 4});
    train(6);
  }
  ~CheckpointFaults() override { set_log_level(LogLevel::kInfo); }

  TrainingResult train(int steps, const std::string& resume = "auto",
                       const std::vector<std::string>& more = {}, const std::string& run = "run") {
    std::vector<std::string> settings = {
        "training.num_epochs=9", "training.num_steps=" + std::to_string(steps),
        "training.checkpoint_every_steps=2", "training.keep_checkpoints=10"};
    settings.insert(settings.end(), more.begin(), more.end());
    return run_training(tiny_config(folder_ / "data", settings),
                        {.output_dir = folder_ / run, .resume = resume, .stop = {}});
  }
  fs::path checkpoint(int64_t step) const {
    return folder_ / "run" / "checkpoints" / checkpoint_name(step);
  }
  // The error of an action, which must be of this type.
  template <typename E, typename Action>
  static std::string error_of(Action&& action) {
    try {
      action();
    } catch (const E& error) {
      return error.what();
    }
    ADD_FAILURE() << "no error of the expected type";
    return {};
  }

  TempDir folder_;
};

TEST_F(CheckpointFaults, EveryByteOfEveryFileCounts) {
  for (const char* name : {"model.safetensors", "optimizer.safetensors", "state.json"}) {
    const fs::path path = checkpoint(4) / name;
    const std::string original = read_text_file(path);
    const std::size_t stride = std::max<std::size_t>(1, original.size() / 40);
    for (std::size_t at = 0; at < original.size(); at += stride) {
      flip_bit(path, at);
      const auto text = error_of<InputError>([&] { read_checkpoint(checkpoint(4)); });
      EXPECT_NE(text.find(path.string()), std::string::npos) << text;
      overwrite(path, original);
    }
    for (const std::size_t size : {std::size_t{0}, original.size() / 2, original.size() - 1}) {
      overwrite(path, original.substr(0, size));
      const auto text = error_of<InputError>([&] { read_checkpoint(checkpoint(4)); });
      EXPECT_NE(text.find(path.string()), std::string::npos) << text;
      EXPECT_NE(text.find("truncated"), std::string::npos) << text;
      overwrite(path, original);
    }
    fs::remove(path);
    const auto text = error_of<InputError>([&] { read_checkpoint(checkpoint(4)); });
    EXPECT_NE(text.find(name), std::string::npos) << text;
    overwrite(path, original);
    EXPECT_EQ(read_checkpoint(checkpoint(4)).state.step, 4);
  }
}

TEST_F(CheckpointFaults, SwappedFilesAndFoldersAreNoticed) {
  fs::rename(checkpoint(2) / "model.safetensors", folder_ / "saved");
  fs::copy(checkpoint(4) / "model.safetensors", checkpoint(2) / "model.safetensors");
  const auto text = error_of<InputError>([&] { read_checkpoint(checkpoint(2)); });
  EXPECT_NE(text.find("model.safetensors"), std::string::npos) << text;
  EXPECT_NE(text.find("another checkpoint"), std::string::npos) << text;

  fs::rename(checkpoint(4), checkpoint(40));
  const auto renamed = error_of<InputError>([&] { read_checkpoint(checkpoint(40)); });
  EXPECT_NE(renamed.find("step 40"), std::string::npos) << renamed;
}

TEST_F(CheckpointFaults, AutoFallsBackAndEndsTheSame) {
  train(8, "auto", {}, "whole");
  flip_bit(checkpoint(6) / "optimizer.safetensors", 5000);
  const auto text = error_of<InputError>([&] { train(8, checkpoint(6).string()); });
  EXPECT_NE(text.find("optimizer.safetensors"), std::string::npos) << text;
  EXPECT_EQ(train(8).steps, 8);
  EXPECT_EQ(read_text_file(folder_ / "run" / "final_model.safetensors"),
            read_text_file(folder_ / "whole" / "final_model.safetensors"));
  EXPECT_EQ(test::read_metrics(folder_ / "run"), test::read_metrics(folder_ / "whole"));
  EXPECT_TRUE(fs::exists(folder_ / "run" / "previous-1" / checkpoint_name(6)));  // for a look
}

TEST_F(CheckpointFaults, AllDamagedIsAnError) {
  for (const fs::path& path : list_checkpoints(folder_ / "run" / "checkpoints")) {
    flip_bit(path / "state.json", 100);
  }
  const auto text = error_of<InputError>([&] { train(8); });
  EXPECT_NE(text.find("--resume never"), std::string::npos) << text;
  EXPECT_NE(text.find("state.json"), std::string::npos) << text;
  EXPECT_EQ(train(8, "never").steps, 8);
  EXPECT_TRUE(fs::exists(folder_ / "run" / "previous-1" / "checkpoints" / checkpoint_name(6)));
}

TEST_F(CheckpointFaults, AnEarlierCheckpointCanBeNamed) {
  train(8, "auto", {}, "whole");
  EXPECT_EQ(train(8, checkpoint(2).string() + "/").steps, 8);
  EXPECT_EQ(read_text_file(folder_ / "run" / "final_model.safetensors"),
            read_text_file(folder_ / "whole" / "final_model.safetensors"));
  // From another run's folder into a new one.
  EXPECT_EQ(train(8, (folder_ / "run").string(), {}, "third").steps, 8);
  EXPECT_EQ(read_text_file(folder_ / "third" / "final_model.safetensors"),
            read_text_file(folder_ / "whole" / "final_model.safetensors"));
  const auto text = error_of<InputError>([&] { train(8, (folder_ / "nowhere").string()); });
  EXPECT_NE(text.find("nowhere"), std::string::npos) << text;
}

TEST_F(CheckpointFaults, AnotherConfigurationOrDataIsRefusedByName) {
  auto text = error_of<ConfigError>([&] { train(8, "auto", {"training.lr=0.5", "model.dim=32"}); });
  EXPECT_NE(text.find("training.lr is 0.5 here and 0.001 there"), std::string::npos) << text;
  EXPECT_NE(text.find("model.dim is 32 here and 16 there"), std::string::npos) << text;
  EXPECT_EQ(text.find("num_steps"), std::string::npos) << text;

  test::write_tiny_dataset(folder_ / "data", {.train = 16, .validation = 4, .seed = 2});
  text = error_of<ConfigError>([&] { train(8); });
  EXPECT_NE(text.find("data's hash"), std::string::npos) << text;
  // Nothing was touched.
  EXPECT_EQ(read_checkpoint(checkpoint(6)).state.step, 6);
  EXPECT_TRUE(fs::exists(folder_ / "run" / "final_model.safetensors"));
}

TEST_F(CheckpointFaults, WhatDoesNotChangeAStepMayDiffer) {
  EXPECT_EQ(train(8, "auto",
                  {"training.threads=2", "logging.every_steps=3", "training.keep_checkpoints=1",
                   "training.checkpoint_every_steps=0"})
                .steps,
            8);
  EXPECT_EQ(list_checkpoints(folder_ / "run" / "checkpoints").size(), 1U);
}

TEST_F(CheckpointFaults, ACheckpointOfTheSameStepIsReplaced) {
  // Overwrites step 6 in place: the folder must be whole before and after.
  const Checkpoint before = read_checkpoint(checkpoint(6));
  const ParameterTable table(before.identity.model);
  Tensor block = Tensor::zeros({table.block_elements()}, DType::kF32);
  const auto n = static_cast<std::size_t>(before.identity.model.input_dim);
  const InputStatistics statistics{.mean = std::vector<float>(n, 0),
                                   .scale = std::vector<float>(n, 1)};
  write_checkpoint(
      ExecutionContext(), folder_ / "run" / "checkpoints", before.identity, before.state, table,
      {.weights = block.view(), .first_moment = block.view(), .second_moment = block.view()},
      statistics, {});
  EXPECT_FALSE(read_checkpoint(checkpoint(6)).has_best);
  for (const auto& entry : fs::directory_iterator(folder_ / "run" / "checkpoints")) {
    EXPECT_EQ(entry.path().string().find("partial"), std::string::npos) << entry.path();
  }
}

// Optional: older versions did not write it.
TEST_F(CheckpointFaults, AnotherKindOfDeviceIsWarnedAbout) {
  EXPECT_EQ(read_checkpoint(checkpoint(6)).device, "cpu");
  const RunIdentity identity = read_checkpoint(checkpoint(6)).identity;
  const fs::path path = checkpoint(6) / "state.json";
  const std::string whole = read_text_file(path);
  const std::string middle = "\",\"state\":";
  const std::size_t begin = whole.find(middle) + middle.size();
  const std::string state = whole.substr(begin, whole.size() - begin - 2);
  // By its indentation not one of the configuration's.
  const std::string entry = "\n \"device\": \"cpu\",";
  ASSERT_NE(state.find(entry), std::string::npos);
  const auto warning_with = [&](const std::string& device) {
    std::string text = state;
    text.replace(text.find(entry), entry.size(), device);
    overwrite(path, "{\"sha256\":\"" + sha256_hex(text) + middle + text + "}\n");
    set_log_level(LogLevel::kWarning);
    testing::internal::CaptureStderr();
    EXPECT_EQ(choose_checkpoint("auto", checkpoint(6).parent_path(), identity, "cpu")->state.step,
              6);
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_EQ(warning_with(entry), "");
  EXPECT_EQ(warning_with(""), "");
  const std::string warning = warning_with("\n \"device\": \"cuda\",");
  EXPECT_NE(warning.find("was written on cuda, this run goes on on cpu"), std::string::npos)
      << warning;
}

TEST(CheckpointIdentity, StepsOfOtherRanksAreComparedAndForeignOnesNamed) {
  const auto found = [](const std::string& training, int64_t ranks) {
    RunIdentity here{
        .config_json = R"({"training":{"batch_size":4,"gradient_accumulation_steps":2}})",
        .model = {},
        .data_hash = "d",
        .ranks = 1};
    RunIdentity there = here;
    there.config_json = R"({"training":)" + training + "}";
    there.ranks = ranks;
    return differences(here, there);
  };
  EXPECT_TRUE(found(R"({"batch_size":2,"gradient_accumulation_steps":2})", 2).empty());
  EXPECT_EQ(found(R"({"batch_size":4,"gradient_accumulation_steps":2})", 2).size(), 1U);
  for (const char* foreign :
       {"{}", R"({"batch_size":"2","gradient_accumulation_steps":2})", "[]", "null",
        R"({"batch_size":9e99,"gradient_accumulation_steps":2})",
        R"({"batch_size":9000000000000000000,"gradient_accumulation_steps":2})"}) {
    const auto named = found(foreign, 2);
    ASSERT_FALSE(named.empty()) << foreign;
    EXPECT_NE(named.front().find("unknown samples per step"), std::string::npos) << named.front();
  }
  EXPECT_FALSE(found(R"({"batch_size":4,"gradient_accumulation_steps":2})", -1).empty());
}

// With a hash that fits the damage, so that what is read behind it is reached, too.
TEST_F(CheckpointFaults, DamagedStatesAreReadOrRefused) {
  const fs::path path = checkpoint(4) / "state.json";
  const std::string whole = read_text_file(path);
  const std::string middle = "\",\"state\":";
  const std::size_t begin = whole.find(middle) + middle.size();
  const std::string state = whole.substr(begin, whole.size() - begin - 2);
  int accepted = 0;
  int refused = 0;
  for (int round = 0; round < 600; ++round) {
    const std::string damaged = test::mutated(state, 15, round);
    test::put_file(path, "{\"sha256\":\"" + sha256_hex(damaged) + middle + damaged + "}\n");
    try {
      read_checkpoint(checkpoint(4));
      ++accepted;
    } catch (const InputError& error) {
      ++refused;
      const std::string text = error.what();
      EXPECT_NE(text.find(checkpoint(4).string()), std::string::npos) << text;
      EXPECT_EQ(text.find("json.exception"), std::string::npos) << text;
    }  // any other exception fails the test
  }
  EXPECT_GT(refused, 300);
  // Without one, every change is seen.
  test::put_file(path, whole);
  const auto counts = test::read_mutated(path, whole, {.seed = 16, .rounds = 300},
                                         [&] { read_checkpoint(checkpoint(4)); });
  EXPECT_LE(counts.accepted, 6);  // changes that change nothing
  test::put_file(path, whole);
}

}  // namespace
}  // namespace stemfabric
