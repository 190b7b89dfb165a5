// What the ranks of a run do together: sums, broadcasts, gatherings, each with a name and a time
// limit, so that a rank that died, hangs or cannot be reached is an error that says who and where
// instead of silence.
//
// All ranks call the same functions in the same order, each from one thread. With one rank nothing
// is sent and nothing waited for. A CollectiveError is the end of the run: what was started may
// still be under way, and the process is to end without another collective (leave_ranks).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/collectives/transport.h"
#include "runtime/core/check.h"
#include "runtime/core/tensor_view.h"

namespace stemfabric {

class Collectives {
 public:
  struct Options {
    double timeout_s = 600;
    // Sums are added in the order of the ranks, whatever the transport: the same bits for the same
    // number of ranks. Otherwise the transport chooses, which may be faster.
    bool ordered = true;
    // Whether this process was asked to end and the ranks have not agreed to it yet; said in the
    // log with the collective if it comes while it waits. May be empty.
    std::function<bool()> interrupted;
    // Called when sums on devices have failed, before anything is undone: memory of a device where
    // a sum never ends cannot be given back, so the process may have to end here. May be empty.
    std::function<void(const Error&)> devices_failed;
    // Longer broadcasts, and the trainer's sums of gradients, go in parts of at most this size: MPI
    // counts in int.
    int64_t most_bytes = int64_t{1} << 30;
  };

  Collectives();  // one rank
  Collectives(std::unique_ptr<Transport> transport, Options options);
  ~Collectives();
  Collectives(const Collectives&) = delete;
  Collectives& operator=(const Collectives&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool alone() const { return size_ == 1; }
  bool first() const { return rank_ == 0; }  // the one that writes files and tells the user
  const Options& options() const { return options_; }
  void set_interrupted(std::function<bool()> interrupted);
  void set_ordered(bool ordered);  // of sums from now on; the same on all ranks
  void set_timeout(double seconds);

  // A sum under way.
  class Pending {
   public:
    virtual ~Pending() = default;
    virtual bool test() = 0;  // goes on with it as far as it goes without waiting; true: done
    virtual void wait() = 0;  // until it is done; CollectiveError
  };
  // data = Σ over ranks of data, the same bits on every rank. Contiguous host memory of f32, f64,
  // i64 or bf16, which must be left alone until the sum is done. Starting waits for nothing. Sums
  // of bf16 are always added in the order of the ranks, in float32, and rounded once.
  [[nodiscard]] std::unique_ptr<Pending> start_all_reduce(const TensorView& data, std::string what);
  void all_reduce(const TensorView& data, const std::string& what);
  void all_reduce(std::span<double> data, const std::string& what);
  // Whether any rank says so.
  bool any(bool mine, const std::string& what);
  // All ranks get what rank 0 has.
  void broadcast(std::span<std::byte> data, const std::string& what);
  void broadcast(std::string& text, const std::string& what);  // of any length
  // What every rank has, in the order of the ranks.
  std::vector<std::string> all_gather(const std::string& mine, const std::string& what);
  void barrier(const std::string& what);

  // Of what the ranks do together on another way than this, such as sums of their devices: its
  // place among the collectives, which all ranks must take at the same point.
  int64_t mark() { return next(); }
  // Waits until done() says so, with the time limit and the errors of a collective: the ranks that
  // did not come to `place` are named, and what() is asked what they miss. CollectiveErrors of
  // done() are told with rank and collective.
  void wait_until(int64_t place, const std::function<bool()>& done,
                  const std::function<std::string()>& what);
  // How a run ends in which all ranks know that it fails.
  struct Failure {
    int first = 0;       // the first rank that has an error
    bool tells = false;  // whether this rank has one that none before it has
  };
  // Asks all ranks for the error that each has of its own; empty: none. If there is any, all ranks
  // know, and their process may end in order (leave_ranks).
  const std::optional<Failure>& agree_on_failure(const std::string& error);
  const std::optional<Failure>& failure() const { return failure_; }  // as agreed, if at all

 private:
  class Operation;
  class Sum;
  class OrderedSum;
  int64_t next() { return started_++; }
  bool ask(const std::function<bool()>& done, const std::function<std::string()>& what) const;
  // The ranks that have not said that they wait for this place or a later one, and what that means
  // for one or for several.
  std::string late(int64_t place, const char* of_one, const char* of_several) const;
  // Bytes of each rank's share of so many elements: as equal as whole elements allow.
  std::vector<int64_t> segments(int64_t elements, std::size_t element_bytes) const;
  // Waits for an operation that is not a sum; no sum may be under way.
  void run(Transport::Request request, const std::string& what);

  std::unique_ptr<Transport> transport_;  // null: alone
  Options options_;
  int rank_ = 0;
  int size_ = 1;
  int64_t started_ = 0;  // collectives so far: the same number on all ranks
  // Ordered sums whose second half has not started. The halves start in the order of the sums on
  // every rank, whichever message comes first.
  std::deque<OrderedSum*> first_halves_;
  std::optional<Failure> failure_;
};

}  // namespace stemfabric
