// Two ranks on two machines, of which network namespaces make believe, and a network between them
// that is cut while they train.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/integration/training/ranks_fixture.h"

namespace stemfabric::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

ProcessResult shell(const std::string& command) {
  return run_process({"/bin/bash", "-c", command});
}

class CutNetwork : public RanksTest {
 protected:
  void SetUp() override {
    RanksTest::SetUp();
    if (IsSkipped()) {
      return;
    }
    const ProcessResult first = shell("ip netns add " + here_);
    if (first.status != 0) {
      GTEST_SKIP() << "a network that is cut between two ranks is not tested: that needs root, "
                      "iproute2 and the right to make network namespaces ("
                   << first.err << ")";
    }
    const ProcessResult made =
        shell("set -e; ip netns add " + there_ + "; ip -n " + here_ +
              " link add link0 type veth peer name link0 netns " + there_ +
              "; number=0; for side in " + here_ + " " + there_ +
              "; do number=$((number + 1)); ip -n $side address add 10.0.0.$number/30 dev link0; "
              "ip -n $side link set lo up; ip -n $side link set link0 up; done");
    ASSERT_EQ(made.status, 0) << made.err;
    // What mpirun takes for ssh: the name of a machine, and a command.
    write_text_file(folder_ / "remote", "#!/bin/sh\nshift\nexec ip netns exec " + there_ +
                                            " unshare --uts sh -c \"hostname there; $*\"\n");
    fs::permissions(folder_ / "remote", fs::perms::owner_all);
  }
  void TearDown() override { shell("ip netns delete " + here_ + "; ip netns delete " + there_); }

  // Rank 0 on the one machine, where mpirun runs too, and rank 1 on the other; all that they say
  // to each other goes through the link.
  std::vector<std::string> apart(const std::vector<std::string>& argv) const {
    std::vector<std::string> all = {"/usr/bin/env", "ip", "netns", "exec", here_, SF_MPIRUN};
    for (const char* option : {"--allow-run-as-root",
                               "--bind-to",
                               "none",
                               "-n",
                               "2",
                               "--map-by",
                               "node",
                               "--host",
                               "10.0.0.1,10.0.0.2",
                               "--mca",
                               "plm",
                               "rsh",
                               "--mca",
                               "oob_tcp_if_include",
                               "link0",
                               "--mca",
                               "btl",
                               "tcp,self",
                               "--mca",
                               "btl_tcp_if_include",
                               "link0",
                               "--mca",
                               "plm_rsh_agent"}) {
      all.emplace_back(option);
    }
    all.push_back(path("remote"));
    all.insert(all.end(), argv.begin(), argv.end());
    return all;
  }
  void set_link(const std::string& state) const {
    const ProcessResult result = shell("ip -n " + here_ + " link set link0 " + state);
    ASSERT_EQ(result.status, 0) << result.err;
  }

  const std::string here_ = "stemfabric-here-" + std::to_string(::getpid());
  const std::string there_ = "stemfabric-there-" + std::to_string(::getpid());
};

TEST_F(CutNetwork, EndsTheRanksInTimeAndTheRunGoesOnWhenItIsBack) {
  std::vector<std::string> settings = kLong;
  settings.emplace_back("distributed.timeout_s=8");  // a busy machine must not reach it
  Process job(apart(train("cut", 4, settings)));
  ASSERT_TRUE(wait_for(job, [&] { return !checkpoints("cut").empty(); })) << job.wait().err;
  set_link("down");
  // Both end by themselves; mpirun waits for the machine that it cannot reach.
  ASSERT_TRUE(wait_for(job, [&] { return rank_of("cut", 0) < 0 && rank_of("cut", 1) < 0; }));
  EXPECT_TRUE(job.running());
  set_link("up");
  const ProcessResult cut = job.wait();
  EXPECT_EQ(cut.status, 76) << cut.err;
  for (const char* who : {"rank 0 of 2 waited 8 s", "rank 1 of 2 waited 8 s"}) {
    EXPECT_THAT(cut.err,
                HasSubstr(std::string(who) + " (distributed.timeout_s) in the collective '"));
  }
  EXPECT_THAT(cut.err,
              HasSubstr("for rank 1, which died or hangs, or to which the network is cut"));

  const int64_t epoch = read_checkpoint(checkpoints("cut").back()).state.epoch;
  const std::vector<std::string> length = {"training.num_epochs=" + std::to_string(epoch + 2),
                                           "training.patience=0"};
  const ProcessResult goes_on = run_process(apart(train("cut", 4, length)));
  ASSERT_EQ(goes_on.status, 0) << goes_on.err;
  EXPECT_THAT(goes_on.err, HasSubstr("resuming from"));
  const ProcessResult whole = run_process(on_ranks(2, train("whole", 4, length)));
  ASSERT_EQ(whole.status, 0) << whole.err;
  EXPECT_EQ(bytes("cut"), bytes("whole"));
  EXPECT_EQ(read_metrics(folder_ / "cut"), read_metrics(folder_ / "whole"));
}

}  // namespace
}  // namespace stemfabric::test
