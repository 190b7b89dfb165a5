#include "tests/simt/host_nccl.h"

#include <cstring>
#include <memory>
#include <mutex>
#include <utility>

#include "kernels/simt/queue.h"
#include "runtime/core/bf16.h"
#include "runtime/core/check.h"

namespace stemfabric::test {
namespace {

using Bytes = std::vector<std::byte>;
constexpr int kPollsInProgress = 2;

std::mutex g_mutex;  // of all that follows

// The ranks of one id.
struct World {
  struct Slot {
    std::size_t elements = 0;
    DType type = DType::kF32;
    int64_t captured = 0;
    std::map<int, Bytes> parts;
    int taken = 0;
  };
  int size = 0, joined = 0, finalized = 0;
  std::map<int64_t, Slot> slots;
};
std::map<uint64_t, World> g_worlds;

struct Communicator {
  World* world;
  int rank;
  int64_t next = 0;      // sum
  int64_t captured = 0;  // sums so far
  int in_progress = 0;
  bool finalizing = false, aborted = false;
  std::shared_ptr<int> held_by_sums = std::make_shared<int>(0);
};
std::map<void*, std::shared_ptr<Communicator>> g_communicators;

int result_of(const std::string& call) {
  const auto found = host_nccl().results.find(call);
  return found == host_nccl().results.end() ? kNcclSuccess : found->second;
}

template <typename T, typename Add>
void add(Bytes& sum, const Bytes& part, const Add& plus) {
  for (std::size_t at = 0; at < sum.size(); at += sizeof(T)) {
    T a, b;
    std::memcpy(&a, sum.data() + at, sizeof(T));
    std::memcpy(&b, part.data() + at, sizeof(T));
    a = plus(a, b);
    std::memcpy(sum.data() + at, &a, sizeof(T));
  }
}

// From the last rank to the first; bf16 is rounded each time.
Bytes total(const World::Slot& slot) {
  auto part = slot.parts.rbegin();
  Bytes sum = part->second;
  while (++part != slot.parts.rend()) {
    slot.type == DType::kF32   ? add<float>(sum, part->second, std::plus<>())
    : slot.type == DType::kF64 ? add<double>(sum, part->second, std::plus<>())
                               : add<Bf16>(sum, part->second, [](Bf16 a, Bf16 b) {
                                   return to_bf16(from_bf16(a) + from_bf16(b));
                                 });
  }
  return sum;
}

// One sum of one rank, when its stream comes to it.
struct SumOnStream {
  std::shared_ptr<Communicator> communicator;
  std::shared_ptr<int> held;
  void* data;
  std::size_t elements;
  DType type;
  int64_t captured;  // as the how manieth; 0: it was not
  int64_t place = -1;

