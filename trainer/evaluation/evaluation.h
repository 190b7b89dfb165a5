// Scores of a model on a data set, per record and stem, beside those of the plain mixture.
//
// The vectors of a record are its supervised elements: those whose token is present and whose
// target is supervised for every stem that the record has at all. Stems without any are absent,
// stems that are zero in all of them are silent; neither is evaluated, and neither is a source.
// The mixture baseline answers with the sum of the record's true stems for every stem.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/device/execution_context.h"
#include "trainer/data/dataset.h"
#include "trainer/evaluation/separation_scores.h"
#include "trainer/model/separator.h"
#include "trainer/stems.h"

namespace stemfabric {

enum class StemState : uint8_t { kEvaluated, kAbsent, kSilent };

struct StemEvaluation {
  StemState state = StemState::kAbsent;
  SeparationScores model{};    // only if evaluated, and if there is a model
  SeparationScores mixture{};  // only if evaluated
};

struct RecordEvaluation {
  std::string id;
  int64_t elements = 0;       // length of the vectors
  int64_t left_out = 0;       // elements supervised for some stems of the record only
  int independent_stems = 0;  // dimension of the span of the true stems
  std::array<StemEvaluation, kStemCount> stems;
};

// One record's rows of a batch. `outputs` is empty without a model.
RecordEvaluation evaluate_record(const std::string& id, const ConstTensorView& targets,
                                 const ConstTensorView& target_mask,
                                 const ConstTensorView& input_mask, const ConstTensorView& outputs);

// All samples of a data set; `model` may be null (baseline only). NumericError that names the
// record if the model's output is not finite.
std::vector<RecordEvaluation> evaluate_dataset(Separator* model, const Dataset& dataset,
                                               int64_t batch_size);

// ---- summaries

// Quantiles interpolate linearly between order statistics. All 0 if count is 0.
struct Distribution {
  int64_t count = 0;
  double mean = 0, min = 0, q25 = 0, median = 0, q75 = 0, max = 0;
};
Distribution distribution_of(std::vector<double> values);  // NaN are left out

inline constexpr std::array<const char*, 4> kMetricNames = {"sdr", "sir", "sar", "overall"};
// What a median must exceed.
inline constexpr std::array<double, 4> kMetricTargets = {10, 15, 10, 0.75};
double metric_value(const SeparationScores& scores, std::size_t metric);

using MetricDistributions = std::array<Distribution, kMetricNames.size()>;

struct StemSummary {
  int64_t evaluated = 0, absent = 0, silent = 0;
  MetricDistributions model, mixture;
};
struct EvaluationSummary {
  std::array<StemSummary, kStemCount> stems;
  MetricDistributions model, mixture;  // over all evaluated stems of all records
};
EvaluationSummary summarise(const std::vector<RecordEvaluation>& records);

}  // namespace stemfabric
