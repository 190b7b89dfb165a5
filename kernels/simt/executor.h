// Runs kernels on the host, every thread of a block as a fiber, block after block.
//
// Threads run until they wait for each other; which of those that may run comes next is what the
// schedule says. A kernel that is right gives the same bits under every schedule; one with a
// missing barrier does not, and in a build with ThreadSanitizer it is reported as a race as well
// (nothing orders two fibers but the barriers that the kernel calls).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/simt/simt.h"

namespace stemfabric::simt {

// Schedule and faults are those of the work that runs: what is queued (queue.h) runs before they
// change.
enum class Schedule : uint8_t { kForward, kReverse, kShuffled };
void set_schedule(Schedule schedule, uint64_t seed = 0);

// Faults put into the next launches, for tests that prove that a fault is noticed.
struct Fault {
  enum class Kind : uint8_t {
    kNone,
    kDropBlockBarrier,  // the barrier at `site` does nothing
    kDropWarpBarrier,   // __syncwarp at `site` does nothing
    kWrongLane,         // shuffles at `site` read the lane after the right one
  };
  Kind kind = Kind::kNone;
  std::string site;  // "file:line"
};
void set_fault(const Fault& fault);
// Barriers and shuffles that launches came through since the last call, as "file:line".
struct Sites {
  std::vector<std::string> block_barriers, warp_barriers, shuffles;
};
Sites take_sites();

// What a test puts between the host and the memory of the device that the executor stands in for.
struct DeviceHooks {
  // Device work begins and ends (may nest): only then may that memory be touched.
  void (*begin)() = nullptr;
  void (*end)() = nullptr;
  // Looks at an argument of a launch, which must hold no address of the host's.
  void (*check_argument)(const char* kernel, const void* argument, std::size_t bytes) = nullptr;
};
void set_device_hooks(const DeviceHooks& hooks);
// Device work, for as long as it lives: a launch, and whatever stands in for a GPU's library.
class DeviceWork {
 public:
  DeviceWork();
  ~DeviceWork();
  DeviceWork(const DeviceWork&) = delete;
  DeviceWork& operator=(const DeviceWork&) = delete;
};
void check_argument(const char* kernel, const void* argument, std::size_t bytes);
// Padding may hold leftovers of anything: it is cleared first.
template <typename T>
void check_argument(const char* kernel, T& argument) {
  __builtin_clear_padding(&argument);
  check_argument(kernel, &argument, sizeof argument);
}

struct Launch {
  const char* kernel;  // name, for errors
  dim3 grid, block;
  std::size_t dynamic_shared_bytes = 0;
};
// Runs `thread` once per thread of the grid. InternalError (naming the kernel, the block and the
// source lines) if threads wait for each other for ever.
void run(const Launch& launch, const std::function<void()>& thread);

// How many launches ran so far in this program: proof for a test that kernels ran at all.
int64_t launches();

}  // namespace stemfabric::simt
