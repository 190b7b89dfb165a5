// Charts as inline SVG for reports: no scripts, colours from the page's style sheet by class name
// (series-0, series-1, …), so that they follow its light and dark themes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "trainer/evaluation/evaluation.h"

namespace stemfabric {

// For text and attribute values of HTML and SVG. Bytes that are no printable text become '?'.
std::string escape_html(std::string_view text);
// A number for people: three significant digits, "1.2e-05" far from 1, "–" if it is not finite.
std::string short_number(double value);

struct Series {
  std::string name;
  std::vector<double> x, y;  // non-finite values leave gaps
};
// Logarithmic y axis if all values are positive and span more than a factor of 20.
std::string line_chart(const std::string& title, const std::string& x_label,
                       const std::vector<Series>& series);

struct Box {
  std::string label;
  Distribution distribution;
  std::vector<double> values;  // shown as dots if they are few
  double baseline = 0;         // shown as a short line; NaN = none
};
// Box from the lower to the upper quartile with the median, whiskers from minimum to maximum; what
// lies beyond ±kAxisLimit is drawn at the edge. `target` is a line across.
std::string box_chart(const std::string& title, const std::string& unit,
                      const std::vector<Box>& boxes, double target);
inline constexpr double kAxisLimit = 40;

}  // namespace stemfabric
