// The JSON file of `stemfabric bss-eval`, described in docs/bss_eval.md.
#pragma once

#include <string>

#include "trainer/evaluation/bss_eval_files.h"
#include "trainer/evaluation/bss_evaluation.h"

namespace stemfabric {

// NaN becomes null, infinities the strings "inf" and "-inf".
std::string bss_eval_json(const BssSources& sources, const BssEvaluation& evaluation);

}  // namespace stemfabric
