// Where references depend on each other their Gram matrix is not positive definite to working
// precision, and a share of its mean diagonal is added to the diagonal: rounding needs some 1e-15.
//   for (double load = 0; load < kHopelessBssLoad; load = next_bss_load(load)) …
#pragma once

namespace stemfabric {

inline double next_bss_load(double load) { return load == 0 ? 1e-15 : 10 * load; }
// Only values that are not finite come so far.
inline constexpr double kHopelessBssLoad = 1;

}  // namespace stemfabric
