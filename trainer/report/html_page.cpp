#include "trainer/report/html_page.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "trainer/report/page_style.h"
#include "trainer/report/svg_chart.h"

namespace stemfabric {
namespace {

using Json = nlohmann::ordered_json;

void append_yaml(const Json& object, std::size_t indent, std::string& text) {
  for (const auto& [key, value] : object.items()) {
    text += fmt::format("{}{}{}:", indent == 0 && !text.empty() ? "\n" : "",
                        std::string(indent, ' '), key);
    if (value.is_object()) {
      text += "\n";
      append_yaml(value, indent + 2, text);
    } else {
      text += fmt::format(" {}\n", value.dump(-1, ' ', false, Json::error_handler_t::replace));
    }
  }
}

// escape_html keeps a page free of control characters; line ends are wanted here.
std::string escape_lines(const std::string& text) {
  std::string out;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    out += escape_html(std::string_view(text).substr(begin, end - begin)) + "\n";
    begin = end + 1;
  }
  return out;
}

}  // namespace

std::string open_page(const std::string& title, const std::string& heading) {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
      "<title>{}</title><style>{}</style></head><body><main>\n<h1>{}</h1>\n",
      escape_html(title), kPageStyle, escape_html(heading));
}

std::string close_page() { return "</main></body></html>\n"; }

std::string value_list(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string html = "<div class=\"card\"><dl>\n";
  for (const auto& [name, value] : entries) {
    if (!value.empty()) {
      html += fmt::format("<dt>{}</dt><dd><code>{}</code></dd>\n", escape_html(name),
                          escape_html(value));
    }
  }
  return html + "</dl></div>\n";
}

std::string configuration_section(const std::string& yaml, const std::string& hint) {
  return fmt::format(
      "<h2>Configuration</h2>\n<p class=\"hint\">{}</p>\n<div class=\"card scroll\"><pre>{}</pre>"
      "</div>\n",
      escape_html(hint), escape_lines(yaml));
}

std::string yaml_from_json(const std::string& json) {
  const Json object = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  std::string text;
  if (object.is_object()) {
    append_yaml(object, 0, text);
  }
  return text;
}

}  // namespace stemfabric
