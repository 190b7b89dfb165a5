#include "trainer/training/step_sums.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

class HostSums final : public StepSums {
 public:
  explicit HostSums(Collectives& ranks) : ranks_(ranks) {}

  void begin(int64_t step) override {
    SF_CHECK(pending_.empty(), "sums of step {} are under way", step_ + 1);
    step_ = step;
  }

  // MPI moves data only inside its own calls: each sum that starts takes the others on.
  void start(const TensorView& data, const std::string& what) override {
    for (const auto& sum : pending_) {
      sum->test();
    }
    const int64_t most =
        ranks_.options().most_bytes / static_cast<int64_t>(dtype_size(data.dtype()));
    for (int64_t from = 0; from < data.elements(); from += most) {
      pending_.push_back(
          ranks_.start_all_reduce(data.slice(0, from, std::min(most, data.elements() - from)),
                                  fmt::format(fmt::runtime(what), step_ + 1)));
    }
  }

  void join() override {
    for (const auto& sum : pending_) {
      sum->wait();
    }
    pending_.clear();
  }

 private:
  Collectives& ranks_;
  int64_t step_ = 0;
  std::vector<std::unique_ptr<Collectives::Pending>> pending_;
};

class DeviceSums final : public StepSums {
 public:
  explicit DeviceSums(DeviceCollectives& devices) : devices_(devices) {}
  void begin(int64_t step) override { devices_.begin(std::to_string(step + 1)); }
  void start(const TensorView& data, const std::string& what) override {
    if (data.elements() > 0) {
      devices_.all_reduce(data, what);
    }
  }
  void join() override { devices_.join(); }

 private:
  DeviceCollectives& devices_;
};

}  // namespace

std::unique_ptr<StepSums> make_step_sums(Collectives& ranks, DeviceCollectives* devices) {
  if (devices != nullptr) {
    return std::make_unique<DeviceSums>(*devices);
  }
  return std::make_unique<HostSums>(ranks);
}

}  // namespace stemfabric
