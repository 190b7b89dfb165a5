// The bounds of tolerance.h for the features of audio, each group by itself; logarithms of powers
// are compared as amplitudes.
#pragma once

#include <vector>

#include "tests/support/tolerance.h"

namespace stemfabric::test {

// [frames, 256] each.
void expect_features(const std::vector<double>& features, const std::vector<double>& naive,
                     const std::vector<double>& oracle, Floor floor = {});

}  // namespace stemfabric::test
