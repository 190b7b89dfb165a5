// One block with planned addresses. Tensors are declared with the steps between which they live;
// the planner places those that never live at the same time over each other. Addresses are fixed
// for the life of the arena, as graph capture needs.
#pragma once

#include <string>
#include <vector>

#include "runtime/memory/buffer.h"

namespace stemfabric {

class ArenaPlan {
 public:
  using Id = int;

  // The tensor is written at step `first` and last read at step `last` (both inclusive).
  Id add(std::string name, const Shape& shape, DType dtype, int first, int last);
  // Chooses the offsets; call once after all add().
  void finish();

  std::size_t bytes() const { return bytes_; }  // size of the block
  std::size_t unshared_bytes() const;           // what it would be without sharing
  std::size_t lower_bound_bytes() const;        // most bytes alive at any one step
  std::size_t offset(Id id) const { return entry(id).offset; }
  const std::string& name(Id id) const { return entry(id).name; }

 private:
  friend class Arena;
  struct Entry {
    std::string name;
    Shape shape;
    DType dtype;
    int first;
    int last;
    std::size_t bytes;
    std::size_t offset = 0;
  };
  const Entry& entry(Id id) const;
  std::vector<Entry> entries_;
  std::size_t bytes_ = 0;
  bool finished_ = false;
};

class Arena {
 public:
  Arena(ArenaPlan plan, MemoryResource& resource, const char* purpose);
  TensorView view(ArenaPlan::Id id) const;
  const ArenaPlan& plan() const { return plan_; }

 private:
  ArenaPlan plan_;
  Buffer buffer_;
};

}  // namespace stemfabric
