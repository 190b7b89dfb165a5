#include "benchmarks/support/peer_openblas.h"

#include "runtime/core/check.h"

#ifdef STEMFABRIC_OPENBLAS
#include <cblas.h>
#endif

namespace stemfabric::benchmarks {

#ifdef STEMFABRIC_OPENBLAS
bool have_openblas() { return true; }

std::string use_openblas_threads(int threads) {
  openblas_set_num_threads(threads);
  return fmt::format("{}, core type {}", openblas_get_config(), openblas_get_corename());
}

void openblas_sgemm(const SgemmArgs& s) {
  const auto trans = [](bool transposed) { return transposed ? CblasTrans : CblasNoTrans; };
  const auto m = static_cast<blasint>(s.m);
  const auto n = static_cast<blasint>(s.n);
  const auto k = static_cast<blasint>(s.k);
  cblas_sgemm(CblasRowMajor, trans(s.a_transposed), trans(s.b_transposed), m, n, k, 1.0f, s.a,
              s.a_transposed ? m : k, s.b, s.b_transposed ? k : n, s.beta, s.c, n);
}
#else
bool have_openblas() { return false; }
std::string use_openblas_threads(int) { return "none (OpenBLAS was not found)"; }
void openblas_sgemm(const SgemmArgs&) { throw InternalError("built without OpenBLAS"); }
#endif

}  // namespace stemfabric::benchmarks
