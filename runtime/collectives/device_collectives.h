// Sums over ranks of what lies on their devices, one device a rank: NCCL's, on a stream of their
// own. They are only queued, in the order of the streams, and can be captured; nothing here waits
// for the device but wait(). With Collectives beside it, of which it is made and which carries what
// lies on the host.
//
// All ranks make the same sums in the same order; each rank uses it from one thread. A
// CollectiveError is the end of the run, as there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/collectives/collectives.h"
#include "runtime/collectives/nccl_functions.h"
#include "runtime/device/execution_context.h"
#include "runtime/memory/buffer.h"

namespace stemfabric {

class DeviceCollectives {
 public:
  // Joins the devices of all ranks: all make it at the same point. `ranks` and `nccl` must outlive
  // it, as must the streams and the memory of ctx. DeviceError or CollectiveError that says what
  // NCCL says.
  DeviceCollectives(Collectives& ranks, const ExecutionContext& ctx, const NcclFunctions& nccl);
  // Ends sums that are under way, unless it was closed. Graphs that captured any must be gone.
  ~DeviceCollectives();
  DeviceCollectives(const DeviceCollectives&) = delete;
  DeviceCollectives& operator=(const DeviceCollectives&) = delete;

  // The sums up to the next begin() belong together: those of step `which`.
  void begin(const std::string& which);
  // data = Σ over ranks of data, once the stream of the context has come so far: contiguous device
  // memory of f32, f64 or bf16. `what` names the sum; in it {} stands for the step.
  void all_reduce(const TensorView& data, const std::string& what);
  // The stream of the context waits for all sums.
  void join();

  // A place among the collectives of `ranks` for the sums that are queued next, which wait() is
  // then given: all ranks take it at the same point. Not while work is captured.
  int64_t mark();
  // Waits for an event of the context's stream behind the sums of step `which`. CollectiveError,
  // also after distributed.timeout_s, that names the sum which is under way and the ranks that are
  // late.
  void wait(Event& event, int64_t place, const std::string& which);

  // In the end, by all ranks at the same point, when all sums are done and no graph holds any.
  void close();
  // Stops what is under way; graphs that captured sums must be gone. Nothing but the destructor may
  // follow.
  void stop() noexcept;

 private:
  void check(int result, const char* call) const;
  bool settled() const;  // nothing is in progress; throws what went wrong
  // A call of NCCL's, until it is no longer in progress.
  void call(const char* name, const std::function<int()>& function, int64_t place,
            const std::string& what);
  void note_progress(int64_t sums);

  static constexpr int64_t kMostSums = 1024;  // between two begin()

  Collectives& ranks_;
  const NcclFunctions& nccl_;
  Stream& work_;
  std::unique_ptr<Stream> stream_;
  // How many sums since begin() the device has done: it copies its numbers [0, kMostSums] to the
  // host one by one. The host can so tell where the device stands within a graph, too.
  Tensor numbers_;
  Buffer done_;
  std::vector<std::string> names_;  // of the sums since begin(), also when a graph repeats them
  int64_t sums_ = 0;
  std::string which_;  // of begin()
  int64_t place_ = 0;  // of mark()
  void* communicator_ = nullptr;
};

}  // namespace stemfabric