  bool operator()() {
    const std::lock_guard lock(g_mutex);
    if (communicator->aborted) {
      return true;
    }
    World& world = *communicator->world;
    const std::size_t bytes = elements * dtype_size(type);
    const auto* mine = static_cast<const std::byte*>(data);
    if (place < 0) {
      place = communicator->next++;
      World::Slot& slot = world.slots[place];
      SF_CHECK(slot.parts.empty() || (slot.elements == elements && slot.type == type),
               "rank {} adds up {} values of {} where another one has {}", communicator->rank,
               elements, dtype_name(type), slot.elements);
      SF_CHECK(slot.parts.empty() || slot.captured == captured,
               "rank {} repeats another capture than the others", communicator->rank);
      slot.captured = captured;
      slot.elements = elements;
      slot.type = type;
      slot.parts[communicator->rank] = {mine, mine + bytes};
    }
    World::Slot& slot = world.slots.at(place);
    if (static_cast<int>(slot.parts.size()) < world.size) {
      return false;
    }
    std::memcpy(data, total(slot).data(), bytes);
    if (++slot.taken == world.size) {
      world.slots.erase(place);
    }
    return true;
  }
};

std::shared_ptr<Communicator> of(void* communicator) { return g_communicators.at(communicator); }

int begun(Communicator& communicator, const char* call) {
  communicator.in_progress = kPollsInProgress;
  const int result = result_of(call);
  return result == kNcclSuccess ? kNcclInProgress : result;
}

int unique_id(std::byte* id) {
  const std::lock_guard lock(g_mutex);
  const uint64_t number = g_worlds.size() + 1;
  g_worlds[number];
  std::memcpy(id, &number, sizeof number);
  return result_of("ncclGetUniqueId");
}

int init_rank(void** communicator, int ranks, const std::byte* id, int rank) {
  const std::lock_guard lock(g_mutex);
  uint64_t number = 0;
  std::memcpy(&number, id, sizeof number);
  World& world = g_worlds.at(number);
  world.size = ranks;
  ++world.joined;
  ++host_nccl().made;
  auto made = std::make_shared<Communicator>(Communicator{.world = &world, .rank = rank});
  *communicator = made.get();
  g_communicators[made.get()] = made;
  return begun(*made, "ncclCommInitRankConfig");
}

int async_error(void* communicator, int* state) {
  const std::lock_guard lock(g_mutex);
  Communicator& c = *of(communicator);
  const bool waits = c.world->joined < c.world->size ||
                     (c.finalizing && c.world->finalized < c.world->size) || c.in_progress-- > 0;
  *state = result_of("async") != kNcclSuccess ? result_of("async")
           : waits                            ? kNcclInProgress
                                              : kNcclSuccess;
  return result_of("ncclCommGetAsyncError");
}

int all_reduce(void* data, std::size_t elements, DType type, void* communicator, void* stream) {
  auto& queue = *static_cast<simt::Queue*>(stream);
  std::shared_ptr<Communicator> mine;
  int64_t captured = 0;
  {
    const std::lock_guard lock(g_mutex);
    mine = of(communicator);
    host_nccl().sums[mine->rank].push_back({elements, type, stream, queue.captures()});
    captured = queue.captures() ? ++mine->captured : 0;
    if (const int result = begun(*mine, "ncclAllReduce"); result != kNcclInProgress) {
      return result;
    }
  }
  queue.push_attempt(SumOnStream{mine, mine->held_by_sums, data, elements, type, captured});
  return kNcclInProgress;
}

int finalize(void* communicator) {
  const std::lock_guard lock(g_mutex);
  Communicator& c = *of(communicator);
  c.finalizing = true;
  ++c.world->finalized;
  return begun(c, "ncclCommFinalize");
}

int destroy(void* communicator) {
  const std::lock_guard lock(g_mutex);
  ++host_nccl().destroyed;
  host_nccl().graphs_at_the_end |= of(communicator)->held_by_sums.use_count() > 1;
  g_communicators.erase(communicator);
  return result_of("ncclCommDestroy");
}

int abort_sums(void* communicator) {
  const std::lock_guard lock(g_mutex);
  ++host_nccl().aborted;
  of(communicator)->aborted = true;
  g_communicators.erase(communicator);
  return result_of("ncclCommAbort");
}

const char* error_string(int result) {
  switch (result) {
    case kNcclSystemError:
      return "unhandled system error";
    case kNcclRemoteError:
      return "remote process exited or there was a network error";
    default:
      return "invalid usage";
  }
}

const char* last_error(void* /*communicator*/) { return "words of the test"; }

}  // namespace

HostNccl& host_nccl() {
  static HostNccl state;
  return state;
}

void reset_host_nccl() { host_nccl() = {}; }
void fail_host_nccl(const std::string& call, int result) {
  const std::lock_guard lock(g_mutex);
  host_nccl().results[call] = result;
}

const NcclFunctions& host_nccl_functions() {
  static constexpr NcclFunctions kFunctions = {unique_id,  init_rank,    async_error,
                                               all_reduce, finalize,     destroy,
                                               abort_sums, error_string, last_error};
  return kFunctions;
}

}  // namespace stemfabric::test
