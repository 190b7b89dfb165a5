#include "kernels/bss_eval/block_toeplitz_cpu.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/bss_eval/block_toeplitz_cpu.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/common/simd-inl.h"

#ifndef SF_KERNELS_BSS_EVAL_BLOCK_TOEPLITZ_TYPES
#define SF_KERNELS_BSS_EVAL_BLOCK_TOEPLITZ_TYPES
namespace stemfabric::cpu {

// What is done to every row of U and V in one step; for each r < p a reflection
// v −= scale[r] (v · w[r]) w[r] and then a rotation of u[r] and v[0].
struct SchurStep {
  int64_t p;
  const double* w;       // [p, p]
  const double* scale;   // [p], 0: no reflection
  const double* rho;     // [p]
  const double* cosine;  // [p], sqrt(1 − rho²)
};

// Rows of a block column: element (row, k) at data[k · stride + row].
struct SchurRows {
  const double* u;
  double* u_out;
  double* v;
  int64_t u_stride, u_out_stride, v_stride;
};

// Rows [begin, end) of a block column of L and of the right-hand sides.
struct SolveRows {
  int64_t p;
  const double* l;
  int64_t l_stride;
  double* x;
  int64_t x_stride, columns;
  double* pivots;  // [columns, p]
  int64_t begin, end;
};

}  // namespace stemfabric::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace stemfabric::HWY_NAMESPACE {
namespace {

constexpr int kMostInRegisters = 12;

// One vector of rows.
template <int kP, class D>
HWY_INLINE void schur_rows(D d, const cpu::SchurStep& s, const cpu::SchurRows& rows, int64_t row) {
  hn::Vec<D> v[kP];
#pragma GCC unroll 12
  for (int k = 0; k < kP; ++k) {
    v[k] = hn::LoadU(d, rows.v + k * rows.v_stride + row);
  }
#pragma GCC unroll 12
  for (int r = 0; r < kP; ++r) {
    const double* w = s.w + r * kP;
    auto even = hn::Mul(v[0], hn::Set(d, w[0]));
    auto odd = hn::Zero(d);
#pragma GCC unroll 12
    for (int k = 1; k < kP; ++k) {
      auto& sum = k % 2 == 0 ? even : odd;
      sum = hn::MulAdd(v[k], hn::Set(d, w[k]), sum);
    }
    const auto t = hn::Mul(hn::Add(even, odd), hn::Set(d, s.scale[r]));
#pragma GCC unroll 12
    for (int k = 0; k < kP; ++k) {
      v[k] = hn::NegMulAdd(t, hn::Set(d, w[k]), v[k]);
    }
    const auto rho = hn::Set(d, s.rho[r]);
    const auto cosine = hn::Set(d, s.cosine[r]);
    const auto u = hn::LoadU(d, rows.u + r * rows.u_stride + row);
    const auto rotated = hn::Div(hn::NegMulAdd(rho, v[0], u), cosine);
    v[0] = hn::NegMulAdd(rho, rotated, hn::Mul(cosine, v[0]));
    hn::StoreU(rotated, d, rows.u_out + r * rows.u_out_stride + row);
  }
#pragma GCC unroll 12
  for (int k = 0; k < kP; ++k) {
    hn::StoreU(v[k], d, rows.v + k * rows.v_stride + row);
  }
}

// The same for any p, with V in memory.
template <class D>
HWY_INLINE void schur_rows_in_memory(D d, const cpu::SchurStep& s, const cpu::SchurRows& rows,
                                     int64_t row) {
  for (int64_t r = 0; r < s.p; ++r) {
    const double* w = s.w + r * s.p;
    auto sum = hn::Zero(d);
    for (int64_t k = 0; k < s.p; ++k) {
      sum = hn::MulAdd(hn::LoadU(d, rows.v + k * rows.v_stride + row), hn::Set(d, w[k]), sum);
    }
    const auto t = hn::Mul(sum, hn::Set(d, s.scale[r]));
    for (int64_t k = 0; k < s.p; ++k) {
      double* v = rows.v + k * rows.v_stride + row;
      hn::StoreU(hn::NegMulAdd(t, hn::Set(d, w[k]), hn::LoadU(d, v)), d, v);
    }
    const auto rho = hn::Set(d, s.rho[r]);
    const auto cosine = hn::Set(d, s.cosine[r]);
    const auto u = hn::LoadU(d, rows.u + r * rows.u_stride + row);
    const auto v0 = hn::LoadU(d, rows.v + row);
    const auto rotated = hn::Div(hn::NegMulAdd(rho, v0, u), cosine);
    hn::StoreU(hn::NegMulAdd(rho, rotated, hn::Mul(cosine, v0)), d, rows.v + row);
    hn::StoreU(rotated, d, rows.u_out + r * rows.u_out_stride + row);
  }
}

template <class Body>
HWY_INLINE void for_rows(int64_t begin, int64_t end, const Body& body) {
  const DoubleTag d;
  const hn::CappedTag<double, 1> d1;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t row = begin;
  for (; row + lanes <= end; row += lanes) {
    body(d, row);
  }
  for (; row < end; ++row) {
    body(d1, row);
  }
}

template <int kP>
HWY_INLINE void schur_step(const cpu::SchurStep& s, const cpu::SchurRows& rows, int64_t begin,
                           int64_t end) {
  for_rows(begin, end, [&](auto d, int64_t row) HWY_ATTR {
    if constexpr (kP > 0) {
      schur_rows<kP>(d, s, rows, row);
    } else {
      schur_rows_in_memory(d, s, rows, row);
    }
  });
}

// pivots[c, k] += Σ_row l[row, k] · x[row, c] for kColumns columns from `column` on.
template <int kColumns>
HWY_INLINE void dot_rows(const cpu::SolveRows& s, int64_t k, int64_t column) {
  const DoubleTag d;
  const hn::CappedTag<double, 1> d1;
  const double* l = s.l + k * s.l_stride;
  const double* x = s.x + column * s.x_stride;
  hn::Vec<DoubleTag> sum[kColumns][2];
  for (auto& pair : sum) {
    pair[0] = pair[1] = hn::Zero(d);
  }
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t row = s.begin;
  for (; row + 2 * lanes <= s.end; row += 2 * lanes) {
    const auto l0 = hn::LoadU(d, l + row);
    const auto l1 = hn::LoadU(d, l + row + lanes);
    for (int c = 0; c < kColumns; ++c) {
      sum[c][0] = hn::MulAdd(l0, hn::LoadU(d, x + c * s.x_stride + row), sum[c][0]);
      sum[c][1] = hn::MulAdd(l1, hn::LoadU(d, x + c * s.x_stride + row + lanes), sum[c][1]);
    }
  }
  for (int c = 0; c < kColumns; ++c) {
    auto rest = hn::Zero(d1);
    for (int64_t i = row; i < s.end; ++i) {
      rest = hn::MulAdd(hn::LoadU(d1, l + i), hn::LoadU(d1, x + c * s.x_stride + i), rest);
    }
    s.pivots[(column + c) * s.p + k] +=
        hn::GetLane(hn::SumOfLanes(d, hn::Add(sum[c][0], sum[c][1]))) + hn::GetLane(rest);
  }
}

}  // namespace

