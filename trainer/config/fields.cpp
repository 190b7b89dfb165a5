#include "trainer/config/fields.h"

#include <fmt/core.h>

#include <cctype>
#include <cmath>
#include <nlohmann/json.hpp>

#include "trainer/config/suggest.h"

namespace stemfabric {
namespace {

template <typename... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <typename... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;  // which clang 14 does not find by itself

std::string bound_text(double value) {
  return std::abs(value) < 1e15 && value == std::floor(value)
             ? fmt::format("{}", static_cast<int64_t>(value))
             : fmt::format("{}", value);
}

// Words that YAML readers take for something else than a string.
bool reads_as_other(const std::string& text) {
  std::string lower;
  for (const char c : text) {
    lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  for (const char* word : {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}) {
    if (lower == word) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string string_to_yaml(const std::string& text) {
  bool plain = !text.empty() && !reads_as_other(text) &&
               (std::isalpha(static_cast<unsigned char>(text[0])) != 0 || text[0] == '/');
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    plain = plain && (std::isalnum(byte) != 0 || c == '_' || c == '-' || c == '.' || c == '/');
  }
  // JSON strings are YAML double-quoted scalars.
  return plain
             ? text
             : nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string double_to_text(double value) {
  std::string text = fmt::format("{}", value);
  const std::size_t exponent = text.find('e');
  if (text.find('.') == std::string::npos && std::isfinite(value)) {
    text.insert(exponent == std::string::npos ? text.size() : exponent, ".0");
  }
  return text;
}

std::string value_to_yaml(const Field& field) {
  return std::visit(Overloaded{
                        [](const bool* value) { return std::string(*value ? "true" : "false"); },
                        [](const int64_t* value) { return fmt::format("{}", *value); },
                        [](const double* value) { return double_to_text(*value); },
                        [](const std::string* value) { return string_to_yaml(*value); },
                        [](const std::vector<double>* value) {
                          std::vector<std::string> texts;
                          for (const double item : *value) {
                            texts.push_back(double_to_text(item));
                          }
                          return fmt::format("[{}]", comma_list(texts));
                        },
                    },
                    field.value);
}

std::string type_name(const Field& field) {
  return std::visit(Overloaded{
                        [](const bool*) { return "true or false"; },
                        [](const int64_t*) { return "a whole number"; },
                        [](const double*) { return "a number"; },
                        [](const std::string*) { return "a text"; },
                        [](const std::vector<double>*) { return "a list of numbers"; },
                    },
                    field.value);
}

std::string allowed_text(const Field& field) {
  const Constraint& constraint = field.constraint;
  if (!constraint.choices.empty()) {
    return fmt::format("one of {}", comma_list(constraint.choices));
  }
  const bool min = std::isfinite(constraint.min);
  const bool max = std::isfinite(constraint.max);
  if (min && max) {
    return fmt::format("{} to {}", bound_text(constraint.min), bound_text(constraint.max));
  }
  if (min) {
    return fmt::format("at least {}", bound_text(constraint.min));
  }
  return max ? fmt::format("at most {}", bound_text(constraint.max)) : std::string();
}

}  // namespace stemfabric
