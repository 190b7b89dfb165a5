#include "tests/support/thread_ranks.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "runtime/core/check.h"

namespace stemfabric::test {
namespace {

using Bytes = std::vector<std::byte>;
using Parts = std::vector<Bytes>;  // by rank
constexpr int kSums = 0;
constexpr int kGathers = 1;

Bytes copied(const void* data, int64_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  return {bytes, bytes + size};
}

int64_t offset(std::span<const int64_t> bytes, int rank) {
  return std::accumulate(bytes.begin(), bytes.begin() + rank, int64_t{0});
}

void place(void* to, int64_t at, const Bytes& bytes) {
  if (!bytes.empty()) {
    std::memcpy(static_cast<std::byte*>(to) + at, bytes.data(), bytes.size());
  }
}

template <typename T>
void add(void* to, const Bytes& part) {
  for (std::size_t i = 0; i < part.size() / sizeof(T); ++i) {
    T value{};
    std::memcpy(&value, part.data() + i * sizeof(T), sizeof(T));
    static_cast<T*>(to)[i] += value;
  }
}

}  // namespace

// What each rank gave to operation n of a row, until all have taken the result.
struct ThreadRanks::Hub {
  struct Slot {
    Parts parts;
    int arrived = 0;
    int taken = 0;
  };
  explicit Hub(int ranks)
      : size(ranks),
        heard(static_cast<std::size_t>(ranks), -1),
        unheard(static_cast<std::size_t>(ranks)) {}
  int size;
  std::mutex mutex;
  std::array<std::map<int64_t, Slot>, 2> rows;
  std::vector<int64_t> heard;
  std::vector<int64_t> unheard;
};

class ThreadRanks::RankTransport final : public Transport {
 public:
  RankTransport(std::shared_ptr<Hub> hub, int rank) : hub_(std::move(hub)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return hub_->size; }

  Request all_reduce(void* data, int64_t elements, DType type) override {
    const int64_t bytes = elements * static_cast<int64_t>(dtype_size(type));
    // In the order of the ranks, the last first: another one than that of ordered sums.
    return start(kSums, copied(data, bytes), [=](const Parts& parts) {
      place(data, 0, parts.back());
      for (auto part = parts.rbegin() + 1; part != parts.rend(); ++part) {
        type == DType::kF32   ? add<float>(data, *part)
        : type == DType::kF64 ? add<double>(data, *part)
                              : add<int64_t>(data, *part);
      }
    });
  }

  Request exchange(const void* send, std::span<const int64_t> bytes, void* receive) override {
    const int64_t begin = offset(bytes, rank_);
    const int64_t mine = bytes[static_cast<std::size_t>(rank_)];
    return start(kSums, copied(send, offset(bytes, hub_->size)), [=](const Parts& parts) {
      for (std::size_t r = 0; r < parts.size(); ++r) {
        place(receive, static_cast<int64_t>(r) * mine, copied(parts[r].data() + begin, mine));
      }
    });
  }

  Request all_gather(void* data, std::span<const int64_t> bytes) override {
    const std::vector<int64_t> sizes(bytes.begin(), bytes.end());
    const auto* mine = static_cast<const std::byte*>(data) + offset(sizes, rank_);
    return start(kGathers, copied(mine, sizes[static_cast<std::size_t>(rank_)]),
                 [=](const Parts& parts) {
                   for (std::size_t r = 0; r < parts.size(); ++r) {
                     place(data, offset(sizes, static_cast<int>(r)), parts[r]);
                   }
                 });
  }

  Request broadcast(void* data, int64_t bytes) override {
    return start(kGathers, rank_ == 0 ? copied(data, bytes) : Bytes(),
                 [=](const Parts& parts) { place(data, 0, parts.front()); });
  }

  bool test(Request request) override {
    auto* operation = static_cast<Operation*>(request);
    const std::lock_guard lock(hub_->mutex);
    auto& row = hub_->rows[operation->row];
    Hub::Slot& slot = row.at(operation->number);
    if (slot.arrived < hub_->size) {
      return false;
    }
    operation->finish(slot.parts);
    if (++slot.taken == hub_->size) {
      row.erase(operation->number);
    }
    std::erase_if(operations_, [&](const auto& kept) { return kept.get() == operation; });
    return true;
  }

  void tell(int64_t sequence) override {
    const std::lock_guard lock(hub_->mutex);
    hub_->heard[static_cast<std::size_t>(rank_)] = sequence;
    for (std::size_t r = 0; r < hub_->unheard.size(); ++r) {
      hub_->unheard[r] += static_cast<int>(r) == rank_ ? 0 : 1;
    }
  }
  int64_t heard(int rank) override {
    const std::lock_guard lock(hub_->mutex);
    hub_->unheard[static_cast<std::size_t>(rank_)] = 0;
    return hub_->heard[static_cast<std::size_t>(rank)];
  }

 private:
  struct Operation {
    std::size_t row;
    int64_t number;
    std::function<void(const Parts&)> finish;
  };
  Request start(std::size_t row, Bytes mine, std::function<void(const Parts&)> finish) {
    operations_.push_back(
        std::make_unique<Operation>(Operation{row, next_[row]++, std::move(finish)}));
    const std::lock_guard lock(hub_->mutex);
    Hub::Slot& slot = hub_->rows[row][operations_.back()->number];
    slot.parts.resize(static_cast<std::size_t>(hub_->size));
    slot.parts[static_cast<std::size_t>(rank_)] = std::move(mine);
    ++slot.arrived;
    return operations_.back().get();
  }

  std::shared_ptr<Hub> hub_;
  int rank_;
  std::array<int64_t, 2> next_{};
  std::vector<std::unique_ptr<Operation>> operations_;
};

ThreadRanks::ThreadRanks(int size) : hub_(std::make_shared<Hub>(size)) {}
ThreadRanks::~ThreadRanks() = default;

std::unique_ptr<Transport> ThreadRanks::transport(int rank) {
  return std::make_unique<RankTransport>(hub_, rank);
}

int64_t ThreadRanks::unheard(int rank) const {
  const std::lock_guard lock(hub_->mutex);
  return hub_->unheard[static_cast<std::size_t>(rank)];
}

void run_on_ranks(int size, const Collectives::Options& options,
                  const std::function<void(Collectives&)>& body) {
  ThreadRanks ranks(size);
  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  for (int r = 0; r < size; ++r) {
    threads.emplace_back([&, r] {
      try {
        Collectives mine(ranks.transport(r), options);
        body(mine);
      } catch (...) {
        failures[static_cast<std::size_t>(r)] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const std::exception_ptr& failure : failures) {
    if (failure) {
      std::rethrow_exception(failure);
    }
  }
}

}  // namespace stemfabric::test
