// Ranks that are threads of this process: the contract of collectives without MPI, for tests under
// sanitizers too.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "runtime/collectives/collectives.h"

namespace stemfabric::test {

class ThreadRanks {
 public:
  explicit ThreadRanks(int size);
  ~ThreadRanks();
  ThreadRanks(const ThreadRanks&) = delete;
  ThreadRanks& operator=(const ThreadRanks&) = delete;

  std::unique_ptr<Transport> transport(int rank);
  // What others told this rank and it has not taken in.
  int64_t unheard(int rank) const;

 private:
  struct Hub;
  class RankTransport;
  std::shared_ptr<Hub> hub_;
};

// Runs `body` on so many threads, each with its own Collectives, and rethrows what the first rank
// that failed threw.
void run_on_ranks(int size, const Collectives::Options& options,
                  const std::function<void(Collectives&)>& body);

}  // namespace stemfabric::test
