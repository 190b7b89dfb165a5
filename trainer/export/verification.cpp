#include "trainer/export/verification.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/common/philox.h"
#include "runtime/core/check.h"
#include "runtime/memory/host_access.h"
#include "trainer/model/host_forward.h"
#include "trainer/stems.h"

namespace stemfabric {
namespace {

using evaluator::Array;

constexpr uint32_t kSeed = 0x5eed;

// Normally distributed, a pure function of its place.
float normal(uint32_t stream, int64_t index) {
  const auto place = static_cast<uint64_t>(index);
  const PhiloxCounter bits =
      philox4x32_10({{static_cast<uint32_t>(place), static_cast<uint32_t>(place >> 32), stream, 0}},
                    {{kSeed, 0}});
  const double radius = std::sqrt(-2.0 * std::log(1.0 - double{philox_uniform(bits.word[0])}));
  return static_cast<float>(
      radius * std::cos(2.0 * std::numbers::pi * double{philox_uniform(bits.word[1])}));
}

struct CasePlan {
  int64_t tokens;
  std::vector<int64_t> present;  // tokens of each sample
};

std::vector<CasePlan> plan_cases(int64_t longest) {
  const int64_t few = std::min<int64_t>(longest, 7);
  const int64_t many = std::min(longest, kLongestVerified);
  return {{1, {1}}, {few, {few, (few + 1) / 2, 0}}, {many, {many, (2 * many + 2) / 3}}};
}

std::vector<float> on_host(const ExecutionContext& ctx, const TensorView& device) {
  std::vector<float> values(static_cast<std::size_t>(device.elements()));
  copy_to_host(ctx, values.data(), device);
  return values;
}

// mean + normal / scale: what the standardised inputs then are.
Array random_features(Separator& model, uint32_t stream, int64_t samples, int64_t tokens) {
  const std::vector<float> mean = on_host(model.context(), model.input_mean());
  const std::vector<float> scale = on_host(model.context(), model.input_scale());
  const int64_t features = model.config().input_dim;
  std::vector<float> values(static_cast<std::size_t>(samples * tokens * features));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t feature = i % static_cast<std::size_t>(features);
    const float deviation = scale[feature] == 0.0F ? 1.0F : 1.0F / scale[feature];
    values[i] = mean[feature] + normal(stream, static_cast<int64_t>(i)) * deviation;
  }
  return Array::of({samples, tokens, features}, std::move(values));
}

evaluator::StemOutputs by_stem(const ConstTensorView& outputs) {
  const int64_t count = outputs.elements() / kStemCount;
  evaluator::StemOutputs stems;
  for (int64_t s = 0; s < kStemCount; ++s) {
    const float* values = outputs.as<float>() + s * count;
    stems[std::string(kStemNames[static_cast<std::size_t>(s)])] =
        Array::of({outputs.dim(1), outputs.dim(2), outputs.dim(3)}, {values, values + count});
  }
  return stems;
}

struct Difference {
  double share = 0.0;  // of the largest expected output
  std::size_t at = 0;
};

Difference largest_difference(const Array& expected, const Array& found) {
  double largest = 0.0;
  for (const float value : expected.values) {
    largest = std::max(largest, std::abs(double{value}));
  }
  Difference worst;
  for (std::size_t i = 0; i < expected.values.size(); ++i) {
    const double difference = std::abs(double{found.values[i]} - expected.values[i]);
    const double share = difference == 0.0 ? 0.0 : difference / largest;
    if (!(share <= worst.share)) {  // also NaN
      worst = {share, i};
    }
    if (std::isnan(share)) {
      break;
    }
  }
  return worst;
}

}  // namespace

ExportReference::ExportReference(const TrainedModel& trained) {
  Separator& model = *trained.model;
  HostForward forward(model);
  uint32_t stream = 0;
  for (const CasePlan& plan : plan_cases(model.config().max_sequence_length)) {
    const auto samples = static_cast<int64_t>(plan.present.size());
    Array features = random_features(model, stream++, samples, plan.tokens);
    Tensor mask(Shape{samples, plan.tokens}, DType::kU8);
    std::vector<float> mask_values;
    for (int64_t i = 0; i < mask.elements(); ++i) {
      const bool present =
          i % plan.tokens < plan.present[static_cast<std::size_t>(i / plan.tokens)];
      mask.as<uint8_t>()[i] = present ? 1 : 0;
      mask_values.push_back(present ? 1.0F : 0.0F);
    }
    const ConstTensorView inputs(features.values.data(),
                                 Shape{samples, plan.tokens, model.config().input_dim});
    evaluator::StemOutputs expected = by_stem(forward(inputs, mask.view()));
    cases_.push_back({std::move(features),
                      Array::of({samples, plan.tokens}, std::move(mask_values)),
                      std::move(expected)});
  }
}

double ExportReference::agreement(const std::string& file,
                                  const evaluator::Evaluator& evaluate) const {
  double worst = 0.0;
  for (const Case& one : cases_) {
    const evaluator::StemOutputs outputs = evaluate(one.features, one.mask);
    for (const auto& [stem, expected] : one.expected) {
      const auto found = outputs.find(stem);
      if (found == outputs.end() || found->second.shape != expected.shape) {
        throw InputError(
            "{}: the output '{}' is {}, not {}", file, stem,
            found == outputs.end() ? "missing" : evaluator::to_string(found->second.shape),
            evaluator::to_string(expected.shape));
      }
      const Difference difference = largest_difference(expected, found->second);
      if (!(difference.share <= kExportTolerance)) {
        throw NumericError(
            "{}: the output '{}' {} is {} at element {}, but the trainer's is {}: a difference of "
            "{:.1e} of the largest one, where {:.0e} is allowed; nothing was exported. Weights, "
            "input statistics or attention scores of extreme size lose their precision in such a "
            "file; anything else is a bug, please report it",
            file, stem, evaluator::to_string(expected.shape), found->second.values[difference.at],
            difference.at, expected.values[difference.at], difference.share, kExportTolerance);
      }
      worst = std::max(worst, difference.share);
    }
  }
  return worst;
}

ExportReference::Loss ExportReference::loss_against(const ExportReference& exact) const {
  Loss loss;
  double differences = 0.0;
  double outputs = 0.0;
  for (std::size_t i = 0; i < cases_.size(); ++i) {
    for (const auto& [stem, expected] : exact.cases_[i].expected) {
      const Array& found = cases_[i].expected.at(stem);
      loss.largest = std::max(loss.largest, largest_difference(expected, found).share);
      for (std::size_t k = 0; k < expected.values.size(); ++k) {
        const double difference = double{found.values[k]} - expected.values[k];
        differences += difference * difference;
        outputs += double{expected.values[k]} * expected.values[k];
      }
    }
  }
  loss.rms = differences == 0.0 ? 0.0 : std::sqrt(differences / outputs);
  return loss;
}

}  // namespace stemfabric
