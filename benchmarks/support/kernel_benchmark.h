// How a benchmark of kernels/*_bench.cpp registers its cases:
//
//   const bool registered = register_kernel({
//       .name = "adam/n:1000000/stemfabric",
//       .bytes = 28e6,                                  // of one call; or .flops
//       .prepare = [](const ExecutionContext& ctx) -> std::function<void()> {
//         auto data = std::make_shared<Data>(ctx);      // random_tensor.h: on the device of ctx
//         run_once(ctx, *data);
//         require_within_bound("adam", values_of(ctx, data->result), naive, oracle);  // throws
//         return [&ctx, data] { run_once(ctx, *data); };         // what is timed
//       }});
//
// A case is prepared only if the filter selects it, and timed only after its result was found
// right; one that throws is reported as an error, and the program fails after the others. It may be
// prepared several times: what takes long to verify is put into verify_once.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "runtime/device/execution_context.h"
#include "tests/support/tolerance.h"

namespace stemfabric::benchmarks {

enum class RunsOn : uint8_t { kAny, kCpu, kGpu };  // kGpu: sizes that fill one

struct KernelCase {
  std::string name;  // "op/shape/implementation"
  RunsOn on = RunsOn::kAny;
  double flops = 0;  // floating-point operations of one call, where they can be what limits it
  // Of the operations' factors: the machine's peak bounds them, if there is one of that type.
  DType factors = DType::kF32;
  double bytes = 0;  // bytes that one call reads and writes at least, where they can be
  std::function<std::function<void()>(const ExecutionContext& ctx)> prepare;
};

bool register_kernel(KernelCase kernel_case);
// The last part of the name of ours: "/stemfabric", or "/stemfabric_bf16".
std::string implementation_name(DType dtype);

// tests/support/tolerance.h as an exception.
void require_within_bound(const std::string& what, std::span<const double> result,
                          std::span<const double> naive, std::span<const double> oracle,
                          test::Floor floor = {});
void require_equal(const std::string& what, std::span<const double> result,
                   std::span<const double> expected);
// Calls `verify` unless it was called under this name before, and threw nothing.
void verify_once(const std::string& name, const std::function<void()>& verify);

}  // namespace stemfabric::benchmarks
