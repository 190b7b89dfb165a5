#include "runtime/collectives/collectives.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>

#include "runtime/core/bf16.h"
#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/memory/buffer.h"

namespace stemfabric {
namespace {

using Clock = std::chrono::steady_clock;

// Waiting: at first the thread only gives way, then it sleeps, so that ranks which share a core do
// not take it from the one that they wait for.
constexpr int kYields = 64;
constexpr std::chrono::microseconds kNap{50};
// After this long a rank tells the others what it waits for.
constexpr std::chrono::milliseconds kPatience{200};
// And after a stop signal this long passes before the log says what it came into.
constexpr std::chrono::milliseconds kNotice{300};

template <typename T>
void add_to(void* sum, const void* part, int64_t elements) {
  auto* to = static_cast<T*>(sum);
  const auto* from = static_cast<const T*>(part);
  for (int64_t i = 0; i < elements; ++i) {
    to[i] += from[i];
  }
}

void add(void* sum, const void* part, int64_t elements, DType type) {
  switch (type) {
    case DType::kF32:
      return add_to<float>(sum, part, elements);
    case DType::kF64:
      return add_to<double>(sum, part, elements);
    case DType::kI64:
      return add_to<int64_t>(sum, part, elements);
    default:
      throw InternalError("sums over ranks of {}", dtype_name(type));
  }
}

// sum = Σ over ranks of parts, which follow each other, rounded once.
void add_bf16(void* sum, const void* parts, int64_t ranks, int64_t elements) {
  auto* to = static_cast<Bf16*>(sum);
  const auto* from = static_cast<const Bf16*>(parts);
  for (int64_t i = 0; i < elements; ++i) {
    float total = 0;
    for (int64_t r = 0; r < ranks; ++r) {
      total += from_bf16(from[r * elements + i]);
    }
    to[i] = to_bf16(total);
  }
}

int64_t total(std::span<const int64_t> bytes) {
  int64_t sum = 0;
  for (const int64_t n : bytes) {
    sum += n;
  }
  return sum;
}

class Done final : public Collectives::Pending {
 public:
  bool test() override { return true; }
  void wait() override {}
};

}  // namespace

// One operation of the transport, waited for with the time limit.
class Collectives::Operation {
 public:
  Operation(Collectives& ranks, Transport::Request request, int64_t sequence, std::string what)
      : ranks_(ranks), request_(request), sequence_(sequence), what_(std::move(what)) {}

  const std::string& what() const { return what_; }

  bool test() {
    return ranks_.ask([this] { return test_transport(); }, [this] { return what_; });
  }
  void wait() {
    ranks_.wait_until(
        sequence_, [this] { return test_transport(); }, [this] { return what_; });
  }

 private:
  bool test_transport() {
    done_ = done_ || ranks_.transport_->test(request_);
    return done_;
  }

  Collectives& ranks_;
  Transport::Request request_;
  int64_t sequence_;
  std::string what_;
  bool done_ = false;
};

bool Collectives::ask(const std::function<bool()>& done,
                      const std::function<std::string()>& what) const {
  try {
    return done();
  } catch (const CollectiveError& error) {
    throw CollectiveError("rank {} of {}, in the collective '{}': {}", rank_, size_, what(),
                          error.what());
  }
}

std::string Collectives::late(int64_t place, const char* of_one, const char* of_several) const {
  std::string names;
  int count = 0;
  for (int r = 0; r < size_; ++r) {
    if (r != rank_ && transport_->heard(r) < place) {
      names += fmt::format("{}{}", count++ == 0 ? "" : ", ", r);
    }
  }
  if (count == 0) {
    return "messages, though every rank waits too: the network between them does not deliver";
  }
  return count == 1 ? fmt::format("rank {}{}", names, of_one)
                    : fmt::format("ranks {}{}", names, of_several);
}

void Collectives::wait_until(int64_t place, const std::function<bool()>& done,
                             const std::function<std::string()>& what) {
  const auto limit = std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(options_.timeout_s));
  const auto begin = Clock::now();
  std::optional<Clock::time_point> stopped;
  bool told = alone();
  bool noticed = false;
  for (int turn = 0; !ask(done, what); ++turn) {
    if (turn < kYields) {
      std::this_thread::yield();
      continue;
    }
    std::this_thread::sleep_for(kNap);
    const auto now = Clock::now();
    if (!told && now - begin > std::min<Clock::duration>(kPatience, limit / 2)) {
      transport_->tell(place);
      told = true;
    }
    if (now - begin > limit) {
      throw CollectiveError(
          "rank {} of {} waited {:.4g} s (distributed.timeout_s) in the collective '{}' for {}; "
          "the last checkpoint is whole, the same command goes on from it",
          rank_, size_, options_.timeout_s, what(),
          late(place, ", which died or hangs, or to which the network is cut",
               ", which died or hang, or to which the network is cut"));
    }
    if (!noticed && options_.interrupted && options_.interrupted()) {
      stopped = stopped.value_or(now);
      if (now - *stopped > kNotice) {
        log_warning("told to end while rank {} waits in the collective '{}' for {}", rank_, what(),
                    late(place, "", ""));
        noticed = true;
      }
    }
  }
  if (!alone()) {
    // Takes what late waiters told meanwhile, so that it does not pile up in the transport.
    transport_->heard(rank_);
  }
}

