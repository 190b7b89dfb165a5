#include <fmt/core.h>

#include "runtime/core/check.h"

int main() {
  fmt::print(stderr, "stemfabric\n");
  return 0;
}
