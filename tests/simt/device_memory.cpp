#include "tests/simt/device_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <map>
#include <mutex>

#include "kernels/simt/executor.h"
#include "kernels/simt/queue.h"
#include "runtime/core/check.h"

namespace stemfabric::test {
namespace {

constexpr std::size_t kRangeBytes = std::size_t{1} << 30;

void begin_work();
void end_work();
void check_argument(const char* kernel, const void* argument, std::size_t bytes);
void explain_fault(int signal, siginfo_t* info, void* context);

// Addresses are given out once each until the range is used up, so that a block that was released
// stays out of reach; then from the start again where there is room.
class Range {
 public:
  Range() {
    base_ = static_cast<std::byte*>(::mmap(nullptr, kRangeBytes, PROT_NONE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    SF_CHECK(base_ != MAP_FAILED, "no addresses for the memory of the test's device");
    simt::set_device_hooks({begin_work, end_work, check_argument});
    struct sigaction action = {};
    action.sa_sigaction = explain_fault;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGSEGV, &action, &previous_);
  }

  void* take(std::size_t bytes, const char* purpose) {
    const std::lock_guard lock(mutex_);
    const std::size_t size = (bytes / kAlignment + 2) * kAlignment;  // a gap after each block
    if (!fits(next_, size)) {
      next_ = 0;
      for (const auto& [offset, block] : blocks_) {
        if (fits(next_, size)) {
          break;
        }
        next_ = offset + block.bytes;
      }
      if (!fits(next_, size)) {
        throw OutOfMemoryError("out of device memory: {} asked for {} bytes", purpose, bytes);
      }
    }
    blocks_[next_] = {size, purpose};
    void* pointer = base_ + next_;
    next_ += size;
    return pointer;
  }
  void give_back(void* pointer) {
    const std::lock_guard lock(mutex_);
    blocks_.erase(static_cast<std::size_t>(static_cast<std::byte*>(pointer) - base_));
  }

  void allow(bool yes) const {
    ::mprotect(base_, kRangeBytes, yes ? PROT_READ | PROT_WRITE : PROT_NONE);
  }
  bool contains(const void* address) const {
    return address >= base_ && address < base_ + kRangeBytes;
  }
  // The owner of the block at an address, for a message.
  const char* purpose_at(const void* address) const {
    const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(address) - base_);
    auto after = blocks_.upper_bound(offset);
    if (after == blocks_.begin()) {
      return "nothing";
    }
    --after;
    return offset < after->first + after->second.bytes ? after->second.purpose
                                                       : "a block that was given back";
  }
  const struct sigaction& previous() const { return previous_; }

 private:
  struct Block {
    std::size_t bytes;
    const char* purpose;
  };
  bool fits(std::size_t offset, std::size_t size) const {
    const auto after = blocks_.lower_bound(offset);
    return offset + size <= (after == blocks_.end() ? kRangeBytes : after->first);
  }

  std::byte* base_;
  std::size_t next_ = 0;
  std::map<std::size_t, Block> blocks_;
  std::mutex mutex_;
  struct sigaction previous_ = {};
};

Range& range() {
  static auto* const range = new Range;  // blocks may outlive every other static object
  return *range;
}

std::mutex work_mutex;
int works = 0;  // that run now; they may nest

void begin_work() {
  const std::lock_guard lock(work_mutex);
  if (works++ == 0) {
    range().allow(true);
  }
}

void end_work() {
  const std::lock_guard lock(work_mutex);
  if (--works == 0) {
    range().allow(false);
  }
}

// Whether a word is an address of this program's heap, stacks or libraries (x86-64 and AArch64
// Linux). Arguments hold other words too, sizes and pairs of numbers: what lies in that range by
// chance is hardly ever the address of a page that exists.
bool is_host_address(uint64_t word) {
  if (word < 0x5000'0000'0000 || word > 0xFFFF'FFFF'FFFF ||
      range().contains(reinterpret_cast<const void*>(word))) {
    return false;
  }
  static const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  unsigned char resident = 0;
  return ::mincore(reinterpret_cast<void*>(word / page * page), 1, &resident) == 0;
}

void check_argument(const char* kernel, const void* argument, std::size_t bytes) {
  for (std::size_t at = 0; at + sizeof(uint64_t) <= bytes; at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, static_cast<const std::byte*>(argument) + at, sizeof word);
    SF_CHECK(!is_host_address(word),
             "{} was given {:#x}, which is no address of the device's memory", kernel, word);
  }
}

// Runs in a signal handler: writes, and nothing else.
void say(const char* text) {
  const auto written = ::write(STDERR_FILENO, text, std::strlen(text));
  static_cast<void>(written);
}

void explain_fault(int signal, siginfo_t* info, void* context) {
  if (range().contains(info->si_addr)) {
    say("the host touched memory of the device, outside of any device work: block \"");
    say(range().purpose_at(info->si_addr));
    say("\"\n");
    ::signal(SIGABRT, SIG_DFL);
    ::abort();
  }
  const struct sigaction& previous = range().previous();
  if ((previous.sa_flags & SA_SIGINFO) != 0 && previous.sa_sigaction != nullptr) {
    previous.sa_sigaction(signal, info, context);
    return;
  }
  ::signal(signal, SIG_DFL);  // the fault comes again and ends the program
}

}  // namespace

void* SimtDeviceMemory::allocate(std::size_t bytes, const char* purpose) {
  SF_CHECK(!simt::any_queue_captures(), "{} asked for memory while work is captured", purpose);
  const auto size = static_cast<int64_t>(bytes);
  if (limit_ > 0 && used_ + size > limit_) {
    throw OutOfMemoryError("out of device memory: {} asked for {} bytes; {} of {} bytes are in use",
                           purpose, bytes, used_, limit_);
  }
  void* pointer = range().take(bytes, purpose);
  used_ += size;
  const simt::DeviceWork work;
  std::memset(pointer, 0xFF, bytes);
  return pointer;
}

// As cudaFree does, it waits for all work of the device.
void SimtDeviceMemory::deallocate(void* pointer, std::size_t bytes) noexcept {
  simt::finish_all_queues_later();
  range().give_back(pointer);
  used_ -= static_cast<int64_t>(bytes);
}

int64_t SimtDeviceMemory::available_bytes() const {
  return (limit_ > 0 ? limit_ : static_cast<int64_t>(kRangeBytes)) - used_;
}

}  // namespace stemfabric::test
