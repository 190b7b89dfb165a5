#include "trainer/report/svg_chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace stemfabric {
namespace {

constexpr double kWidth = 560;
constexpr double kHeight = 290;
constexpr double kLeft = 58;
constexpr double kRight = 16;
constexpr double kTop = 14;
constexpr double kBottom = 42;

// A linear or logarithmic scale from values to a range of pixels.
struct Axis {
  double low = 0, high = 1;  // of the values; their log10 if logarithmic
  double from = 0, to = 1;   // pixels
  bool logarithmic = false;

  double place(double value) const {
    const double v = logarithmic ? std::log10(value) : value;
    return from + (v - low) / (high - low) * (to - from);
  }
};

// Round steps (1, 2, 5 times a power of ten) that give about `count` ticks.
std::vector<double> linear_ticks(double low, double high, int count) {
  const double raw = (high - low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  const double factor = raw / power;
  const double step = power * (factor <= 1 ? 1 : factor <= 2 ? 2 : factor <= 5 ? 5 : 10);
  std::vector<double> ticks;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; ++i) {
    ticks.push_back(i * step);
  }
  return ticks;
}

std::vector<double> log_ticks(double low, double high) {
  std::vector<double> ticks;
  const bool dense = high - low < 2.5;
  for (double decade = std::floor(low); decade <= high; ++decade) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double value = std::log10(factor) + decade;
      if (value >= low - 1e-9 && value <= high + 1e-9 && (dense || factor == 1.0)) {
        ticks.push_back(std::pow(10.0, value));
      }
    }
  }
  return ticks;
}

Axis make_axis(double low, double high, double from, double to, bool logarithmic) {
  if (logarithmic) {
    low = std::log10(low);
    high = std::log10(high);
  }
  if (!(high > low)) {  // one value, or none
    const double margin = std::max(std::abs(low) * 0.1, 1e-6);
    low -= margin;
    high += margin;
  }
  return {.low = low, .high = high, .from = from, .to = to, .logarithmic = logarithmic};
}

std::string open_svg(const std::string& title) {
  return fmt::format(R"(<svg viewBox="0 0 {} {}" role="img" aria-label="{}">)", kWidth, kHeight,
                     escape_html(title));
}

std::string text(double x, double y, const char* anchor, const std::string& content,
                 const char* style = "tick") {
  return fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>)", x, y,
                     anchor, style, escape_html(content));
}

std::string line(double x1, double y1, double x2, double y2, const std::string& style) {
  return fmt::format(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>)", x1,
                     y1, x2, y2, style);
}

std::string y_grid(const Axis& y) {
  std::string svg;
  const auto ticks = y.logarithmic ? log_ticks(y.low, y.high) : linear_ticks(y.low, y.high, 7);
  for (const double tick : ticks) {
    svg += line(kLeft, y.place(tick), kWidth - kRight, y.place(tick), "grid");
    svg += text(kLeft - 8, y.place(tick) + 4, "end", short_number(tick));
  }
  return svg;
}

// Smallest and largest finite value of one coordinate of all series.
struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    if (std::isfinite(value)) {
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  bool empty() const { return low > high; }
};

std::string polyline(const Series& series, const Axis& x, const Axis& y, std::size_t index) {
  std::string svg;
  std::string points;
  const auto end_line = [&] {
    if (!points.empty()) {
      svg += fmt::format(R"(<polyline points="{}" class="series series-{}"/>)", points, index);
      points.clear();
    }
  };
  for (std::size_t i = 0; i < series.x.size(); ++i) {
    if (std::isfinite(series.x[i]) && std::isfinite(series.y[i])) {
      points += fmt::format("{}{:.1f},{:.1f}", points.empty() ? "" : " ", x.place(series.x[i]),
                            y.place(series.y[i]));
    } else {
      end_line();
    }
  }
  end_line();
  if (series.x.size() == 1 && std::isfinite(series.y[0])) {  // a lone point has no line
    svg += fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="3.5" class="dot-{}"/>)",
                       x.place(series.x[0]), y.place(series.y[0]), index);
  }
  return svg;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    }
  }
  return out;
}

std::string short_number(double value) {
  if (!std::isfinite(value)) {
    return "–";
  }
  if (value == 0) {
    return "0";
  }
  const double size = std::abs(value);
  if (size < 1 || size >= 1e5) {
    return fmt::format("{:.3g}", value);
  }
  const int digits = size >= 100 ? 0 : size >= 10 ? 1 : 2;
  std::string text = fmt::format("{:.{}f}", value, digits);
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') {
      text.pop_back();
    }
  }
  return text == "-0" ? "0" : text;
}

