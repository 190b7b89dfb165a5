#include "trainer/evaluation/bss_evaluation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/bss_eval/bss_eval.h"
#include "runtime/memory/buffer.h"

namespace stemfabric {
namespace {

// Row `row` of a [rows, columns] tensor.
std::vector<double> row_of(const Tensor& tensor, int64_t row, int64_t columns) {
  const double* from = tensor.as<double>() + row * columns;
  return {from, from + columns};
}

std::vector<bool> flags_of(const Tensor& tensor, int64_t row, int64_t columns) {
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
  check_tensor("evaluate_bss", "references", references, DType::kF32, {-1, -1, -1});
  const int64_t sources = references.dim(0);
  BssEvaluation result;
  result.window = window;
  result.hop = hop;
  result.frame_count = bss_frame_count(references.dim(2), window, hop);
  const auto measures = static_cast<int64_t>(kBssMeasures.size());
  Tensor frames(Shape{measures, sources, result.frame_count}, DType::kF64);
  Tensor whole(Shape{measures + 1, sources}, DType::kF64);
  Tensor silent(Shape{2, sources}, DType::kU8);
  bss_eval(ctx, {.references = references,
                 .estimates = estimates,
                 .window = window,
                 .hop = hop,
                 .frames = frames.view(),
                 .whole = whole.view(),
                 .silent = silent.view()});
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

}  // namespace stemfabric
