// A stand-in for NCCL on the host, for ranks that are threads with streams of the executor's. A sum
// is queued as NCCL's is; it is done when all ranks' streams have come to it, so that a rank which
// does not come leaves the others waiting for ever, unless they abort.
//
// As NCCL asks, all ranks have to repeat sums of the same capture, or none of one.
//
// Every call is in progress for a while, as those of a communicator that does not block may be.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "runtime/collectives/nccl_functions.h"

namespace stemfabric::test {

struct HostNccl {
  struct Sum {
    std::size_t elements;
    DType type;
    const void* stream;
    bool captured;
    bool operator==(const Sum&) const = default;
  };
  // What is to fail, by the name of NCCL's function, and "async": of all communicators.
  std::map<std::string, int> results;
  // What was done.
  int made = 0, aborted = 0, destroyed = 0;  // communicators
  bool graphs_at_the_end = false;            // one was destroyed while a graph held sums of its
  std::map<int, std::vector<Sum>> sums;      // by rank, in the order of the calls
};

// What was done since reset; ranks must be at rest.
HostNccl& host_nccl();
void reset_host_nccl();
void fail_host_nccl(const std::string& call, int result);  // while ranks are at work, too
const NcclFunctions& host_nccl_functions();

}  // namespace stemfabric::test
