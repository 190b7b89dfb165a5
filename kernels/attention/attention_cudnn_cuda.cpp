// The graphs of attention_cudnn.h, which calls are given to them, and their plans.
#include "kernels/attention/attention_cudnn.h"
#if SF_HAVE_CUDNN
#include <atomic>
#include <cmath>
#include <mutex>
#include <set>

#include "kernels/attention/attention_key_bias.h"
#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/device/cudnn_graph.h"

namespace stemfabric::cuda {
namespace {

using Graph = CudnnGraph;
using Pointwise = CudnnGraph::Pointwise;

// Numbers of the tensors: the graphs are made in this order.
enum Id : int64_t { kQ = 1, kK, kV, kO, kStats, kScale, kBias };
enum GradientId : int64_t { kDO = kBias + 1, kDQ, kDK, kDV, kOne, kDelta };

std::atomic<bool> g_has_computed = false;  // a forward pass

void log_once(const std::string& text) {
  static std::mutex mutex;
  static auto* const logged = new std::set<std::string>;
  const std::lock_guard lock(mutex);
  if (logged->insert(text).second) {
    log_info("{}", text);
  }
}

// The library on a device, if it can be used there at all.
CudnnDevice* device_of(const ExecutionContext& ctx) {
  std::string reason;
  CudnnDevice* device = CudnnDevice::find(ctx.device(), reason);
  if (device == nullptr) {
    log_once(fmt::format("softmax attention by stemfabric's kernels: {}", reason));
  }
  return device;
}

// What NVIDIA's own front end refuses, or computes in another way, for errors of the
// library: 9.10.0 and 9.10.1 altogether, and until 9.15.0 gradients of sequences that are no
// multiples of 128.
bool is_computed_wrongly(int64_t version, int64_t tokens, bool training) {
  const bool backward = training && version <= 91500 && tokens % 128 != 0;
  return version == 91000 || version == 91001 || backward;
}

using Strides = CudnnAttention::Strides;

// A [B, T, H, D] tensor as the library has it: [B, H, T, D], or [B, H, D, T].
Graph::Tensor rows(Graph& graph, const CudnnAttention& a, const Strides& x) {
  return graph.memory(DType::kBF16, {a.batch, a.heads, a.tokens, a.dim}, {x[0], x[2], x[1], 1});
}
Graph::Tensor columns(Graph& graph, const CudnnAttention& a, const Strides& x) {
  return graph.memory(DType::kBF16, {a.batch, a.heads, a.dim, a.tokens}, {x[0], x[2], 1, x[1]});
}

// What forward and backward begin with. Their graphs number tensors alike, whether in use or not.
struct Operands {
  Graph::Tensor q, k, v, o, stats, scale, bias;
};
Operands operands_of(Graph& graph, const CudnnAttention& a, bool backward) {
  Operands x;
  x.q = rows(graph, a, a.q);
  x.k = columns(graph, a, a.k);
  x.v = backward ? columns(graph, a, a.v) : rows(graph, a, a.v);
  x.o = rows(graph, a, a.o);
  x.stats = graph.memory(DType::kF32, {a.batch, a.heads, a.tokens, 1},
                         {a.heads * a.tokens, a.tokens, 1, 1});
  x.scale = graph.scalar();
  x.bias = graph.memory(DType::kF32, {a.batch, 1, 1, a.tokens}, {a.tokens, a.tokens, a.tokens, 1});
  return x;
}
// Q Kᵀ, scaled and masked.
Graph::Tensor scores_of(Graph& graph, const Operands& x, bool masked) {
  const auto scores = graph.pointwise(Pointwise::kMultiply, graph.matmul(x.q, x.k), x.scale);
  return masked ? graph.pointwise(Pointwise::kAdd, scores, x.bias) : scores;
}

// ---------------------------------------------------------------- calls

Strides strides_of(const ConstTensorView& x) { return {x.stride(0), x.stride(1), x.stride(2)}; }

// 16-byte rows.
bool aligned(const ConstTensorView& x) {
  constexpr int64_t kElements = 8;
  return reinterpret_cast<std::uintptr_t>(x.data()) % 16 == 0 && x.stride(0) % kElements == 0 &&
         x.stride(1) % kElements == 0 && x.stride(2) % kElements == 0 && x.dim(3) % kElements == 0;
}

template <typename Args>
bool asked_for(const Args& args) {
  return args.config.cudnn && args.config.activation == AttentionActivation::kSoftmax &&
         args.q.dtype() == DType::kBF16 && dropout_threshold(args.dropout.p) == 0 &&
         args.q.dim(1) > 1 && aligned(args.q) && aligned(args.k) && aligned(args.v) &&
         aligned(args.o) &&
         (!args.stats || (args.stats.contiguous() &&
                          reinterpret_cast<std::uintptr_t>(args.stats.data()) % 16 == 0));
}

template <typename Args>
CudnnAttention attention_of(const Args& args) {
  return {.batch = args.q.dim(0),
          .tokens = args.q.dim(1),
          .heads = args.q.dim(2),
          .dim = args.q.dim(3),
          .masked = static_cast<bool>(args.key_mask),
          .q = strides_of(args.q),
          .k = strides_of(args.k),
          .v = strides_of(args.v),
          .o = strides_of(args.o),
          .d_o = strides_of(args.o),
          .dq = strides_of(args.q),
          .dk = strides_of(args.k),
          .dv = strides_of(args.v)};
}

// The plan for either direction, made once per device; null if there is none.
const CudnnPlan* plan_of(CudnnDevice& device, const CudnnAttention& a, bool backward) {
  std::vector<int64_t> key = {backward, a.batch, a.tokens, a.heads, a.dim, a.masked};
  for (const Strides* strides : {&a.q, &a.k, &a.v, &a.o, &a.d_o, &a.dq, &a.dk, &a.dv}) {
    key.insert(key.end(), strides->begin(), strides->end());
  }
  std::string refused;
  const CudnnPlan* plan = device.plan(key, [&]() -> std::unique_ptr<CudnnPlan> {
    try {
      auto made = backward ? cudnn_attention_backward_plan(device, a)
                           : cudnn_attention_forward_plan(device, a);
      if (made->workspace_bytes() <= kMostCudnnScratch) {
        return made;
      }
      refused = fmt::format("cuDNN wants {} MiB of scratch memory", made->workspace_bytes() >> 20);
    } catch (const Error& error) {
      refused = error.what();
    }
    return nullptr;
  });
  if (!refused.empty()) {
    log_once(
        fmt::format("softmax attention by stemfabric's kernels ({}, {} samples of {} tokens): {}",
                    backward ? "backward" : "forward", a.batch, a.tokens, refused));
  }
  return plan;
}

// That of the forward pass, if cuDNN is to compute it; a training pass is, if both directions can.
const CudnnPlan* forward_plan_of(CudnnDevice& device, const CudnnAttention& a, bool training) {
  if (is_computed_wrongly(cudnn_version_number(), a.tokens, training)) {
    log_once(
        fmt::format("softmax attention of {} tokens by stemfabric's kernels: cuDNN {} is known to "
                    "compute it wrongly",
                    a.tokens, cudnn_version()));
    return nullptr;
  }
  const CudnnPlan* plan = plan_of(device, a, false);
  if (plan == nullptr || (training && plan_of(device, a, true) == nullptr)) {
    return nullptr;
  }
  log_once(fmt::format("softmax attention by cuDNN {}", cudnn_version()));
  return plan;
}

using Pointers = std::vector<std::pair<int64_t, const void*>>;

// Those of the operands; the scale is read during the call.
template <typename Args>
Pointers pointers_of(const Args& args, const void* stats, const float& scale, const float* bias) {
  Pointers pointers = {{kQ, args.q.data()}, {kK, args.k.data()}, {kV, args.v.data()},
                       {kO, args.o.data()}, {kStats, stats},     {kScale, &scale}};
  if (bias != nullptr) {
    pointers.emplace_back(kBias, bias);
  }
  return pointers;
}

float* bias_of(const ExecutionContext& ctx, WorkspaceScope& scope, const CudnnAttention& a,
               const attention::KeyMask& mask) {
  if (!a.masked) {
    return nullptr;
  }
  auto* bias = scope.take<float>(a.batch * a.tokens);
  attention_key_bias(ctx, mask, bias, a.batch, a.tokens);
  return bias;
}

void* scratch_of(WorkspaceScope& scope, const CudnnPlan& plan) {
  const auto bytes = static_cast<int64_t>(plan.workspace_bytes());
  return bytes > 0 ? scope.take<std::byte>(bytes) : nullptr;
}

float scale_of(const CudnnAttention& a) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(a.dim)));
}

