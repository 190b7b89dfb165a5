// Small computations with known results: proof that the instructions chosen for this machine work.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace stemfabric {

struct SelfTest {
  std::string name;
  std::string what;                  // said when it passes
  std::function<std::string()> run;  // empty, or what was wrong
};
std::vector<SelfTest> self_tests();

}  // namespace stemfabric
