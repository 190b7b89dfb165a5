#include "trainer/evaluation/bss_evaluation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/bss_eval/bss_eval.h"
#include "runtime/core/check.h"
#include "runtime/memory/host_access.h"

namespace stemfabric {
namespace {

// Signals where the ops of a context reach them: on a device a copy, in stream order. Sources of
// stride 0 stay one.
class Reachable {
 public:
  Reachable(const ExecutionContext& ctx, const ConstTensorView& host) : view_(host) {
    if (ctx.is_cpu()) {
      return;
    }
    const Shape& shape = host.shape();
    const int64_t channels = shape[1];
    const int64_t length = shape[2];
    const bool one = host.stride(0) == 0;
    copy_ = Tensor({one ? 1 : shape[0], channels, length}, DType::kF32, ctx.resource(),
                   "signals to score");
    for (int64_t i = 0; i < copy_.shape()[0] * channels; ++i) {
      const float* from =
          host.as<float>() + i / channels * host.stride(0) + i % channels * host.stride(1);
      ctx.stream().copy(copy_.as<float>() + i * length, from,
                        static_cast<std::size_t>(length) * sizeof(float));
    }
    view_ = ConstTensorView(copy_.as<float>(), DType::kF32, shape,
                            {one ? 0 : channels * length, length, 1});
  }
  const ConstTensorView& view() const { return view_; }

 private:
  Tensor copy_;
  ConstTensorView view_;
};

// Row `row` of a [rows, columns] tensor.
std::vector<double> row_of(const HostView& tensor, int64_t row, int64_t columns) {
  const double* from = tensor.as<double>() + row * columns;
  return {from, from + columns};
}

std::vector<bool> flags_of(const HostView& tensor, int64_t row, int64_t columns) {
  const uint8_t* from = tensor.as<uint8_t>() + row * columns;
  return std::vector<bool>(from, from + columns);
}

void score_waveforms(const ExecutionContext& ctx, const ConstTensorView& references,
                     const ConstTensorView& estimates, BssEvaluation& result) {
  const int64_t sources = references.dim(0);
  const Shape signal = {references.dim(1), references.dim(2)};
  result.si_sdr.resize(static_cast<std::size_t>(sources));
  result.utterance_sdr.resize(static_cast<std::size_t>(sources));
  const auto source = [&](const ConstTensorView& all, int64_t s) {
    return ConstTensorView(all.as<float>() + s * all.stride(0), DType::kF32, signal,
                           {all.stride(1), all.stride(2)});
  };
  ctx.threads().run(sources, [&](int64_t s) {
    const auto i = static_cast<std::size_t>(s);
    result.si_sdr[i] = si_sdr(source(references, s), source(estimates, s));
    result.utterance_sdr[i] = utterance_sdr(source(references, s), source(estimates, s));
  });
}

BssEvaluation evaluate_where_told(const ExecutionContext& ctx, const ConstTensorView& references,
                                  const ConstTensorView& estimates, int64_t window, int64_t hop) {
  check_tensor("evaluate_bss", "references", references, DType::kF32, {-1, -1, -1});
  const int64_t sources = references.dim(0);
  BssEvaluation result;
  result.device = ctx.device();
  result.window = window;
  result.hop = hop;
  result.frame_count = bss_frame_count(references.dim(2), window, hop);
  const auto measures = static_cast<int64_t>(kBssMeasures.size());
  const auto output = [&](const Shape& shape, DType dtype) {
    return Tensor(shape, dtype, ctx.resource(), "BSS-Eval scores");
  };
  Tensor frame_scores = output({measures, sources, result.frame_count}, DType::kF64);
  Tensor whole_scores = output({measures + 1, sources}, DType::kF64);
  Tensor silence = output({2, sources}, DType::kU8);
  {
    const Reachable reachable_references(ctx, references);
    const Reachable reachable_estimates(ctx, estimates);
    bss_eval(ctx, {.references = reachable_references.view(),
                   .estimates = reachable_estimates.view(),
                   .window = window,
                   .hop = hop,
                   .frames = frame_scores.view(),
                   .whole = whole_scores.view(),
                   .silent = silence.view()});
    ctx.stream().synchronize();
  }
  const HostView frames(ctx, frame_scores.view());
  const HostView whole(ctx, whole_scores.view());
  const HostView silent(ctx, silence.view());
  result.silent_reference = flags_of(silent, 0, sources);
  result.silent_estimate = flags_of(silent, 1, sources);
  for (int64_t m = 0; m < measures; ++m) {
    const auto i = static_cast<std::size_t>(m);
    for (int64_t s = 0; s < sources; ++s) {
      result.frames[i].push_back(row_of(frames, m * sources + s, result.frame_count));
      result.median[i].push_back(median_without_nan(result.frames[i].back()));
    }
    result.whole[i] = row_of(whole, m, sources);
  }
  result.source_sdr = row_of(whole, measures, sources);
  score_waveforms(ctx, references, estimates, result);
  return result;
}

}  // namespace

bool BssEvaluation::refused_by_museval() const {
  return std::find(silent_reference.begin(), silent_reference.end(), true) !=
             silent_reference.end() ||
         std::find(silent_estimate.begin(), silent_estimate.end(), true) != silent_estimate.end();
}

double median_without_nan(std::vector<double> values) {
  std::erase_if(values, [](double value) { return std::isnan(value); });
  if (values.empty()) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

BssEvaluation evaluate_bss(const ExecutionContext& ctx, const ConstTensorView& references,
                           const ConstTensorView& estimates, int64_t window, int64_t hop) {
  try {
    return evaluate_where_told(ctx, references, estimates, window, hop);
  } catch (const OutOfMemoryError& error) {
    if (ctx.is_cpu()) {
      throw;
    }
    throw OutOfMemoryError(
        "{}; BSS-Eval of signals this long needs more than the GPU has left: "
        "compute on the CPU (--device cpu)",
        error.what());
  }
}

}  // namespace stemfabric