void clear_closed(const ExecutionContext& ctx, const CudnnAttention& a,
                  const attention::KeyMask& mask, const attention::Rows<Bf16>& x,
                  const attention::Rows<Bf16>& y = {}, const attention::Rows<Bf16>& z = {}) {
  if (a.masked) {
    attention_clear_closed(
        ctx, mask,
        {.rows = {x, y, z}, .batch = a.batch, .tokens = a.tokens, .heads = a.heads, .dim = a.dim});
  }
}

}  // namespace

std::unique_ptr<CudnnPlan> cudnn_attention_forward_plan(CudnnDevice& device,
                                                        const CudnnAttention& attention) {
  Graph graph;
  const Operands x = operands_of(graph, attention, false);
  const auto scores = scores_of(graph, x, attention.masked);
  const auto most = graph.reduce(Graph::Reduction::kMax, scores);
  const auto powers =
      graph.pointwise(Pointwise::kExp, graph.pointwise(Pointwise::kSubtract, scores, most));
  const auto sum = graph.reduce(Graph::Reduction::kSum, powers);
  graph.pointwise_into(x.stats, Pointwise::kAdd, most, graph.pointwise(Pointwise::kLog, sum));
  graph.matmul_into(x.o, graph.pointwise_as(DType::kBF16, Pointwise::kDivide, powers, sum), x.v);
  return std::move(graph).plan(device);
}

