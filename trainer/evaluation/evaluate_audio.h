// The part of evaluate() for audio data sets.
#pragma once

#include "trainer/evaluation/evaluate.h"

namespace stemfabric {

// A track at a time: memory holds one track's stems and their estimates. InputErrors as evaluate();
// also for a model of another sample rate than the data's.
EvaluateResult evaluate_audio(const ExecutionContext& ctx, const EvaluateRequest& request);

}  // namespace stemfabric