void bss_schur_rows(const cpu::SchurStep& s, const cpu::SchurRows& rows, int64_t begin,
                    int64_t end) {
  switch (s.p) {
    case 1:
      return schur_step<1>(s, rows, begin, end);
    case 2:
      return schur_step<2>(s, rows, begin, end);
    case 4:
      return schur_step<4>(s, rows, begin, end);
    case 6:
      return schur_step<6>(s, rows, begin, end);
    case 8:
      return schur_step<8>(s, rows, begin, end);
    case kMostInRegisters:
      return schur_step<kMostInRegisters>(s, rows, begin, end);
    default:
      return schur_step<0>(s, rows, begin, end);
  }
}

// x[row, c] −= Σ_k l[row, k] · pivots[c, k]
void bss_forward_rows(const cpu::SolveRows& s) {
  for_rows(s.begin, s.end, [&](auto d, int64_t row) HWY_ATTR {
    for (int64_t c = 0; c < s.columns; ++c) {
      double* x = s.x + c * s.x_stride + row;
      auto even = hn::LoadU(d, x);
      auto odd = hn::Zero(d);
      for (int64_t k = 0; k < s.p; ++k) {
        auto& sum = k % 2 == 0 ? even : odd;
        sum = hn::NegMulAdd(hn::LoadU(d, s.l + k * s.l_stride + row),
                            hn::Set(d, s.pivots[c * s.p + k]), sum);
      }
      hn::StoreU(hn::Add(even, odd), d, x);
    }
  });
}