// In the transport's order.
class Collectives::Sum final : public Pending {
 public:
  Sum(Collectives& ranks, const TensorView& data, std::string what)
      : sum_(ranks, ranks.transport_->all_reduce(data.data(), data.elements(), data.dtype()),
             ranks.next(), std::move(what)) {}
  bool test() override { return sum_.test(); }
  void wait() override { sum_.wait(); }

 private:
  Operation sum_;
};

// Each rank receives everyone's part of its own segment, adds them in the order of the ranks, and
// the sums are gathered: as many bytes as a ring takes, and two latencies.
class Collectives::OrderedSum final : public Pending {
 public:
  OrderedSum(Collectives& ranks, const TensorView& data, std::string what)
      : ranks_(ranks),
        data_(data),
        bytes_(ranks.segments(data.elements(), dtype_size(data.dtype()))),
        mine_(static_cast<std::byte*>(data.data()) +
              total(std::span(bytes_).first(static_cast<std::size_t>(ranks.rank_)))),
        parts_(host_resource(), static_cast<std::size_t>(ranks.size_ * my_bytes()),
               "parts of a sum"),
        sequence_(ranks.next()),
        exchange_(ranks, ranks.transport_->exchange(data.data(), bytes_, parts_.data()), sequence_,
                  std::move(what)) {
    ranks_.first_halves_.push_back(this);
  }
  ~OrderedSum() override { std::erase(ranks_.first_halves_, this); }
  OrderedSum(const OrderedSum&) = delete;
  OrderedSum& operator=(const OrderedSum&) = delete;

  bool test() override {
    auto& first_halves = ranks_.first_halves_;
    while (!first_halves.empty() && first_halves.front()->exchange_.test()) {
      first_halves.front()->add_parts();
    }
    return gather_ && gather_->test();
  }
  void wait() override {
    while (!gather_) {
      OrderedSum& front = *ranks_.first_halves_.front();
      front.exchange_.wait();
      front.add_parts();
    }
    gather_->wait();
  }

 private:
  int64_t my_bytes() const { return bytes_[static_cast<std::size_t>(ranks_.rank_)]; }
  void add_parts() {
    const auto* parts = static_cast<const std::byte*>(parts_.data());
    const int64_t elements = my_bytes() / static_cast<int64_t>(dtype_size(data_.dtype()));
    if (data_.dtype() == DType::kBF16) {
      add_bf16(mine_, parts, ranks_.size_, elements);
    } else if (elements > 0) {
      std::memcpy(mine_, parts, static_cast<std::size_t>(my_bytes()));
      for (int r = 1; r < ranks_.size_; ++r) {
        add(mine_, parts + r * my_bytes(), elements, data_.dtype());
      }
    }
    parts_ = Buffer();
    ranks_.first_halves_.pop_front();
    gather_.emplace(ranks_, ranks_.transport_->all_gather(data_.data(), bytes_), sequence_,
                    exchange_.what());
  }

  Collectives& ranks_;
  TensorView data_;
  std::vector<int64_t> bytes_;
  std::byte* mine_;
  Buffer parts_;
  int64_t sequence_;
  Operation exchange_;
  std::optional<Operation> gather_;
};

Collectives::Collectives() = default;
Collectives::~Collectives() = default;

Collectives::Collectives(std::unique_ptr<Transport> transport, Options options)
    : transport_(std::move(transport)),
      options_(std::move(options)),
      rank_(transport_->rank()),
      size_(transport_->size()) {
  set_timeout(options_.timeout_s);
  SF_CHECK(options_.most_bytes >= 8, "messages of {} bytes", options_.most_bytes);
}

