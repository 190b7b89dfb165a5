// docs/configuration.md lists every key as the code has it.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include "runtime/io/file.h"
#include "tests/integration/stemfabric.h"
#include "trainer/config/fields.h"

namespace stemfabric::test {
namespace {

TEST(ConfigurationDocs, ListEveryKeyWithDefaultRangeAndMeaning) {
  const std::string text = read_text_file(source_dir() / "docs" / "configuration.md");
  Config config;
  const FieldList list = list_fields(config);
  for (const Section& section : list.sections) {
    const std::string heading = fmt::format("\n## {}: {}\n", section.key, section.help);
    EXPECT_NE(text.find(heading), std::string::npos) << "expected the heading " << heading;
  }
  std::size_t at = 0;  // rows come in the order of config.h
  for (const Field& field : list.fields) {
    const std::string allowed = allowed_text(field);
    const std::string row =
        fmt::format("\n| `{}` | `{}` | {} | {} |\n", field.name, value_to_yaml(field),
                    allowed.empty() ? type_name(field) : allowed, field.help);
    const std::size_t found = text.find(row, at);
    EXPECT_NE(found, std::string::npos) << field.section << ": expected the row " << row;
    at = found == std::string::npos ? at : found + 1;
  }
}

}  // namespace
}  // namespace stemfabric::test
