// Runs a test body once for each SIMD level that was compiled in and that this CPU has.
#pragma once

#include <functional>

namespace stemfabric::test {

// The name of the level ("AVX2", …) is added to every failure. Afterwards the best level is chosen
// again, as in the product.
void for_each_simd_level(const std::function<void()>& body);

}  // namespace stemfabric::test
