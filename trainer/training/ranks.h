// What a training that several ranks share must have in common, and what each has of its own.
#pragma once

#include <cstdint>
#include <functional>

#include "runtime/collectives/collectives.h"
#include "runtime/device/device.h"
#include "runtime/device/execution_context.h"
#include "trainer/training/checkpoint.h"

namespace stemfabric {

// Threads of this rank, if the configuration leaves them open (0): the cores that it may use,
// shared out evenly where ranks of one machine may use the same ones. Alone: as configured.
int64_t threads_of_rank(Collectives& ranks, int64_t configured);

// That all ranks compute on the same kind of device, and each GPU serves one rank: `mine` is this
// one's. DeviceError on every rank if not, with the ranks and what to do.
void require_own_devices(Collectives& ranks, const DeviceInfo& mine);

// Compares configuration, data set and initial parameters of all ranks. ConfigError on every rank
// if one differs from rank 0: names both hashes, the rank and the keys that differ. What may
// differ: the threads, and the paths of the data set and of the initial weights. `weights`: [n] f32
// of ctx.
void require_equal_ranks(const ExecutionContext& ctx, Collectives& ranks,
                         const RunIdentity& identity, const ConstTensorView& weights);

// That all ranks have the same weights to the last bit, and decide alike. InternalError on every
// rank if not.
void require_equal_results(const ExecutionContext& ctx, Collectives& ranks,
                           const ConstTensorView& weights, const TrainingState& state);

// Work that every rank does for itself, without collectives. If it throws on any rank all end here,
// in order (Collectives::failure()), instead of waiting for one that is gone: those on which it
// threw with that error, the others with a CollectiveError. Alone: just the work.
void on_every_rank(Collectives& ranks, const std::function<void()>& work);

// Gives every rank what rank 0 has: contiguous, of ctx.
void broadcast(const ExecutionContext& ctx, Collectives& ranks, const TensorView& tensor,
               const std::string& what);

}  // namespace stemfabric
