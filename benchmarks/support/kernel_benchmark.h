// How a benchmark of kernels/*_bench.cpp registers its cases:
//
//   const bool registered = register_kernel({
//       .name = "adam/n:1000000/stemfabric",
//       .bytes = 28e6,                                  // of one call; or .flops
//       .prepare = [](const ExecutionContext& ctx) -> std::function<void()> {
//         auto data = std::make_shared<Data>();         // inputs, outputs
//         run_once(ctx, *data);
//         require_within_bound("adam", result, naive, oracle);   // throws: the program fails
//         return [&ctx, data] { run_once(ctx, *data); };         // what is timed
//       }});
//
// A case is prepared only if the filter selects it, and timed only after its result was found
// right.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "runtime/device/execution_context.h"

namespace stemfabric::benchmarks {

struct KernelCase {
  std::string name;  // "op/shape/implementation"
  double flops = 0;  // floating-point operations of one call, if they are what limits it
  double bytes = 0;  // bytes read and written by one call at least, if they are
  std::function<std::function<void()>(const ExecutionContext& ctx)> prepare;
};

bool register_kernel(KernelCase kernel_case);

// tests/support/tolerance.h as an exception.
void require_within_bound(const std::string& what, std::span<const double> result,
                          std::span<const double> naive, std::span<const double> oracle);

}  // namespace stemfabric::benchmarks
