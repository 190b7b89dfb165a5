// What the evaluators of all formats have in common: a file is read once, and errors name it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "runtime/core/check.h"
#include "trainer/export/evaluator/evaluators.h"

namespace stemfabric::evaluator {

// read() -> model; evaluate(model, features, mask) -> StemOutputs. InputErrors of both get the
// file's name, unless they begin with it.
template <typename Read, typename Evaluate>
Evaluator open_file(const std::string& file, const Read& read, const Evaluate& evaluate) {
  const auto named = [file](const auto& step) {
    try {
      return step();
    } catch (const InputError& error) {
      if (std::string_view(error.what()).starts_with(file)) {
        throw;
      }
      throw InputError("{}: {}", file, error.what());
    }
  };
  const auto model =
      named([&] { return std::make_shared<const std::invoke_result_t<Read>>(read()); });
  return [named, model, evaluate](const Array& features, const Array& mask) {
    return named([&] { return evaluate(*model, features, mask); });
  };
}

}  // namespace stemfabric::evaluator