void bss_backward_rows(const cpu::SolveRows& s) {
  for (int64_t k = 0; k < s.p; ++k) {
    int64_t column = 0;
    for (; column + 4 <= s.columns; column += 4) {
      dot_rows<4>(s, k, column);
    }
    for (; column < s.columns; ++column) {
      dot_rows<1>(s, k, column);
    }
  }
}

}  // namespace stemfabric::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace stemfabric {
HWY_EXPORT(bss_schur_rows);
HWY_EXPORT(bss_forward_rows);
HWY_EXPORT(bss_backward_rows);
}  // namespace stemfabric

namespace stemfabric::cpu {
namespace {

constexpr int64_t kRowsPerTask = 512;

// The scratch memory of a factorisation.
struct Work {
  Work(double* memory, int64_t p, int64_t m)
      : v(memory),
        u0(v + p * p * m),
        v0(u0 + p * p),
        w(v0 + p * p),
        scale(w + p * p),
        rho(scale + p),
        cosine(rho + p) {}
  double* v;        // V: element (row, k) at k·n + row
  double *u0, *v0;  // the topmost blocks of U and V, [p, p] by rows
  double* w;        // of the step, see SchurStep
  double *scale, *rho, *cosine;
};

// The reflection that leaves only the first element of v[0 … p−1]: returns its scale.
double reflection(const double* v, int64_t p, double* w) {
  double squares = 0;
  for (int64_t k = 0; k < p; ++k) {
    squares += v[k] * v[k];
    w[k] = v[k];
  }
  if (squares == 0) {
    return 0;
  }
  w[0] += std::copysign(std::sqrt(squares), v[0]);
  return 2 / (squares - v[0] * v[0] + w[0] * w[0]);
}

// Finds the step that makes the topmost block of V zero, and applies it to the topmost blocks.
bool find_step(const Work& work, int64_t p) {
  for (int64_t r = 0; r < p; ++r) {
    double* w = work.w + r * p;
    work.scale[r] = reflection(work.v0 + r * p, p, w);
    for (int64_t row = r; row < p; ++row) {
      double* v = work.v0 + row * p;
      double product = 0;
      for (int64_t k = 0; k < p; ++k) {
        product += v[k] * w[k];
      }
      for (int64_t k = 0; k < p; ++k) {
        v[k] -= work.scale[r] * product * w[k];
      }
    }
    const double rho = work.v0[r * p] / work.u0[r * p + r];
    if (!(std::abs(rho) < 1)) {
      return false;
    }
    const double cosine = std::sqrt((1 - rho) * (1 + rho));
    work.rho[r] = rho;
    work.cosine[r] = cosine;
    for (int64_t row = r; row < p; ++row) {
      double& u = work.u0[row * p + r];
      double& v = work.v0[row * p];
      u = (u - rho * v) / cosine;
      v = cosine * v - rho * u;
    }
  }
  return true;
}

}  // namespace

// U = (B_0, B_1, …)ᵀ L_0^{−T} with B_0 + load I = L_0 L_0ᵀ.
bool BlockToeplitz::first_column(const double* blocks, double load) {
  const int64_t n = p_ * m_;
  double* l = column(0);
  const auto b = [&](int64_t lag, int64_t k, int64_t k2) {
    return blocks[(k * p_ + k2) * m_ + lag];
  };
  for (int64_t c = 0; c < p_; ++c) {
    for (int64_t row = 0; row < n; ++row) {
      const int64_t k = row % p_;
      if (row < c) {
        l[c * n + row] = 0;  // above the diagonal
        continue;
      }
      double sum = b(row / p_, k, c) + (row == c ? load : 0);
      for (int64_t j = 0; j < c; ++j) {
        sum -= l[j * n + row] * l[j * n + c];
      }
      if (row == c && !(sum > 0)) {
        return false;
      }
      l[c * n + row] = row == c ? std::sqrt(sum) : sum / l[c * n + c];
    }
  }
  return true;
}

bool BlockToeplitz::factorise(const double* blocks, double load, ThreadPool* threads) {
  if (!first_column(blocks, load)) {
    return false;
  }
  const int64_t n = p_ * m_;
  const Work work(scratch_, p_, m_);
  std::copy_n(column(0), p_ * n, work.v);
  for (int64_t i = 1; i < m_; ++i) {
    const int64_t rows = n - i * p_;
    const double* u = column(i - 1);
    const int64_t u_stride = rows + p_;
    double* v = work.v + i * p_;
    double* u_out = column(i);
    for (int64_t row = 0; row < p_; ++row) {
      for (int64_t k = 0; k < p_; ++k) {
        work.u0[row * p_ + k] = u[k * u_stride + row];
        work.v0[row * p_ + k] = v[k * n + row];
      }
    }
    if (!find_step(work, p_)) {
      return false;
    }
    for (int64_t row = 0; row < p_; ++row) {
      for (int64_t k = 0; k < p_; ++k) {
        u_out[k * rows + row] = row < k ? 0 : work.u0[row * p_ + k];
      }
    }
    const SchurStep step = {p_, work.w, work.scale, work.rho, work.cosine};
    const SchurRows views = {u, u_out, v, u_stride, rows, n};
    const auto task = [&](int64_t t) {
      HWY_DYNAMIC_DISPATCH(bss_schur_rows)
      (step, views, p_ + t * kRowsPerTask, std::min(rows, p_ + (t + 1) * kRowsPerTask));
    };
    const int64_t tasks = (rows - p_ + kRowsPerTask - 1) / kRowsPerTask;
    if (threads != nullptr && tasks > 1) {
      threads->run(tasks, task);
      continue;
    }
    for (int64_t t = 0; t < tasks; ++t) {
      task(t);
    }
  }
  return true;
}

void BlockToeplitz::solve(double* x, int64_t columns, int64_t column_stride, double* pivots) const {
  const int64_t n = p_ * m_;
  const auto rows_of = [&](int64_t i) {
    return SolveRows{.p = p_,
                     .l = column(i),
                     .l_stride = n - i * p_,
                     .x = x + i * p_,
                     .x_stride = column_stride,
                     .columns = columns,
                     .pivots = pivots,
                     .begin = p_,
                     .end = n - i * p_};
  };
  for (int64_t i = 0; i < m_; ++i) {
    const SolveRows s = rows_of(i);
    for (int64_t c = 0; c < columns; ++c) {
      double* b = s.x + c * column_stride;
      for (int64_t k = 0; k < p_; ++k) {
        for (int64_t j = 0; j < k; ++j) {
          b[k] -= s.l[j * s.l_stride + k] * b[j];
        }
        b[k] /= s.l[k * s.l_stride + k];
        pivots[c * p_ + k] = b[k];
      }
    }
    HWY_DYNAMIC_DISPATCH(bss_forward_rows)(s);
  }
  for (int64_t i = m_ - 1; i >= 0; --i) {
    const SolveRows s = rows_of(i);
    std::fill_n(pivots, columns * p_, 0.0);
    HWY_DYNAMIC_DISPATCH(bss_backward_rows)(s);
    for (int64_t c = 0; c < columns; ++c) {
      double* b = s.x + c * column_stride;
      for (int64_t k = p_ - 1; k >= 0; --k) {
        b[k] -= pivots[c * p_ + k];
        for (int64_t j = k + 1; j < p_; ++j) {
          b[k] -= s.l[k * s.l_stride + j] * b[j];
        }
        b[k] /= s.l[k * s.l_stride + k];
      }
    }
  }
}

}  // namespace stemfabric::cpu
#endif  // HWY_ONCE
