// Scratch memory of ops: a stack that grows to the largest need and is then reused for ever. A call
// that needs more than any before takes it in pieces; the next one gets it whole, and no more.
// An op opens a scope, takes blocks, and gives them all back when the scope ends:
//   WorkspaceScope scope(ctx.workspace());
//   float* row = scope.take<float>(n);
// Blocks are 64-byte aligned. One thread at a time: take before starting parallel tasks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/memory/buffer.h"

namespace stemfabric {

class Workspace {
 public:
  explicit Workspace(MemoryResource& resource) : resource_(resource) {}
  std::size_t capacity() const;  // bytes held
  // Grows whenever memory was taken or given back: what was captured before then must not be done
  // again.
  int64_t generation() const { return generation_; }

 private:
  friend class WorkspaceScope;
  struct Mark {
    std::size_t block, offset, before;
  };
  void* take(std::size_t bytes);
  void release(Mark mark);

  MemoryResource& resource_;
  std::vector<Buffer> blocks_;  // a new block when the current one is full; never moved
  std::size_t block_ = 0;
  std::size_t offset_ = 0;
  std::size_t before_ = 0;  // bytes in use of the blocks before this one
  std::size_t most_ = 0;    // largest number of bytes in use so far
  int64_t generation_ = 0;
};

class WorkspaceScope {
 public:
  explicit WorkspaceScope(Workspace& workspace)
      : workspace_(workspace), mark_{workspace.block_, workspace.offset_, workspace.before_} {}
  ~WorkspaceScope() { workspace_.release(mark_); }
  WorkspaceScope(const WorkspaceScope&) = delete;
  WorkspaceScope& operator=(const WorkspaceScope&) = delete;

  template <typename T>
  T* take(int64_t count) {
    return static_cast<T*>(workspace_.take(static_cast<std::size_t>(count) * sizeof(T)));
  }

 private:
  Workspace& workspace_;
  Workspace::Mark mark_;
};

}  // namespace stemfabric
