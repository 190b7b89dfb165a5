#include "runtime/device/device_choice.h"

#include <gtest/gtest.h>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

const DeviceInfo kCpu = {.device = {}, .name = "a CPU", .capability = "AVX2", .processors = 4};

DeviceInfo gpu(int index, const char* name, const char* capability) {
  return {.device = {DeviceKind::kCuda, index},
          .name = name,
          .capability = capability,
          .memory_bytes = int64_t{80} << 30,
          .processors = 132};
}

std::string refusal(const DeviceSurvey& survey) {
  try {
    choose_device("cuda", "training.device", survey);
  } catch (const DeviceError& error) {
    return error.what();
  }
  return {};
}

TEST(DeviceChoice, AutoTakesTheFirstGpuThatTheBuildHasKernelsFor) {
  const DeviceSurvey survey{.devices = {kCpu, gpu(0, "Old One", "7.5"), gpu(1, "New One", "9.0"),
                                        gpu(2, "Newest", "10.3")},
                            .least_capability = 8.0};
  for (const char* wanted : {"auto", "cuda"}) {
    const DeviceInfo chosen = choose_device(wanted, "training.device", survey);
    EXPECT_EQ(chosen.device, (Device{DeviceKind::kCuda, 1})) << wanted;
    EXPECT_EQ(describe_device(chosen),
              "cuda:1: New One, compute capability 9.0, 132 multiprocessors, 80.0 GiB");
  }
  EXPECT_EQ(choose_device("cpu", "training.device", survey).device, Device{});
}

TEST(DeviceChoice, RanksOfAMachineTakeAGpuEach) {
  const DeviceSurvey survey{
      .devices = {kCpu, gpu(0, "Old One", "7.5"), gpu(1, "One", "9.0"), gpu(2, "Two", "9.0")},
      .least_capability = 8.0};
  for (const char* wanted : {"auto", "cuda"}) {
    EXPECT_EQ(choose_device(wanted, "training.device", survey, 0).device.index, 1);
    EXPECT_EQ(choose_device(wanted, "training.device", survey, 1).device.index, 2);
    try {
      choose_device(wanted, "training.device", survey, 2);
      FAIL() << "there are two";
    } catch (const DeviceError& error) {
      EXPECT_NE(std::string(error.what())
                    .find("3 ranks or more were started on this machine, which "
                          "has 2 that can be used"),
                std::string::npos)
          << error.what();
    }
  }
  EXPECT_EQ(choose_device("cpu", "training.device", survey, 2).device, Device{});
}

TEST(DeviceChoice, ARankThatIsShownOneGpuTakesIt) {
  const DeviceSurvey survey{.devices = {kCpu, gpu(0, "One", "9.0")}, .least_capability = 8.0};
  EXPECT_EQ(choose_device("cuda", "training.device", survey, 3).device,
            (Device{DeviceKind::kCuda, 0}));
}

TEST(DeviceChoice, CapabilitiesCompareAsNumbers) {
  const DeviceSurvey survey{.devices = {kCpu, gpu(0, "Newest", "12.0")}, .least_capability = 8.0};
  EXPECT_EQ(choose_device("auto", "training.device", survey).device.kind, DeviceKind::kCuda);
}

TEST(DeviceChoice, WithoutAGpuAutoIsTheCpuAndCudaSaysWhy) {
  for (const char* reason : {"no NVIDIA driver is installed", "CUDA found no device",
                             "this build has no CUDA (configure with -DSTEMFABRIC_CUDA=ON)",
                             "the NVIDIA driver is too old: it knows CUDA 11.4"}) {
    const DeviceSurvey survey{.devices = {kCpu}, .no_gpu_because = reason};
    EXPECT_EQ(choose_device("auto", "training.device", survey).device, Device{});
    EXPECT_EQ(refusal(survey),
              std::string("training.device: cuda cannot be used: ") + reason + "; use auto or cpu");
  }
}

TEST(DeviceChoice, NamesEveryGpuThatIsTooOld) {
  const DeviceSurvey survey{.devices = {kCpu, gpu(0, "Old One", "7.5"), gpu(1, "Older", "6.1")},
                            .least_capability = 8.0};
  EXPECT_EQ(choose_device("auto", "training.device", survey).device, Device{});
  const std::string text = refusal(survey);
  EXPECT_NE(text.find("cuda:0 (Old One) has compute capability 7.5"), std::string::npos) << text;
  EXPECT_NE(text.find("cuda:1 (Older) has compute capability 6.1"), std::string::npos) << text;
  EXPECT_NE(text.find("need 8.0 or higher"), std::string::npos) << text;
}

TEST(DeviceChoice, TheSurveyOfThisMachineHasACpuAndGpusOrAReason) {
  const DeviceSurvey survey = survey_devices();
  ASSERT_FALSE(survey.devices.empty());
  EXPECT_EQ(survey.devices.front().device, Device{});
  EXPECT_EQ(survey.no_gpu_because.empty(), survey.devices.size() > 1);
}

}  // namespace
}  // namespace stemfabric
