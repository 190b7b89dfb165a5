#include "runtime/memory/workspace.h"

#include <algorithm>

namespace stemfabric {

std::size_t Workspace::capacity() const {
  std::size_t sum = 0;
  for (const auto& block : blocks_) {
    sum += block.bytes();
  }
  return sum;
}

void* Workspace::take(std::size_t bytes) {
  const std::size_t size = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  while (block_ < blocks_.size() && offset_ + size > blocks_[block_].bytes()) {
    ++block_;
    offset_ = 0;
  }
  if (block_ == blocks_.size()) {
    const std::size_t grown = std::max({size, 2 * capacity(), std::size_t{1} << 16});
    blocks_.emplace_back(resource_, grown, "op workspace");
    ++generation_;
    offset_ = 0;
  }
  void* pointer = static_cast<std::byte*>(blocks_[block_].data()) + offset_;
  offset_ += size;
  return pointer;
}

void Workspace::release(Mark mark) {
  block_ = mark.block;
  offset_ = mark.offset;
  // Back at the bottom with several blocks: keep only the largest, so that memory does not stay
  // at the sum of all growth steps.
  if (block_ == 0 && offset_ == 0 && blocks_.size() > 1) {
    blocks_.erase(blocks_.begin(), blocks_.end() - 1);
    ++generation_;
  }
}

}  // namespace stemfabric
