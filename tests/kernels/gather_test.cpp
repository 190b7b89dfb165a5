// Rows by number, to the bit, whatever they are long and wherever they begin.
#include "kernels/gather/gather.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/op_harness.h"

namespace stemfabric::test {
namespace {

GuardedTensor numbers(const std::vector<double>& values) {
  GuardedTensor index({static_cast<int64_t>(values.size())}, DType::kI32);
  index.assign(values);
  return index;
}

void check_gather(const Shape& table, DType dtype, const std::vector<double>& rows) {
  auto x = dtype == DType::kU8 ? GuardedTensor::random_mask(table, 1, 0.5)
                               : GuardedTensor::random(table, 1, -2, 2, {}, dtype);
  const auto index = numbers(rows);
  std::vector<int64_t> sizes(table.dims().begin(), table.dims().end());
  const int64_t row = table.elements() / sizes[0];
  sizes[0] = static_cast<int64_t>(rows.size());
  GuardedTensor y(Shape(std::span<const int64_t>(sizes)), dtype);
  run_repeatably({&y}, [&](const ExecutionContext& ctx) {
    gather(ctx, {.x = x.view(), .index = index.view(), .y = y.view()});
  });
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (int64_t j = 0; j < row; ++j) {
      ASSERT_EQ(y.get(static_cast<int64_t>(i) * row + j),
                x.get(static_cast<int64_t>(rows[i]) * row + j))
          << table.to_string() << " row " << i << ", element " << j;
    }
  }
}

TEST(Gather, TakesTheRowsThatAreNamed) {
  for (const int first : {0, 1}) {  // aligned, and not
    set_first_element(first);
    for (const int64_t row : {1, 4, 7, 16, 1023, 1025, 4096, 5000}) {
      check_gather({5, row}, DType::kF32, {4, 0, 2, 2, 1, 4});
      check_gather({5, row}, DType::kU8, {3, 0, 2});
    }
    check_gather({3, 2, 5, 3}, DType::kBF16, {1, 2});
    check_gather({3}, DType::kF32, {2, 0, 0, 1});
  }
  set_first_element(1);
}

TEST(Gather, NoRowsAndEmptyRowsAreNothing) {
  check_gather({3, 4}, DType::kF32, {});
  check_gather({3, 0}, DType::kF32, {1, 2});
}

TEST(Gather, OfANumberOutsideItWritesNaN) {
  for (const int64_t row : {4, 5}) {
    const auto x = GuardedTensor::random({3, row}, 1);
    const auto index = numbers({3, 1, -1, -2147483648.0, 2147483647.0});
    GuardedTensor y({5, row}, DType::kF32);
    y.assign(std::vector<double>(static_cast<std::size_t>(5 * row), 7.0));
    run_repeatably({&y}, [&](const ExecutionContext& ctx) {
      gather(ctx, {.x = x.view(), .index = index.view(), .y = y.view()});
    });
    for (int64_t i = 0; i < 5 * row; ++i) {
      EXPECT_TRUE(i / row == 1 ? y.get(i) == x.get(i) : std::isnan(y.get(i))) << i;
    }
  }
}

TEST(Gather, SaysWhatDoesNotFit) {
  auto x = GuardedTensor::random({3, 4}, 1);
  const auto index = numbers({0, 1});
  GuardedTensor y({2, 4}, DType::kF32), longer({2, 5}, DType::kF32), narrow({2, 4}, DType::kBF16);
  const auto run = [](ConstTensorView table, ConstTensorView rows, TensorView to) {
    gather(test_context(), {.x = table, .index = rows, .y = to});
  };
  expect_contract_error({"gather", "x is missing"}, [&] { run({}, index.view(), y.view()); });
  expect_contract_error({"gather", "index", "i32"}, [&] { run(x.view(), x.view(), y.view()); });
  expect_contract_error({"gather", "y", "[2, 5]", "expected [2, 4] f32"},
                        [&] { run(x.view(), index.view(), longer.view()); });
  expect_contract_error({"gather", "y", "bf16"},
                        [&] { run(x.view(), index.view(), narrow.view()); });
  expect_contract_error({"gather", "contiguous"},
                        [&] { run(longer.view().slice(1, 0, 4), index.view(), y.view()); });
}

}  // namespace
}  // namespace stemfabric::test
