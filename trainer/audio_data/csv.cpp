#include "trainer/audio_data/csv.h"

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

class CsvParser {
 public:
  CsvParser(std::string_view text, const std::filesystem::path& file) : text_(text), file_(file) {
    if (text_.starts_with("\xEF\xBB\xBF")) {
      text_.remove_prefix(3);  // the byte order mark of spreadsheets
    }
  }

  std::vector<CsvRow> parse() {
    std::vector<CsvRow> rows;
    while (at_ < text_.size()) {
      CsvRow row{line_, {}};
      bool more = true;
      while (more) {
        row.fields.push_back(at_ < text_.size() && text_[at_] == '"' ? quoted() : plain());
        more = end_of_field();
      }
      if (row.fields.size() > 1 || !row.fields[0].empty()) {
        rows.push_back(std::move(row));
      }
    }
    return rows;
  }

 private:
  std::string plain() {
    const std::size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    std::string field(text_.substr(at_, end - at_));
    at_ = end;
    return field;
  }

  std::string quoted() {
    const int64_t line = line_;
    std::string field;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] != '"') {
        line_ += text_[at_] == '\n' ? 1 : 0;
        field += text_[at_];
      } else if (at_ + 1 < text_.size() && text_[at_ + 1] == '"') {
        field += text_[at_++];
      } else {
        ++at_;
        return field;
      }
    }
    throw InputError("{}, line {}: a quoted field has no end", file_.string(), line);
  }

  // Steps over what ends a field; true if another one follows in the row.
  bool end_of_field() {
    if (at_ == text_.size()) {
      return false;
    }
    if (text_[at_] == ',') {
      ++at_;
      return true;
    }
    const bool both = text_.substr(at_, 2) == "\r\n";
    if (!both && text_[at_] != '\n' && text_[at_] != '\r') {
      throw InputError("{}, line {}: text behind the closing quote of a field", file_.string(),
                       line_);
    }
    at_ += both ? 2 : 1;
    ++line_;
    return false;
  }

  std::string_view text_;
  const std::filesystem::path& file_;
  std::size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

std::vector<CsvRow> parse_csv(std::string_view text, const std::filesystem::path& file) {
  return CsvParser(text, file).parse();
}

}  // namespace stemfabric
