// Bound by memory: Adam reads and writes 28 bytes per element, the average 12, each once; a square
// root and a division per element are far less than what a GPU does in that time. Four float4 per
// thread and array (kernels/common/flat.cuh): enough that what is formed once per block from device
// memory (the coefficients, by its first thread) costs nothing beside them, and a float4 of each of
// four arrays in flight per thread.
#include "kernels/adam/adam_cuda.h"
#include "kernels/adam/adam_math.h"
#include "kernels/common/flat.cuh"

namespace stemfabric::cuda {
namespace {

struct AdamBody {
  AdamCoefficients c;
  float *parameter, *m, *v;
  const float* gradient;

  // The moments move by (1−β)·(new − old), so that they settle on the average: see adam_cpu.cpp.
  template <int kWidth>
  __device__ __forceinline__ void at(int64_t i) const {
    auto w = load_vector<kWidth>(parameter + i);
    auto first = load_vector<kWidth>(m + i);
    auto second = load_vector<kWidth>(v + i);
    const auto raw = load_vector<kWidth>(gradient + i);
    for (int k = 0; k < kWidth; ++k) {
      const float g = fmaf(c.l2, w.lane[k], c.grad_scale * raw.lane[k]);
      first.lane[k] = fmaf(c.one_minus_beta1, g - first.lane[k], first.lane[k]);
      second.lane[k] = fmaf(c.one_minus_beta2, fmaf(g, g, -second.lane[k]), second.lane[k]);
      const float decayed = fmaf(-c.decay, w.lane[k], w.lane[k]);
      const float below = fmaf(sqrtf(second.lane[k]), c.root_scale, c.epsilon);
      w.lane[k] = fmaf(-c.rate, first.lane[k] / below, decayed);
    }
    store_vector(m + i, first);
    store_vector(v + i, second);
    store_vector(parameter + i, w);
  }
};

template <int kWidth>
__global__ void __launch_bounds__(kFlatThreads) adam_kernel(FlatRange range, AdamBody body) {
  for_flat<kWidth>(range, body);
}

// The same, with numbers that lie in device memory; nothing is touched if the gate is closed.
struct DeviceScalars {
  AdamRule rule;
  AdamScalars host;  // those that the tensors do not give
  const double *gate, *scalars;
};
template <int kWidth>
__global__ void __launch_bounds__(kFlatThreads)
    adam_gated_kernel(FlatRange range, AdamBody body, DeviceScalars from) {
  if (!gate_open(from.gate)) {
    return;
  }
  auto& shared = shared_storage<AdamCoefficients>();
  if (threadIdx.x == 0) {
    shared = adam_coefficients(from.rule, with_tensors(from.host, from.gate, from.scalars));
  }
  __syncthreads();
  body.c = shared;
  for_flat<kWidth>(range, body);
}

struct EmaBody {
  float one_minus_momentum;
  float* average;
  const float* parameter;

  template <int kWidth>
  __device__ __forceinline__ void at(int64_t i) const {
    auto a = load_vector<kWidth>(average + i);
    const auto w = load_vector<kWidth>(parameter + i);
    for (int k = 0; k < kWidth; ++k) {
      a.lane[k] = fmaf(one_minus_momentum, w.lane[k] - a.lane[k], a.lane[k]);
    }
    store_vector(average + i, a);
  }
};

template <int kWidth>
__global__ void __launch_bounds__(kFlatThreads)
    ema_kernel(FlatRange range, EmaBody body, const double* gate) {
  if (gate_open(gate)) {
    for_flat<kWidth>(range, body);
  }
}

LaunchConfig flat_launch(const char* kernel, const FlatRange& range) {
  return {.kernel = kernel, .grid = grid_size(flat_blocks(range)), .block = kFlatThreads};
}

const double* data_of(const ConstTensorView& view) { return view ? view.as<double>() : nullptr; }

}  // namespace

void adam_step(const ExecutionContext& ctx, const AdamArgs& args) {
  AdamBody body = {.c = {},
                   .parameter = args.parameter.as<float>(),
                   .m = args.m.as<float>(),
                   .v = args.v.as<float>(),
                   .gradient = args.gradient.as<float>()};
  const FlatRange range =
      flat_range(args.parameter.elements(), body.parameter, body.m, body.v, body.gradient);
  const AdamRule rule = adam_rule(args);
  const AdamScalars scalars = adam_scalars(args);
  if (!args.gate && !args.scalars) {
    body.c = adam_coefficients(rule, scalars);
    launch(ctx, flat_launch("adam_kernel", range),
           range.width == 4 ? adam_kernel<4> : adam_kernel<1>, range, body);
    return;
  }
  launch(ctx, flat_launch("adam_gated_kernel", range),
         range.width == 4 ? adam_gated_kernel<4> : adam_gated_kernel<1>, range, body,
         DeviceScalars{rule, scalars, data_of(args.gate), data_of(args.scalars)});
}

void ema_update(const ExecutionContext& ctx, const EmaArgs& args) {
  const EmaBody body = {.one_minus_momentum = static_cast<float>(1 - args.momentum),
                        .average = args.average.as<float>(),
                        .parameter = args.parameter.as<float>()};
  const FlatRange range = flat_range(args.average.elements(), body.average, body.parameter);
  launch(ctx, flat_launch("ema_kernel", range), range.width == 4 ? ema_kernel<4> : ema_kernel<1>,
         range, body, data_of(args.gate));
}

}  // namespace stemfabric::cuda
