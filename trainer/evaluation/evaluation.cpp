#include "trainer/evaluation/evaluation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "runtime/core/check.h"
#include "runtime/core/progress.h"
#include "trainer/model/host_forward.h"

namespace stemfabric {
namespace {

using Vector = std::vector<double>;

// One record of a batch: [6, T, out] tensors (the model's with any strides) and [T].
struct RecordViews {
  const ConstTensorView& targets;
  const ConstTensorView& target_mask;
  const ConstTensorView& input_mask;
  const ConstTensorView& outputs;

  int64_t tokens() const { return targets.dim(1); }
  int64_t width() const { return targets.dim(2); }
  bool supervised(int64_t stem, int64_t element) const {
    return input_mask.as<uint8_t>()[element / width()] != 0 &&
           target_mask.as<uint8_t>()[stem * tokens() * width() + element] != 0;
  }
  double target(int64_t stem, int64_t element) const {
    return targets.as<float>()[stem * tokens() * width() + element];
  }
  double output(int64_t stem, int64_t element) const {
    return outputs.as<float>()[stem * outputs.stride(0) + element / width() * outputs.stride(1) +
                               element % width() * outputs.stride(2)];
  }
};

std::vector<int> present_stems(const RecordViews& views) {
  std::vector<int> present;
  const int64_t size = views.tokens() * views.width();
  for (int stem = 0; stem < kStemCount; ++stem) {
    for (int64_t element = 0; element < size; ++element) {
      if (views.supervised(stem, element)) {
        present.push_back(stem);
        break;
      }
    }
  }
  return present;
}

std::vector<int64_t> common_elements(const RecordViews& views, const std::vector<int>& present,
                                     int64_t& left_out) {
  std::vector<int64_t> elements;
  const int64_t size = views.tokens() * views.width();
  for (int64_t element = 0; element < size; ++element) {
    const auto here =
        std::ranges::count_if(present, [&](int stem) { return views.supervised(stem, element); });
    if (here > 0 && here == static_cast<std::ptrdiff_t>(present.size())) {
      elements.push_back(element);
    } else {
      left_out += here > 0 ? 1 : 0;
    }
  }
  return elements;
}

// Silence is exactly zero; the bound only keeps squares from vanishing.
bool silent(const Vector& v) {
  return std::ranges::all_of(v, [](double x) { return std::abs(x) < 1e-150; });
}

Vector model_output(const RecordViews& views, int stem, const std::vector<int64_t>& elements,
                    const std::string& id) {
  Vector estimate;
  estimate.reserve(elements.size());
  for (const int64_t element : elements) {
    estimate.push_back(views.output(stem, element));
    if (!std::isfinite(estimate.back())) {
      throw NumericError(
          "the model's estimate of {} is not finite for record '{}'; its weights "
          "are damaged or the training diverged",
          kStemNames[static_cast<std::size_t>(stem)], id);
    }
  }
  return estimate;
}

}  // namespace

RecordEvaluation evaluate_record(const std::string& id, const ConstTensorView& targets,
                                 const ConstTensorView& target_mask,
                                 const ConstTensorView& input_mask,
                                 const ConstTensorView& outputs) {
  const RecordViews views{targets, target_mask, input_mask, outputs};
  RecordEvaluation record;
  record.id = id;
  const std::vector<int> present = present_stems(views);
  const std::vector<int64_t> elements = common_elements(views, present, record.left_out);
  record.elements = static_cast<int64_t>(elements.size());
  std::vector<int> sounding;
  std::vector<Vector> sources;
  Vector mixture(elements.size(), 0.0);
  for (const int stem : present) {
    Vector source;
    source.reserve(elements.size());
    for (const int64_t element : elements) {
      source.push_back(views.target(stem, element));
    }
    std::ranges::transform(mixture, source, mixture.begin(), std::plus<>());
    if (silent(source)) {
      record.stems[static_cast<std::size_t>(stem)].state = StemState::kSilent;
    } else {
      sounding.push_back(stem);
      sources.push_back(std::move(source));
    }
  }
  if (sources.empty()) {
    return record;
  }
  const SourceSpace space(std::move(sources));
  record.independent_stems = space.rank();
  for (std::size_t i = 0; i < sounding.size(); ++i) {
    StemEvaluation& stem = record.stems[static_cast<std::size_t>(sounding[i])];
    stem.state = StemState::kEvaluated;
    stem.mixture = space.score(mixture, static_cast<int>(i));
    if (outputs) {
      stem.model = space.score(model_output(views, sounding[i], elements, id), static_cast<int>(i));
    }
  }
  return record;
}

std::vector<RecordEvaluation> evaluate_dataset(Separator* model, const Dataset& dataset,
                                               int64_t batch_size) {
  std::vector<RecordEvaluation> records;
  const int64_t capacity = std::clamp<int64_t>(batch_size, 1, std::max<int64_t>(dataset.size(), 1));
  Batch batch(capacity, dataset.tokens(), dataset.features(), dataset.outputs(),
              model != nullptr ? model->context().staging() : host_resource());
  std::optional<HostForward> forward;
  if (model != nullptr) {
    forward.emplace(*model);
  }
  Progress progress("evaluate", "records", dataset.size());
  for (int64_t begin = 0; begin < dataset.size(); begin += capacity) {
    const int64_t count = std::min(capacity, dataset.size() - begin);
    std::vector<int64_t> samples(static_cast<std::size_t>(count));
    std::iota(samples.begin(), samples.end(), begin);
    dataset.gather(samples, batch);
    const Shape one{kStemCount, dataset.tokens(), dataset.outputs()};
    const auto row = [&](const Tensor& tensor, int64_t i, const Shape& shape) {
      return tensor.view().slice(0, i, 1).reshape(shape);
    };
    ConstTensorView outputs;
    if (forward) {
      outputs = (*forward)(batch.inputs.view().slice(0, 0, count),
                           batch.input_mask.view().slice(0, 0, count));
    }
    for (int64_t i = 0; i < count; ++i) {
      ConstTensorView output;
      if (outputs) {
        output = ConstTensorView(outputs.as<float>() + i * outputs.stride(1), DType::kF32, one,
                                 {outputs.stride(0), outputs.stride(2), outputs.stride(3)});
      }
      records.push_back(evaluate_record(dataset.id(begin + i), row(batch.targets, i, one),
                                        row(batch.target_mask, i, one),
                                        row(batch.input_mask, i, Shape{dataset.tokens()}), output));
    }
    progress.advance(count);
  }
  return records;
}

Distribution distribution_of(std::vector<double> values) {
  std::erase_if(values, [](double x) { return std::isnan(x); });
  if (values.empty()) {
    return {};
  }
  std::ranges::sort(values);
  const auto quantile = [&](double share) {
    const double place = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
  };
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {.count = static_cast<int64_t>(values.size()),
          .mean = sum / static_cast<double>(values.size()),
          .min = values.front(),
          .q25 = quantile(0.25),
          .median = quantile(0.5),
          .q75 = quantile(0.75),
          .max = values.back()};
}

double metric_value(const SeparationScores& scores, std::size_t metric) {
  const std::array<double, kMetricNames.size()> values = {scores.sdr, scores.sir, scores.sar,
                                                          scores.overall};
  return values.at(metric);
}

namespace {

// The scores of some stems of all records: kStemCount = all.
MetricDistributions distributions(const std::vector<RecordEvaluation>& records, std::size_t stem,
                                  SeparationScores StemEvaluation::*scores) {
  std::array<Vector, kMetricNames.size()> values;
  for (const RecordEvaluation& record : records) {
    for (std::size_t s = 0; s < kStemCount; ++s) {
      if ((stem == kStemCount || s == stem) && record.stems[s].state == StemState::kEvaluated) {
        for (std::size_t m = 0; m < values.size(); ++m) {
          values[m].push_back(metric_value(record.stems[s].*scores, m));
        }
      }
    }
  }
  MetricDistributions result;
  std::ranges::transform(values, result.begin(),
                         [](Vector& v) { return distribution_of(std::move(v)); });
  return result;
}

}  // namespace

EvaluationSummary summarise(const std::vector<RecordEvaluation>& records) {
  EvaluationSummary summary;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    StemSummary& stem = summary.stems[s];
    for (const RecordEvaluation& record : records) {
      const StemState state = record.stems[s].state;
      stem.evaluated += state == StemState::kEvaluated ? 1 : 0;
      stem.absent += state == StemState::kAbsent ? 1 : 0;
      stem.silent += state == StemState::kSilent ? 1 : 0;
    }
    stem.model = distributions(records, s, &StemEvaluation::model);
    stem.mixture = distributions(records, s, &StemEvaluation::mixture);
  }
  summary.model = distributions(records, kStemCount, &StemEvaluation::model);
  summary.mixture = distributions(records, kStemCount, &StemEvaluation::mixture);
  return summary;
}

}  // namespace stemfabric
