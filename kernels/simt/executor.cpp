#include "kernels/simt/executor.h"

#include <boost/context/fiber.hpp>
#include <boost/context/preallocated.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <span>
#include <unordered_map>

#include "kernels/simt/queue.h"
#include "kernels/simt/sanitizer_fibers.h"
#include "runtime/core/check.h"

namespace stemfabric::simt {
namespace {

constexpr std::size_t kStackBytes = 256 * 1024;
constexpr int kResultBuffers = 8;  // lanes lag at most two collectives behind each other

// Nothing orders the blocks of a launch. ThreadSanitizer would take the shared memory of one block
// for that of the next, so there each block gets memory of its own.
#if SF_TSAN_FIBERS
constexpr bool kBlocksAreUnordered = true;
#else
constexpr bool kBlocksAreUnordered = false;
#endif

struct AbortThread {};  // unwinds a thread of a launch that failed elsewhere

// Remembers its memory from one block to the next; holds a NaN pattern when a block starts.
struct SharedRegion {
  std::unique_ptr<std::byte[]> memory;
  std::size_t bytes = 0, alignment = 0;
  bool fresh = false;

  std::byte* data() const {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.get());
    return memory.get() + (alignment - address % alignment) % alignment;
  }
};

struct PendingCopy {
  std::byte* to;
  const std::byte* from;
  std::size_t bytes, total;
};

enum class Wait : uint8_t { kNone, kBlock, kWarp, kDone };

struct Fiber {
  ThreadState state;
  boost::context::fiber context;
  FiberSanitizer sanitizer;
  Wait wait = Wait::kDone;
  Site site;
  uint32_t mask = 0;
  std::size_t exchange_bytes = 0;
  const std::byte* result = nullptr;
  std::array<std::byte, kExchangeBytes> handed_in{};
  std::vector<PendingCopy> uncommitted;
  std::vector<std::vector<PendingCopy>> committed;
};

struct Warp {
  uint32_t waiting = 0;  // lanes
  alignas(64) std::byte results[kResultBuffers][kWarpSize][kExchangeBytes];
  int next_result = 0;
};

// A stack that is kept from block to block.
struct PooledStack {
  boost::context::stack_context stack;
  boost::context::stack_context allocate() const { return stack; }
  void deallocate(boost::context::stack_context& /*stack*/) const noexcept {}
};

std::string place(const Site& site) {
  const std::string_view path = site.file_name();
  return fmt::format("{}:{}", path.substr(path.rfind('/') + 1), site.line());
}

bool same(const Site& a, const Site& b) {
  return a.line() == b.line() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

struct Settings {
  Schedule schedule = Schedule::kForward;
  std::mt19937_64 random;
  Fault fault;
  std::set<std::pair<std::string_view, unsigned>> block_barriers, warp_barriers, shuffles;
  int64_t launches = 0;
};
Settings& settings() {
  thread_local Settings s;
  return s;
}

// Of the whole program: stand-ins of libraries may run on other threads.
DeviceHooks& device_hooks() {
  static DeviceHooks hooks;
  return hooks;
}

std::pair<std::string_view, unsigned> key_of(const Site& site) {
  return {site.file_name(), site.line()};
}

bool faulty(Fault::Kind kind, const Site& site) {
  const Fault& fault = settings().fault;
  return fault.kind == kind && fault.site == place(site);
}

// What the lanes of a warp meet for.
enum class Collective : uint8_t { kShuffle, kVote, kBarrier };

class Executor {
 public:
  void run(const Launch& launch, const std::function<void()>& thread);

  const ThreadState& this_thread() const {
    SF_CHECK(current_ != nullptr, "a kernel's function was called outside of a kernel");
    return current_->state;
  }
  void block_barrier(Site site);
  Exchange warp_exchange(uint32_t mask, const void* value, std::size_t bytes, Site site,
                         Collective kind);
  void* shared_memory(const void* key, std::size_t bytes, std::size_t alignment);
  void* dynamic_shared_memory(std::size_t* bytes);
  Fiber& fiber() const { return *current_; }

 private:
  void prepare(const Launch& launch);
  void start_block(uint3 block);
  void run_thread(Fiber& fiber);
  void run_block();
  bool run_ready(std::span<const std::size_t> threads);
  void resume(Fiber& fiber);
  void yield();
  void release_block_barrier();
  void complete_warp(const Fiber& arrived);
  void abort_block();
  [[noreturn]] void deadlock() const;
  std::vector<std::size_t> order();

  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<PooledStack> stacks_;
  std::vector<Warp> warps_;
  std::unordered_map<const void*, SharedRegion> shared_;
  std::vector<std::unordered_map<const void*, SharedRegion>> used_shared_;
  boost::context::fiber scheduler_;  // where the running fiber goes back to
  SchedulerSanitizer scheduler_sanitizer_;
  const std::function<void()>* thread_ = nullptr;
  Launch launch_{};
  Fiber* current_ = nullptr;
  std::size_t live_ = 0, waiting_ = 0;  // threads of the block; those at the block barrier
  std::exception_ptr failure_;
  bool aborting_ = false;
  char start_sync_ = 0, end_sync_ = 0, block_sync_ = 0;  // addresses for ThreadSanitizer
  std::array<char, kWarpSize> warp_sync_{};
};

Executor& executor() {
  thread_local Executor e;
  return e;
}

void Executor::prepare(const Launch& launch) {
  const std::size_t threads = std::size_t{launch.block.x} * launch.block.y * launch.block.z;
  SF_CHECK(threads >= 1 && threads <= 1024, "{}: {} threads per block", launch.kernel, threads);
  launch_ = launch;
  while (stacks_.size() < threads) {
    boost::context::protected_fixedsize_stack allocator(kStackBytes);
    stacks_.push_back({allocator.allocate()});
  }
  while (fibers_.size() < threads) {
    fibers_.push_back(std::make_unique<Fiber>());
  }
  warps_.resize((threads + kWarpSize - 1) / kWarpSize);
}

void Executor::start_block(uint3 block) {
  if (kBlocksAreUnordered) {
    used_shared_.push_back(std::move(shared_));
    shared_.clear();
  }
  for (auto& [key, region] : shared_) {
    region.fresh = true;
  }
  const dim3 size = launch_.block;
  const std::size_t threads = std::size_t{size.x} * size.y * size.z;
  live_ = threads;
  waiting_ = 0;
  for (Warp& warp : warps_) {
    warp.waiting = 0;
  }
  for (std::size_t i = 0; i < threads; ++i) {
    Fiber& fiber = *fibers_[i];
    const auto n = static_cast<unsigned>(i);
    fiber.state = {.thread_index = {n % size.x, n / size.x % size.y, n / size.x / size.y},
                   .block_index = block,
                   .block_dim = size,
                   .grid_dim = launch_.grid,
                   .lane = static_cast<int>(i % kWarpSize)};
    fiber.wait = Wait::kNone;
    fiber.uncommitted.clear();
    fiber.committed.clear();
    const auto& stack = stacks_[i].stack;
    fiber.sanitizer.prepare(static_cast<char*>(stack.sp) - stack.size, stack.size);
    fiber.context = boost::context::fiber(std::allocator_arg,
                                          boost::context::preallocated(stack.sp, stack.size, stack),
                                          stacks_[i], [this, &fiber](boost::context::fiber&& from) {
                                            scheduler_ = std::move(from);
                                            run_thread(fiber);
                                            return std::move(scheduler_);
                                          });
  }
}

// The life of one thread, on its own stack.
void Executor::run_thread(Fiber& fiber) {
  fiber.sanitizer.entered(scheduler_sanitizer_);
  acquire(&start_sync_);
  try {
    if (!aborting_) {
      (*thread_)();
    }
  } catch (const AbortThread&) {
  } catch (...) {
    if (!failure_) {
      failure_ = std::current_exception();
    }
  }
  release(&end_sync_);
  fiber.wait = Wait::kDone;
  fiber.sanitizer.leaving_for_ever(scheduler_sanitizer_);
}

void Executor::resume(Fiber& fiber) {
  current_ = &fiber;
  scheduler_sanitizer_.leaving(fiber.sanitizer);
  fiber.context = std::move(fiber.context).resume();
  scheduler_sanitizer_.back();
  current_ = nullptr;
}

void Executor::yield() {
  Fiber& fiber = *current_;
  fiber.sanitizer.leaving(scheduler_sanitizer_);
  scheduler_ = std::move(scheduler_).resume();
  fiber.sanitizer.back(scheduler_sanitizer_);
  if (aborting_) {
    throw AbortThread();
  }
}

std::vector<std::size_t> Executor::order() {
  const std::size_t threads = std::size_t{launch_.block.x} * launch_.block.y * launch_.block.z;
  std::vector<std::size_t> order(threads);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (settings().schedule == Schedule::kReverse) {
    std::reverse(order.begin(), order.end());
  } else if (settings().schedule == Schedule::kShuffled) {
    std::shuffle(order.begin(), order.end(), settings().random);
  }
  return order;
}

// In order and in reverse, each warp runs as far as it can before the next one has its turn: then a
// barrier that is missing lets one warp run far ahead of the others. The shuffled schedule moves
// threads one by one.
void Executor::run_block() {
  const bool by_warps = settings().schedule != Schedule::kShuffled;
  std::vector<std::size_t> turn = order();
  const std::size_t group = by_warps ? kWarpSize : turn.size();
  while (live_ > 0) {
    bool ran = false;
    for (std::size_t begin = 0; begin < turn.size(); begin += group) {
      const std::span<const std::size_t> threads =
          std::span(turn).subspan(begin, std::min(group, turn.size() - begin));
      bool again = run_ready(threads);
      ran = ran || again;
      while (by_warps && again) {
        again = run_ready(threads);
      }
    }
    if (!ran) {
      try {
        deadlock();
      } catch (...) {
        abort_block();
        throw;
      }
    }
    if (!by_warps) {
      turn = order();
    }
  }
}

// Lets each of the threads that may run go on to its next wait; false if none may.
bool Executor::run_ready(std::span<const std::size_t> threads) {
  bool ran = false;
  for (const std::size_t i : threads) {
    Fiber& fiber = *fibers_[i];
    if (fiber.wait != Wait::kNone) {
      continue;
    }
    ran = true;
    resume(fiber);
    if (failure_) {
      abort_block();
      std::rethrow_exception(std::exchange(failure_, nullptr));
    }
    if (fiber.wait == Wait::kDone) {
      --live_;
      release_block_barrier();
    }
  }
  return ran;
}

void Executor::abort_block() {
  aborting_ = true;
  for (const auto& fiber : fibers_) {
    while (fiber->wait != Wait::kDone) {
      resume(*fiber);
    }
  }
  aborting_ = false;
}

void Executor::deadlock() const {
  std::string places;
  int listed = 0;
  std::set<std::string> seen;
  for (const auto& fiber : fibers_) {
    if (fiber->wait == Wait::kDone) {
      continue;
    }
    const std::string at = fmt::format("{} in a {} collective", place(fiber->site),
                                       fiber->wait == Wait::kBlock ? "block" : "warp");
    if (seen.insert(at).second && listed++ < 4) {
      places += fmt::format("; thread {} waits at {}", fiber->state.thread_index.x, at);
    }
  }
  const uint3 block = fibers_.front()->state.block_index;
  throw InternalError("{}, block ({}, {}, {}): threads wait for ever{}", launch_.kernel, block.x,
                      block.y, block.z, places);
}

void Executor::run(const Launch& launch, const std::function<void()>& thread) {
  SF_CHECK(current_ == nullptr, "a kernel launched a kernel");
  prepare(launch);
  thread_ = &thread;
  ++settings().launches;
  release(&start_sync_);
  struct AfterAll {  // also when a thread failed
    Executor& executor;
    ~AfterAll() {
      acquire(&executor.end_sync_);
      executor.shared_.clear();
      executor.used_shared_.clear();
    }
  } const after_all{*this};
  const std::size_t blocks = std::size_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  for (std::size_t i = 0; i < blocks; ++i) {
    const bool backwards = settings().schedule == Schedule::kReverse;
    const auto n = static_cast<unsigned>(backwards ? blocks - 1 - i : i);
    start_block(
        {n % launch.grid.x, n / launch.grid.x % launch.grid.y, n / launch.grid.x / launch.grid.y});
    run_block();
  }
}

void Executor::block_barrier(Site site) {
  if (faulty(Fault::Kind::kDropBlockBarrier, site)) {
    return;
  }
  Fiber& fiber = *current_;
  release(&block_sync_);
  {
    const IgnoreAccesses ignore;
    settings().block_barriers.insert(key_of(site));
    fiber.wait = Wait::kBlock;
    fiber.site = site;
    ++waiting_;
    release_block_barrier();
  }
  while (fiber.wait == Wait::kBlock) {
    yield();
  }
  acquire(&block_sync_);
}

// All threads that have not ended wait at the barrier: let them go on.
void Executor::release_block_barrier() {
  const IgnoreAccesses ignore;
  if (waiting_ == 0 || waiting_ < live_) {
    return;
  }
  const std::size_t threads = std::size_t{launch_.block.x} * launch_.block.y * launch_.block.z;
  const Fiber* first = nullptr;
  for (std::size_t i = 0; i < threads; ++i) {
    const Fiber& fiber = *fibers_[i];
    if (fiber.wait == Wait::kDone) {
      continue;
    }
    first = first == nullptr ? &fiber : first;
    if (!same(fiber.site, first->site)) {
      failure_ = std::make_exception_ptr(
          InternalError("{}: thread {} is at the barrier {} while thread {} is at the barrier {}",
                        launch_.kernel, first->state.thread_index.x, place(first->site),
                        fiber.state.thread_index.x, place(fiber.site)));
      return;
    }
  }
  for (std::size_t i = 0; i < threads; ++i) {
    if (fibers_[i]->wait == Wait::kBlock) {
      fibers_[i]->wait = Wait::kNone;
    }
  }
  waiting_ = 0;
}

Exchange Executor::warp_exchange(uint32_t mask, const void* value, std::size_t bytes, Site site,
                                 Collective kind) {
  const bool orders_memory = kind == Collective::kBarrier;
  Fiber& fiber = *current_;
  const std::size_t warp =
      static_cast<std::size_t>((fiber.state.thread_index.x +
                                launch_.block.x * (fiber.state.thread_index.y +
                                                   launch_.block.y * fiber.state.thread_index.z)) /
                               kWarpSize);
  SF_CHECK((mask >> fiber.state.lane & 1u) != 0,
           "{}: lane {} is not in the mask {:#x} of its collective at {}", launch_.kernel,
           fiber.state.lane, mask, place(site));
  if (orders_memory) {
    if (faulty(Fault::Kind::kDropWarpBarrier, site)) {
      return {};
    }
    release(&warp_sync_[warp]);
  }
  {
    const IgnoreAccesses ignore;
    if (kind != Collective::kVote) {  // no matter which lane said what
      (orders_memory ? settings().warp_barriers : settings().shuffles).insert(key_of(site));
    }
    fiber.wait = Wait::kWarp;
    fiber.site = site;
    fiber.mask = mask;
    fiber.exchange_bytes = bytes;
    std::memcpy(fiber.handed_in.data(), value, bytes);
    complete_warp(fiber);
  }
  while (fiber.wait == Wait::kWarp) {
    yield();
  }
  if (orders_memory) {
    acquire(&warp_sync_[warp]);
  }
  return {.mask = mask, .slots = fiber.result, .site = site};
}

// If every lane of the mask has arrived: collects what they handed in and lets them go on.
void Executor::complete_warp(const Fiber& arrived) {
  const std::size_t self = arrived.state.thread_index.x +
                           launch_.block.x * (arrived.state.thread_index.y +
                                              launch_.block.y * arrived.state.thread_index.z);
  const std::size_t base = self / kWarpSize * kWarpSize;
  Warp& warp = warps_[base / kWarpSize];
  warp.waiting |= 1u << arrived.state.lane;
  if ((warp.waiting & arrived.mask) != arrived.mask) {
    return;
  }
  for (std::size_t lane = 0; lane < kWarpSize; ++lane) {
    if ((arrived.mask >> lane & 1u) == 0) {
      continue;
    }
    const Fiber& other = *fibers_[base + lane];
    if (other.wait != Wait::kWarp || other.mask != arrived.mask) {
      return;
    }
    SF_CHECK(same(other.site, arrived.site) && other.exchange_bytes == arrived.exchange_bytes,
             "{}: lanes of one warp meet at different collectives: {} and {}", launch_.kernel,
             place(other.site), place(arrived.site));
  }
  warp.waiting &= ~arrived.mask;
  auto& result = warp.results[warp.next_result];
  warp.next_result = (warp.next_result + 1) % kResultBuffers;
  for (std::size_t lane = 0; lane < kWarpSize; ++lane) {
    if ((arrived.mask >> lane & 1u) != 0) {
      Fiber& other = *fibers_[base + lane];
      std::memcpy(result[lane], other.handed_in.data(), arrived.exchange_bytes);
      other.result = result[0];
      other.wait = Wait::kNone;
    }
  }
}

void* Executor::shared_memory(const void* key, std::size_t bytes, std::size_t alignment) {
  const IgnoreAccesses ignore;
  SharedRegion& region = shared_[key];
  if (!region.memory) {
    // Exactly the bytes asked for, so that AddressSanitizer sees what lies beyond.
    region = {.memory = std::make_unique<std::byte[]>(bytes + alignment),
              .bytes = bytes,
              .alignment = alignment,
              .fresh = true};
  }
  SF_CHECK(region.bytes == bytes, "shared memory of two sizes under one key");
  if (region.fresh) {
    std::memset(region.data(), 0xFF, bytes);
    region.fresh = false;
  }
  return region.data();
}

void* Executor::dynamic_shared_memory(std::size_t* bytes) {
  if (bytes != nullptr) {
    *bytes = launch_.dynamic_shared_bytes;
  }
  return shared_memory(this, launch_.dynamic_shared_bytes, 128);
}

void perform(const std::vector<PendingCopy>& copies) {
  for (const PendingCopy& copy : copies) {
    std::memcpy(copy.to, copy.from, copy.bytes);
    std::memset(copy.to + copy.bytes, 0, copy.total - copy.bytes);
  }
}

}  // namespace

const ThreadState& this_thread() { return executor().this_thread(); }
void block_barrier(Site site) { executor().block_barrier(site); }

BlockVote block_vote(bool predicate, Site site) {
  static const char key = 0;
  const ThreadState& self = executor().this_thread();
  auto* count = static_cast<int*>(executor().shared_memory(&key, sizeof(int), alignof(int)));
  const dim3 size = self.block_dim;
  const bool first =
      self.thread_index.x == 0 && self.thread_index.y == 0 && self.thread_index.z == 0;
  if (first) {
    *count = 0;
  }
  executor().block_barrier(site);
  atomic_add(count, predicate ? 1 : 0);
  executor().block_barrier(site);
  const int total = *count;
  executor().block_barrier(site);
  return {.any = total > 0 ? 1 : 0,
          .all = total == static_cast<int>(size.x * size.y * size.z) ? 1 : 0,
          .count = total};
}

Exchange warp_exchange(uint32_t mask, const void* value, std::size_t bytes, Site site) {
  return executor().warp_exchange(mask, value, bytes, site, Collective::kShuffle);
}
uint32_t warp_vote(uint32_t mask, bool predicate, Site site) {
  const char mine = predicate ? 1 : 0;
  const Exchange all = executor().warp_exchange(mask, &mine, 1, site, Collective::kVote);
  uint32_t yes = 0;
  for (int lane = 0; lane < kWarpSize; ++lane) {
    if ((mask >> lane & 1u) != 0 && static_cast<char>(*all.lane(lane)) != 0) {
      yes |= 1u << lane;
    }
  }
  return yes;
}
void warp_barrier(uint32_t mask, Site site) {
  const char nothing = 0;
  executor().warp_exchange(mask, &nothing, 1, site, Collective::kBarrier);
}

const std::byte* Exchange::lane(int lane) const {
  const int from = faulty(Fault::Kind::kWrongLane, site) ? (lane + 1) % kWarpSize : lane;
  SF_CHECK(from >= 0 && from < kWarpSize && (mask >> from & 1u) != 0,
           "lane {} is read, but takes no part in the collective at {}", from, place(site));
  return slots + static_cast<std::size_t>(from) * kExchangeBytes;
}

int shuffle_source(int lane, int source, int width) {
  return source / width == lane / width && source >= 0 ? source : lane;
}

void* shared_memory(const void* key, std::size_t bytes, std::size_t alignment) {
  return executor().shared_memory(key, bytes, alignment);
}
void* dynamic_shared_memory(std::size_t* bytes) { return executor().dynamic_shared_memory(bytes); }

void async_copy(void* to, const void* from, std::size_t bytes, std::size_t total) {
  std::memset(to, 0xFF, total);  // who reads before the wait reads this
  executor().fiber().uncommitted.push_back(
      {static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes, total});
}
void async_commit() {
  Fiber& fiber = executor().fiber();
  fiber.committed.push_back(std::move(fiber.uncommitted));
  fiber.uncommitted.clear();
}
void async_wait(int groups_left) {
  auto& groups = executor().fiber().committed;
  while (groups.size() > static_cast<std::size_t>(groups_left)) {
    perform(groups.front());
    groups.erase(groups.begin());
  }
}

void set_schedule(Schedule schedule, uint64_t seed) {
  finish_all_queues();
  settings().schedule = schedule;
  settings().random.seed(seed);
}
void set_fault(const Fault& fault) {
  finish_all_queues();
  settings().fault = fault;
}

Sites take_sites() {
  finish_all_queues();
  Settings& s = settings();
  const auto list = [](std::set<std::pair<std::string_view, unsigned>>& set) {
    std::vector<std::string> sites;
    for (const auto& [path, line] : set) {
      sites.push_back(fmt::format("{}:{}", path.substr(path.rfind('/') + 1), line));
    }
    set.clear();
    return sites;
  };
  return {list(s.block_barriers), list(s.warp_barriers), list(s.shuffles)};
}

void set_device_hooks(const DeviceHooks& hooks) { device_hooks() = hooks; }

DeviceWork::DeviceWork() {
  if (device_hooks().begin != nullptr) {
    device_hooks().begin();
  }
}
DeviceWork::~DeviceWork() {
  if (device_hooks().end != nullptr) {
    device_hooks().end();
  }
}

void check_argument(const char* kernel, const void* argument, std::size_t bytes) {
  if (device_hooks().check_argument != nullptr) {
    device_hooks().check_argument(kernel, argument, bytes);
  }
}

void run(const Launch& launch, const std::function<void()>& thread) {
  const DeviceWork work;
  executor().run(launch, thread);
}

int64_t launches() { return settings().launches; }

}  // namespace stemfabric::simt
