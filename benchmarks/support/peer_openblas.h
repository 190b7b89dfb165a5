// OpenBLAS, the peer of the matrix products, where this machine has it.
#pragma once

#include <cstdint>
#include <string>

namespace stemfabric::benchmarks {

bool have_openblas();
// Sets its threads; returns what it says of itself, or "none".
std::string use_openblas_threads(int threads);

// c[m,n] = a · b + beta · c, all dense and row-major; a or b may be stored transposed.
struct SgemmArgs {
  int64_t m, n, k;
  const float* a;
  bool a_transposed;
  const float* b;
  bool b_transposed;
  float beta;
  float* c;
};
void openblas_sgemm(const SgemmArgs& args);

}  // namespace stemfabric::benchmarks