std::string line_chart(const std::string& title, const std::string& x_label,
                       const std::vector<Series>& series) {
  Range xs;
  Range ys;
  for (const Series& s : series) {
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      if (std::isfinite(s.y[i])) {
        xs.add(s.x[i]);
        ys.add(s.y[i]);
      }
    }
  }
  if (xs.empty()) {
    return "<p class=\"none\">No finite values.</p>";
  }
  const bool logarithmic = ys.low > 0 && ys.high > 20 * ys.low;
  const double margin = logarithmic ? 0.1 * ys.low : 0.05 * (ys.high - ys.low);
  const Axis x = make_axis(xs.low, xs.high, kLeft, kWidth - kRight, false);
  const Axis y = make_axis(ys.low - margin, ys.high + margin, kHeight - kBottom, kTop, logarithmic);
  std::string svg = open_svg(title) + y_grid(y);
  for (const double tick : linear_ticks(x.low, x.high, 7)) {
    if (std::abs(tick - std::round(tick)) > 1e-9) {
      continue;  // steps and epochs are counted
    }
    svg += line(x.place(tick), kHeight - kBottom, x.place(tick), kHeight - kBottom + 4, "axis");
    svg += text(x.place(tick), kHeight - kBottom + 18, "middle", short_number(tick));
  }
  svg += line(kLeft, kHeight - kBottom, kWidth - kRight, kHeight - kBottom, "axis");
  svg += text((kLeft + kWidth - kRight) / 2, kHeight - 6, "middle", x_label, "label");
  for (std::size_t i = 0; i < series.size(); ++i) {
    svg += polyline(series[i], x, y, i);
  }
  svg += "</svg>\n<div class=\"legend\">";
  for (std::size_t i = 0; i < series.size(); ++i) {
    svg +=
        fmt::format("<span><i class=\"key key-{}\"></i>{}</span>", i, escape_html(series[i].name));
  }
  return svg + "</div>";
}

namespace {

constexpr std::size_t kMostDots = 60;

std::string box_svg(const Box& box, const Axis& y, double center, double half, double limit_low,
                    double limit_high) {
  const Distribution& d = box.distribution;
  const auto at = [&](double value) { return y.place(std::clamp(value, limit_low, limit_high)); };
  std::string svg = line(center, at(d.min), center, at(d.max), "whisker");
  svg += line(center - half * 0.4, at(d.min), center + half * 0.4, at(d.min), "whisker");
  svg += line(center - half * 0.4, at(d.max), center + half * 0.4, at(d.max), "whisker");
  svg += fmt::format(
      R"(<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2" class="box"/>)",
      center - half, at(d.q75), 2 * half, std::max(at(d.q25) - at(d.q75), 1.0));
  if (box.values.size() <= kMostDots) {
    for (std::size_t i = 0; i < box.values.size(); ++i) {
      // Spread sideways in a fixed pattern, so that equal values are told apart.
      const double shift = (static_cast<double>(i * 7 % 11) / 10 - 0.5) * half * 1.3;
      svg += fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="2" class="dot"/>)", center + shift,
                         at(box.values[i]));
    }
  }
  svg += line(center - half, at(d.median), center + half, at(d.median), "median");
  return svg;
}

}  // namespace

std::string box_chart(const std::string& title, const std::string& unit,
                      const std::vector<Box>& boxes, double target) {
  Range range;
  range.add(target);
  range.add(0);
  for (const Box& box : boxes) {
    if (box.distribution.count > 0) {
      range.add(std::clamp(box.distribution.min, -kAxisLimit, kAxisLimit));
      range.add(std::clamp(box.distribution.max, -kAxisLimit, kAxisLimit));
      if (std::abs(box.baseline) <= kAxisLimit) {
        range.add(box.baseline);
      }
    }
  }
  const double margin = 0.06 * (range.high - range.low);
  const Axis y = make_axis(range.low - margin, range.high + margin, kHeight - kBottom, kTop, false);
  std::string svg = open_svg(title) + y_grid(y);
  const double slot = (kWidth - kLeft - kRight) / static_cast<double>(boxes.size());
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    const Box& box = boxes[i];
    const double center = kLeft + slot * (static_cast<double>(i) + 0.5);
    const double half = std::min(slot * 0.26, 28.0);
    svg += text(center, kHeight - kBottom + 18, "middle", box.label, "label");
    if (box.distribution.count == 0) {
      svg += text(center, (kTop + kHeight - kBottom) / 2, "middle", "not evaluated");
      continue;
    }
    svg += box_svg(box, y, center, half, range.low, range.high);
    if (std::isfinite(box.baseline)) {
      const double place = y.place(std::clamp(box.baseline, range.low, range.high));
      svg += line(center - half * 1.5, place, center + half * 1.5, place, "baseline");
    }
    svg += text(center, kHeight - kBottom + 33, "middle",
                fmt::format("{:.{}f} {}", box.distribution.median, unit.empty() ? 2 : 1, unit));
  }
  svg += line(kLeft, y.place(target), kWidth - kRight, y.place(target), "target");
  svg += line(kLeft, kHeight - kBottom, kWidth - kRight, kHeight - kBottom, "axis");
  return svg + "</svg>";
}

}  // namespace stemfabric