void Collectives::set_interrupted(std::function<bool()> interrupted) {
  options_.interrupted = std::move(interrupted);
}

void Collectives::set_ordered(bool ordered) { options_.ordered = ordered; }

void Collectives::set_timeout(double seconds) {
  SF_CHECK(seconds > 0, "a time limit of {} s", seconds);
  options_.timeout_s = seconds;
}

std::vector<int64_t> Collectives::segments(int64_t elements, std::size_t element_bytes) const {
  std::vector<int64_t> bytes;
  for (int64_t r = 0; r < size_; ++r) {
    bytes.push_back((elements * (r + 1) / size_ - elements * r / size_) *
                    static_cast<int64_t>(element_bytes));
  }
  return bytes;
}

void Collectives::run(Transport::Request request, const std::string& what) {
  SF_CHECK(first_halves_.empty(), "'{}' between the halves of a sum", what);
  Operation(*this, request, next(), what).wait();
}

std::unique_ptr<Collectives::Pending> Collectives::start_all_reduce(const TensorView& data,
                                                                    std::string what) {
  SF_CHECK(data.contiguous(), "a sum over ranks of values that are not contiguous");
  if (alone() || data.elements() == 0) {
    return std::make_unique<Done>();
  }
  if (options_.ordered || data.dtype() == DType::kBF16) {  // of which MPI knows no sum
    return std::make_unique<OrderedSum>(*this, data, std::move(what));
  }
  return std::make_unique<Sum>(*this, data, std::move(what));
}

void Collectives::all_reduce(const TensorView& data, const std::string& what) {
  start_all_reduce(data, what)->wait();
}

void Collectives::all_reduce(std::span<double> data, const std::string& what) {
  all_reduce(TensorView(data.data(), DType::kF64, Shape{static_cast<int64_t>(data.size())}), what);
}

bool Collectives::any(bool mine, const std::string& what) {
  double count = mine ? 1 : 0;
  all_reduce(std::span(&count, 1), what);
  return count > 0;
}

void Collectives::broadcast(std::span<std::byte> data, const std::string& what) {
  if (alone()) {
    return;
  }
  const auto most = static_cast<std::size_t>(options_.most_bytes);
  for (; !data.empty(); data = data.subspan(std::min(most, data.size()))) {
    run(transport_->broadcast(data.data(), static_cast<int64_t>(std::min(most, data.size()))),
        what);
  }
}

void Collectives::broadcast(std::string& text, const std::string& what) {
  auto length = static_cast<int64_t>(text.size());
  broadcast(std::as_writable_bytes(std::span(&length, 1)), what);
  text.resize(static_cast<std::size_t>(length));
  broadcast(std::as_writable_bytes(std::span(text.data(), text.size())), what);
}

std::vector<std::string> Collectives::all_gather(const std::string& mine, const std::string& what) {
  if (alone()) {
    return {mine};
  }
  const auto ranks = static_cast<std::size_t>(size_);
  const auto own = static_cast<std::size_t>(rank_);
  std::vector<int64_t> lengths(ranks);
  lengths[own] = static_cast<int64_t>(mine.size());
  const std::vector<int64_t> each(ranks, sizeof(int64_t));
  run(transport_->all_gather(lengths.data(), each), what);
  std::string block(static_cast<std::size_t>(total(lengths)), '\0');
  mine.copy(block.data() + total(std::span(lengths).first(own)), mine.size());
  run(transport_->all_gather(block.data(), lengths), what);
  std::vector<std::string> texts;
  std::size_t begin = 0;
  for (const int64_t length : lengths) {
    texts.push_back(block.substr(begin, static_cast<std::size_t>(length)));
    begin += static_cast<std::size_t>(length);
  }
  return texts;
}

void Collectives::barrier(const std::string& what) { all_gather("", what); }

const std::optional<Collectives::Failure>& Collectives::agree_on_failure(const std::string& error) {
  const std::vector<std::string> errors = all_gather(error, "whether all ranks can go on");
  const auto has_one = [](const std::string& text) { return !text.empty(); };
  if (const auto first = std::ranges::find_if(errors, has_one); first != errors.end()) {
    const auto before = std::span(errors).first(static_cast<std::size_t>(rank_));
    failure_ = {.first = static_cast<int>(first - errors.begin()),
                .tells = !error.empty() && std::ranges::count(before, error) == 0};
  }
  return failure_;
}

}  // namespace stemfabric
