#include "benchmarks/support/peer_openblas.h"

#include <dlfcn.h>

#include "runtime/core/check.h"

namespace stemfabric::benchmarks {
namespace {

// What we call of OpenBLAS (cblas.h with 32-bit sizes).
enum Order : int { kRowMajor = 101 };
enum Transpose : int { kAsItIs = 111, kTransposed = 112 };
using Sgemm = void(Order, Transpose, Transpose, int m, int n, int k, float alpha, const float* a,
                   int lda, const float* b, int ldb, float beta, float* c, int ldc);

struct OpenBlas {
  void (*set_num_threads)(int) = nullptr;
  char* (*get_config)() = nullptr;
  char* (*get_corename)() = nullptr;
  Sgemm* sgemm = nullptr;

  // Loaded, not linked: the benchmarks run without it too.
  OpenBlas() {
    void* library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      return;
    }
    const auto find = [&](auto& function, const char* name) {
      function =
          reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      return function != nullptr;
    };
    if (!find(set_num_threads, "openblas_set_num_threads") ||
        !find(get_config, "openblas_get_config") || !find(get_corename, "openblas_get_corename") ||
        !find(sgemm, "cblas_sgemm")) {
      sgemm = nullptr;
    }
  }
};

const OpenBlas& openblas() {
  static const OpenBlas library;
  return library;
}

}  // namespace

bool have_openblas() { return openblas().sgemm != nullptr; }

std::string use_openblas_threads(int threads) {
  if (!have_openblas()) {
    return "none (libopenblas.so.0 was not found)";
  }
  openblas().set_num_threads(threads);
  return fmt::format("{}, core type {}", openblas().get_config(), openblas().get_corename());
}

void openblas_sgemm(const SgemmArgs& s) {
  SF_CHECK(have_openblas(), "no OpenBLAS");
  const auto trans = [](bool transposed) { return transposed ? kTransposed : kAsItIs; };
  const auto m = static_cast<int>(s.m);
  const auto n = static_cast<int>(s.n);
  const auto k = static_cast<int>(s.k);
  openblas().sgemm(kRowMajor, trans(s.a_transposed), trans(s.b_transposed), m, n, k, 1.0f, s.a,
                   s.a_transposed ? m : k, s.b, s.b_transposed ? k : n, s.beta, s.c, n);
}

}  // namespace stemfabric::benchmarks
