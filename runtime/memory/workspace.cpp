#include "runtime/memory/workspace.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

constexpr std::size_t kSmallestBlock = std::size_t{64} << 10;
constexpr std::size_t kLargestGuess = std::size_t{64} << 20;

}  // namespace

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
    before_ += offset_;
    offset_ = 0;
    ++block_;
  }
  if (block_ == blocks_.size()) {
    const std::size_t guess = blocks_.empty() ? most_ : std::min(2 * capacity(), kLargestGuess);
    blocks_.emplace_back(resource_, std::max({size, guess, kSmallestBlock}), "op workspace");
    ++generation_;
  }
  void* pointer = static_cast<std::byte*>(blocks_[block_].data()) + offset_;
  offset_ += size;
  most_ = std::max(most_, before_ + offset_);
  return pointer;
}

void Workspace::release(Mark mark) {
  block_ = mark.block;
  offset_ = mark.offset;
  before_ = mark.before;
  // Back at the bottom with several blocks: the next call gets one.
  if (block_ == 0 && offset_ == 0 && blocks_.size() > 1) {
    blocks_.clear();
    ++generation_;
    try {
      blocks_.emplace_back(resource_, std::max(most_, kSmallestBlock), "op workspace");
    } catch (const Error&) {
      // Not here, at the end of a call: the next one asks again.
    }
  }
}

}  // namespace stemfabric
