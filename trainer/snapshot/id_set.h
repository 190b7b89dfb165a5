// A set of 128-bit hashes in open addressing: 16 bytes a slot, at most two thirds full.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace stemfabric {

class IdSet {
 public:
  using Key = std::array<uint64_t, 2>;

  // True if the key was not there yet.
  bool insert(const Key& key) {
    if (key == Key{}) {  // the mark of an empty slot
      const bool fresh = !has_zero_;
      has_zero_ = true;
      return fresh;
    }
    if (size_ * 3 >= slots_.size() * 2) {
      grow();
    }
    Key& slot = find(slots_, key);
    if (slot == key) {
      return false;
    }
    slot = key;
    ++size_;
    return true;
  }

 private:
  static Key& find(std::vector<Key>& slots, const Key& key) {
    std::size_t at = key[0] & (slots.size() - 1);
    while (slots[at] != Key{} && slots[at] != key) {
      at = (at + 1) & (slots.size() - 1);
    }
    return slots[at];
  }
  void grow() {
    std::vector<Key> larger(slots_.size() * 2);
    for (const Key& key : slots_) {
      if (key != Key{}) {
        find(larger, key) = key;
      }
    }
    slots_.swap(larger);
  }

  std::vector<Key> slots_ = std::vector<Key>(1024);
  std::size_t size_ = 0;
  bool has_zero_ = false;
};

}  // namespace stemfabric
