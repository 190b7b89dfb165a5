// Tells AddressSanitizer, and ThreadSanitizer if SF_TSAN_FIBERS=1, about fibers.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if SF_TSAN_FIBERS
#include <sanitizer/tsan_interface.h>
// NOLINTBEGIN(readability-identifier-naming): names of the run-time library
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
// NOLINTEND(readability-identifier-naming)
#endif

namespace stemfabric::simt {

// Memory order: what happened before a release() is visible after an acquire() of the same address.
inline void release([[maybe_unused]] void* address) {
#if SF_TSAN_FIBERS
  __tsan_release(address);
#endif
}
inline void acquire([[maybe_unused]] void* address) {
#if SF_TSAN_FIBERS
  __tsan_acquire(address);
#endif
}

// The executor's own bookkeeping is no part of what is checked.
class IgnoreAccesses {
 public:
#if SF_TSAN_FIBERS
  IgnoreAccesses() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~IgnoreAccesses() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
#else
  IgnoreAccesses() {}   // NOLINT(modernize-use-equals-default): used as a guard
  ~IgnoreAccesses() {}  // NOLINT(modernize-use-equals-default)
#endif
  IgnoreAccesses(const IgnoreAccesses&) = delete;
  IgnoreAccesses& operator=(const IgnoreAccesses&) = delete;
};

class FiberSanitizer;

// The side that all fibers are resumed from.
class SchedulerSanitizer {
 public:
  void leaving(FiberSanitizer& to);
  void back() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
#endif
  }

 private:
  friend class FiberSanitizer;
  void* fake_stack_ = nullptr;
  const void* bottom_ = nullptr;  // of the scheduler's stack, learned by the fibers
  std::size_t size_ = 0;
  void* tsan_ = nullptr;
};

class FiberSanitizer {
 public:
  FiberSanitizer() = default;
  ~FiberSanitizer() {
#if SF_TSAN_FIBERS
    if (tsan_ != nullptr) {
      __tsan_destroy_fiber(tsan_);
    }
#endif
  }
  FiberSanitizer(const FiberSanitizer&) = delete;
  FiberSanitizer& operator=(const FiberSanitizer&) = delete;

  void prepare(const void* bottom, std::size_t size) {
    bottom_ = bottom;
    size_ = size;
#if SF_TSAN_FIBERS
    if (tsan_ == nullptr) {
      tsan_ = __tsan_create_fiber(0);
    }
#endif
  }
  void entered([[maybe_unused]] SchedulerSanitizer& from) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &from.bottom_, &from.size_);
#endif
  }
  void leaving([[maybe_unused]] SchedulerSanitizer& to) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&fake_stack_, to.bottom_, to.size_);
#endif
#if SF_TSAN_FIBERS
    __tsan_switch_to_fiber(to.tsan_, __tsan_switch_to_fiber_no_sync);
#endif
  }
  void leaving_for_ever([[maybe_unused]] SchedulerSanitizer& to) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(nullptr, to.bottom_, to.size_);
#endif
#if SF_TSAN_FIBERS
    __tsan_switch_to_fiber(to.tsan_, __tsan_switch_to_fiber_no_sync);
#endif
  }
  void back([[maybe_unused]] SchedulerSanitizer& from) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack_, &from.bottom_, &from.size_);
#endif
  }

 private:
  friend class SchedulerSanitizer;
  void* fake_stack_ = nullptr;
  const void* bottom_ = nullptr;
  std::size_t size_ = 0;
  void* tsan_ = nullptr;
};

inline void SchedulerSanitizer::leaving([[maybe_unused]] FiberSanitizer& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fake_stack_, to.bottom_, to.size_);
#endif
#if SF_TSAN_FIBERS
  tsan_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.tsan_, __tsan_switch_to_fiber_no_sync);
#endif
}

}  // namespace stemfabric::simt
