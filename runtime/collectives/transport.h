// What carries collectives between ranks: the few nonblocking operations that Collectives is made
// of. Every rank must start the same sums and exchanges in the same order, and the same gathers and
// broadcasts in the same order; these two rows are matched apart. Implementations: MPI
// (mpi_transport.h), and threads of one process in the tests.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/core/dtype.h"

namespace stemfabric {

class Transport {
 public:
  // An operation that was started: of the implementation.
  using Request = void*;

  virtual ~Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // What is given must stay until test() has said that the operation is done. Where `bytes` has one
  // entry per rank, segment r of a block has bytes[r] bytes and follows segment r − 1.

  // data = Σ over ranks, in an order of the transport's choice; f32, f64 or i64.
  virtual Request all_reduce(void* data, int64_t elements, DType type) = 0;
  // Segment r of `send` goes to rank r. Each rank receives its own segment of every rank's block,
  // in the order of the ranks.
  virtual Request exchange(const void* send, std::span<const int64_t> bytes, void* receive) = 0;
  // Segment r of `data` comes from rank r.
  virtual Request all_gather(void* data, std::span<const int64_t> bytes) = 0;
  virtual Request broadcast(void* data, int64_t bytes) = 0;  // of rank 0
  // Whether the operation is done; the request is gone then. Waits for nothing.
  virtual bool test(Request request) = 0;

  // Tells all other ranks that this one waits for operation number `sequence` to be done.
  virtual void tell(int64_t sequence) = 0;
  // The largest number that a rank told so far; −1: none. Takes in what all ranks have told.
  virtual int64_t heard(int rank) = 0;

 protected:
  Transport() = default;
};

}  // namespace stemfabric
