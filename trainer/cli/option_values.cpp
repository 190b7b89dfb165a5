#include "trainer/cli/option_values.h"

#include <fmt/core.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "trainer/config/suggest.h"

namespace stemfabric::cli {
namespace {

constexpr std::size_t kShown = 80;  // of a wrong value

template <typename T>
bool parse_whole(const std::string& text, T& value, std::errc& error) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  error = result.ec;
  return result.ptr == end && !text.empty();
}

std::string in_quotes(const std::string& text) {
  return "'" + text.substr(0, kShown) + (text.size() > kShown ? "…'" : "'");
}

}  // namespace

CLI::Validator whole_number(int64_t least, int64_t most) {
  const bool open = most == std::numeric_limits<int64_t>::max();
  const std::string range =
      open ? fmt::format("of at least {}", least) : fmt::format("from {} to {}", least, most);
  return {[=](std::string& text) -> std::string {
            int64_t value = 0;
            std::errc error{};
            const bool whole = parse_whole(text, value, error);
            if (whole && error == std::errc() && value >= least && value <= most) {
              return {};
            }
            return fmt::format("{} is no whole number {}{}", in_quotes(text), range,
                               open && error == std::errc::result_out_of_range
                                   ? fmt::format(" and at most {}", most)
                                   : "");
          },
          open ? fmt::format("INT in [{} - 2^63)", least)
               : fmt::format("INT in [{} - {}]", least, most)};
}

CLI::Validator real_number(double least, double most) {
  const bool open = std::isinf(most);
  const std::string range = open ? fmt::format("finite number of at least {}", least)
                                 : fmt::format("number from {} to {}", least, most);
  return {[=](std::string& text) -> std::string {
            double value = 0;
            std::errc error{};
            const bool whole = parse_whole(text, value, error);
            if (whole && error == std::errc() && value >= least && value <= most &&
                std::isfinite(value)) {
              return {};
            }
            return fmt::format("{} is no {}", in_quotes(text), range);
          },
          open ? fmt::format("FLOAT in [{} - inf)", least)
               : fmt::format("FLOAT in [{} - {}]", least, most)};
}

CLI::Validator one_of(std::vector<std::string> words) {
  std::string list;
  for (const std::string& word : words) {
    list += (list.empty() ? "" : ",") + word;
  }
  return {[words = std::move(words)](std::string& text) -> std::string {
            for (const std::string& word : words) {
              if (word == text) {
                return {};
              }
            }
            return fmt::format("{} is none of {}{}", in_quotes(text), comma_list(words),
                               did_you_mean(text, words));
          },
          "{" + list + "}"};
}

}  // namespace stemfabric::cli
