#include "runtime/memory/arena.h"

#include <algorithm>
#include <numeric>

namespace stemfabric {

ArenaPlan::Id ArenaPlan::add(std::string name, const Shape& shape, DType dtype, int first,
                             int last) {
  SF_CHECK(!finished_, "arena tensor {} declared after finish()", name);
  SF_CHECK(first <= last, "arena tensor {} dies at step {} before it is born at {}", name, last,
           first);
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * dtype_size(dtype);
  const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  entries_.push_back({std::move(name), shape, dtype, first, last, rounded});
  return static_cast<Id>(entries_.size()) - 1;
}

// Greedy by size: the largest tensors first, each at the lowest offset that is free for its whole
// life. Near-optimal for nested lifetimes such as those of a forward and backward pass.
void ArenaPlan::finish() {
  SF_CHECK(!finished_, "arena planned twice");
  std::vector<std::size_t> order(entries_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::greater{}, [&](std::size_t i) { return entries_[i].bytes; });
  std::vector<const Entry*> placed;  // by offset
  for (std::size_t i : order) {
    Entry& e = entries_[i];
    std::size_t offset = 0;
    for (const Entry* other : placed) {
      const bool alive_together = e.first <= other->last && other->first <= e.last;
      if (!alive_together) {
        continue;
      }
      if (offset + e.bytes <= other->offset) {
        break;
      }
      offset = std::max(offset, other->offset + other->bytes);
    }
    e.offset = offset;
    bytes_ = std::max(bytes_, offset + e.bytes);
    placed.insert(std::ranges::upper_bound(placed, offset, {}, &Entry::offset), &e);
  }
  finished_ = true;
}

std::size_t ArenaPlan::unshared_bytes() const {
  std::size_t sum = 0;
  for (const Entry& e : entries_) {
    sum += e.bytes;
  }
  return sum;
}

std::size_t ArenaPlan::lower_bound_bytes() const {
  std::size_t most = 0;
  for (const Entry& at : entries_) {
    std::size_t alive = 0;
    for (const Entry& e : entries_) {
      alive += e.first <= at.first && at.first <= e.last ? e.bytes : 0;
    }
    most = std::max(most, alive);
  }
  return most;
}

const ArenaPlan::Entry& ArenaPlan::entry(Id id) const {
  SF_CHECK(id >= 0 && static_cast<std::size_t>(id) < entries_.size(), "arena has no tensor {}", id);
  return entries_[static_cast<std::size_t>(id)];
}

Arena::Arena(ArenaPlan plan, MemoryResource& resource, const char* purpose)
    : plan_(std::move(plan)), buffer_(resource, plan_.bytes(), purpose) {
  SF_CHECK(plan_.finished_, "arena built from an unfinished plan");
}

TensorView Arena::view(ArenaPlan::Id id) const {
  const auto& e = plan_.entry(id);
  return {static_cast<std::byte*>(buffer_.data()) + e.offset, e.dtype, e.shape};
}

}  // namespace stemfabric