std::unique_ptr<CudnnPlan> cudnn_attention_backward_plan(CudnnDevice& device,
                                                         const CudnnAttention& attention) {
  Graph graph;
  const Operands x = operands_of(graph, attention, true);
  const auto d_o = rows(graph, attention, attention.d_o);
  const auto dq = rows(graph, attention, attention.dq);
  const auto dk = rows(graph, attention, attention.dk);
  const auto dv = rows(graph, attention, attention.dv);
  const auto one = graph.scalar();  // where dropout's scale would be: part of the pattern
  const auto delta = graph.memory(DType::kF32, x.stats.dims, x.stats.strides);

  const auto products = graph.pointwise(Pointwise::kMultiply, d_o, x.o);
  graph.pointwise_into(delta, Pointwise::kMultiply, graph.reduce(Graph::Reduction::kSum, products),
                       one);

  const auto scores = scores_of(graph, x, attention.masked);
  const auto weights =
      graph.pointwise(Pointwise::kExp, graph.pointwise(Pointwise::kSubtract, scores, x.stats));
  graph.matmul_into(dv, graph.transposed(weights, DType::kBF16), d_o);

  const auto d_weights = graph.matmul(d_o, x.v);
  const auto d_scores = graph.pointwise(
      Pointwise::kMultiply,
      graph.pointwise(Pointwise::kMultiply, graph.pointwise(Pointwise::kSubtract, d_weights, delta),
                      weights),
      x.scale);
  graph.matmul_into(dk, graph.transposed(d_scores, DType::kBF16), x.q);
  graph.matmul_into(dq, d_scores, graph.transposed(x.k, DType::kF32));
  return std::move(graph).plan(device);
}

bool cudnn_attention_forward(const ExecutionContext& ctx, const AttentionForwardArgs& args) {
  CudnnDevice* device = asked_for(args) ? device_of(ctx) : nullptr;
  if (device == nullptr) {
    return false;
  }
  const CudnnAttention a = attention_of(args);
  const CudnnPlan* plan = forward_plan_of(*device, a, static_cast<bool>(args.stats));
  if (plan == nullptr) {
    return false;
  }
  WorkspaceScope scope(ctx.workspace());
  const attention::KeyMask mask = attention::key_mask_of(args.key_mask);
  const float* bias = bias_of(ctx, scope, a, mask);
  // In inference nobody asks for them; the plan is that of training all the same.
  const void* stats =
      args.stats ? args.stats.data() : scope.take<float>(a.batch * a.heads * a.tokens);
  const float scale = scale_of(a);
  plan->run(ctx.stream(), pointers_of(args, stats, scale, bias), scratch_of(scope, *plan));
  clear_closed(ctx, a, mask, attention::rows_of<Bf16>(args.o));
  g_has_computed = true;
  return true;
}

std::string cudnn_attention_version() { return g_has_computed ? cudnn_version() : std::string(); }

bool cudnn_attention_backward(const ExecutionContext& ctx, const AttentionBackwardArgs& args) {
  CudnnDevice* device = asked_for(args) ? device_of(ctx) : nullptr;
  if (device == nullptr) {
    return false;
  }
  CudnnAttention a = attention_of(args);
  if (forward_plan_of(*device, a, true) == nullptr) {
    return false;
  }
  a.d_o = strides_of(args.d_o);
  a.dq = strides_of(args.dq);
  a.dk = strides_of(args.dk);
  a.dv = strides_of(args.dv);
  const bool fit = aligned(args.d_o) && aligned(args.dq) && aligned(args.dk) && aligned(args.dv);
  const CudnnPlan* plan = fit ? plan_of(*device, a, true) : nullptr;
  if (plan == nullptr) {
    throw DeviceError(
        "attention_backward: cuDNN computed the forward pass but takes no gradients with these "
        "strides; give them those of q, k, v and o, or set AttentionConfig::cudnn to false");
  }
  WorkspaceScope scope(ctx.workspace());
  const attention::KeyMask mask = attention::key_mask_of(args.key_mask);
  const float* bias = bias_of(ctx, scope, a, mask);
  const float scale = scale_of(a);
  const float one = 1.0f;
  Pointers pointers = pointers_of(args, args.stats.data(), scale, bias);
  const Pointers gradients = {
      {kDO, args.d_o.data()}, {kDQ, args.dq.data()},
      {kDK, args.dk.data()},  {kDV, args.dv.data()},
      {kOne, &one},           {kDelta, scope.take<float>(a.batch * a.heads * a.tokens)}};
  pointers.insert(pointers.end(), gradients.begin(), gradients.end());
  plan->run(ctx.stream(), pointers, scratch_of(scope, *plan));
  clear_closed(ctx, a, mask, attention::rows_of<Bf16>(args.dq), attention::rows_of<Bf16>(args.dk),
               attention::rows_of<Bf16>(args.dv));
  return true;
}

}  // namespace stemfabric::cuda
#endif
