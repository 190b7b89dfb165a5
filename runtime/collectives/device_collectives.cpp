#include "runtime/collectives/device_collectives.h"

#include <fmt/core.h>

#include <array>
#include <cstdlib>
#include <numeric>
#include <utility>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/memory/host_access.h"

namespace stemfabric {

namespace {

std::string name_of(const std::string& sum, const std::string& which) {
  return fmt::format(fmt::runtime(sum), which);
}

}  // namespace

DeviceCollectives::DeviceCollectives(Collectives& ranks, const ExecutionContext& ctx,
                                     const NcclFunctions& nccl)
    : ranks_(ranks),
      nccl_(nccl),
      work_(ctx.stream()),
      stream_(ctx.stream().another()),
      numbers_(Shape{kMostSums + 1}, DType::kI64, ctx.resource(), "numbers of sums"),
      done_(ctx.staging(), sizeof(int64_t), "number of sums done") {
  write_on_host(ctx, numbers_.view(), [](const TensorView& numbers) {
    std::iota(numbers.as<int64_t>(), numbers.as<int64_t>() + numbers.elements(), int64_t{0});
  });
  *static_cast<int64_t*>(done_.data()) = 0;
  if (ranks.options().ordered) {
    // Sums that switches make are not the same each time (github.com/NVIDIA/nccl/issues/1497).
    ::setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/0);
  }
  std::array<std::byte, kNcclIdBytes> id{};
  if (ranks.first()) {
    check(nccl.unique_id(id.data()), "ncclGetUniqueId");
  }
  ranks.broadcast(id, "NCCL's id");
  try {
    call(
        "ncclCommInitRankConfig",
        [&] { return nccl.init_rank(&communicator_, ranks.size(), id.data(), ranks.rank()); },
        mark(), "start of NCCL");
  } catch (...) {
    stop();
    throw;
  }
}

DeviceCollectives::~DeviceCollectives() { stop(); }

void DeviceCollectives::check(int result, const char* call) const {
  if (result == kNcclSuccess || result == kNcclInProgress) {
    return;
  }
  const char* more = nccl_.last_error(communicator_);
  const std::string message =
      fmt::format("NCCL: {} failed: {}{}{}; NCCL_DEBUG=INFO in the environment tells more", call,
                  nccl_.error_string(result), more == nullptr || *more == '\0' ? "" : ": ",
                  more == nullptr ? "" : more);
  if (result == kNcclRemoteError || result == kNcclSystemError) {
    throw CollectiveError(message);
  }
  throw DeviceError(message);
}

bool DeviceCollectives::settled() const {
  int state = kNcclSuccess;
  check(nccl_.async_error(communicator_, &state), "ncclCommGetAsyncError");
  check(state, "an operation");
  return state == kNcclSuccess;
}

void DeviceCollectives::call(const char* name, const std::function<int()>& function, int64_t place,
                             const std::string& what) {
  bool called = false;
  ranks_.wait_until(
      place,
      [&] {
        if (!called) {
          called = true;
          check(function(), name);
        }
        return settled();
      },
      [&] { return what; });
}

void DeviceCollectives::note_progress(int64_t sums) {
  stream_->copy(done_.data(), numbers_.view().slice(0, sums, 1).data(), sizeof(int64_t));
}

void DeviceCollectives::begin(const std::string& which) {
  which_ = which;
  sums_ = 0;
  stream_->follow(work_);
  note_progress(0);
}

void DeviceCollectives::all_reduce(const TensorView& data, const std::string& what) {
  SF_CHECK(communicator_ != nullptr, "'{}' after the end", what);
  SF_CHECK(data.contiguous() && sums_ < kMostSums, "'{}': sum {} of {}", what, sums_,
           data.shape().to_string());
  names_.resize(static_cast<std::size_t>(sums_));
  names_.push_back(what);
  stream_->follow(work_);
  call(
      "ncclAllReduce",
      [&] {
        return nccl_.all_reduce(data.data(), static_cast<std::size_t>(data.elements()),
                                data.dtype(), communicator_, stream_->native());
      },
      place_, name_of(what, which_));
  note_progress(++sums_);
}

void DeviceCollectives::join() { work_.follow(*stream_); }

int64_t DeviceCollectives::mark() {
  place_ = ranks_.mark();
  return place_;
}

void DeviceCollectives::wait(Event& event, int64_t place, const std::string& which) {
  const auto under_way = [&] {
    const auto done = static_cast<std::size_t>(*static_cast<const volatile int64_t*>(done_.data()));
    return name_of(done < names_.size() ? names_[done] : "end of step {}", which);
  };
  ranks_.wait_until(
      place, [&] { return settled() && event.done(); }, under_way);
}

void DeviceCollectives::close() {
  ranks_.barrier("end of NCCL");  // no rank may leave while another's sums are on their way
  call(
      "ncclCommFinalize", [&] { return nccl_.finalize(communicator_); }, mark(), "end of NCCL");
  check(nccl_.destroy(std::exchange(communicator_, nullptr)), "ncclCommDestroy");
}

void DeviceCollectives::stop() noexcept {
  if (communicator_ == nullptr) {
    return;
  }
  const int result = nccl_.abort(std::exchange(communicator_, nullptr));
  if (result != kNcclSuccess && result != kNcclInProgress) {
    log_warning("NCCL: ncclCommAbort failed: {}", nccl_.error_string(result));
  }
}

}  // namespace stemfabric
