// Whether an exported file answers as the trainer does.
#pragma once

#include <string>
#include <vector>

#include "runtime/device/execution_context.h"
#include "trainer/export/evaluator/evaluators.h"
#include "trainer/model/trained_model.h"

namespace stemfabric {

// Largest difference of an output that passes, as a share of the largest output of its stem in the
// same case.
inline constexpr double kExportTolerance = 1e-4;
// Longest sequence that is tried: evaluators form T × T matrices in plain loops.
inline constexpr int64_t kLongestVerified = 256;

// Inputs, distributed as the model's input statistics say, and what the trainer makes of them:
// one token; three samples of a few tokens, of which one has padding and one is nothing but
// padding; two samples as long as the model takes (at most kLongestVerified), one with padding.
class ExportReference {
 public:
  struct Case {
    evaluator::Array features, mask;
    evaluator::StemOutputs expected;
  };

  // `trained` must take three samples of kLongestVerified tokens or as many as it can.
  explicit ExportReference(const TrainedModel& trained);

  // The largest difference between the evaluator's outputs and the trainer's over all cases, as
  // kExportTolerance counts. NumericError that names `file`, stem and place if it is above the
  // tolerance or not a number; InputError for outputs that are missing or of another shape.
  double agreement(const std::string& file, const evaluator::Evaluator& evaluate) const;
  // How far these outputs are from those of another model in the same cases: the largest
  // difference, counted likewise, and the root of the mean square difference as a share of the
  // outputs' own.
  struct Loss {
    double largest = 0.0;
    double rms = 0.0;
  };
  Loss loss_against(const ExportReference& exact) const;

  const std::vector<Case>& cases() const { return cases_; }

 private:
  std::vector<Case> cases_;
};

}  // namespace stemfabric
