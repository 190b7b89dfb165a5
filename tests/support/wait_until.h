// Waiting for what another thread or process does, without a test that hangs.
#pragma once

#include <chrono>
#include <thread>

namespace stemfabric::test {

// Whether it came true within a minute.
template <typename Predicate>
[[nodiscard]] bool wait_until(Predicate is_true) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!is_true()) {
    if (std::chrono::steady_clock::now() >= deadline) {
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace stemfabric::test
