#include <fmt/core.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "runtime/core/check.h"
#include "trainer/config/document.h"

namespace stemfabric {
namespace {

constexpr std::size_t kMaxBytes = 1 << 20;
constexpr int kMaxDepth = 32;
constexpr int64_t kMaxNodes = 20000;  // aliases count as often as they are used

std::string place(const std::string& source, int line) {
  return fmt::format("{}:{}", source, line);
}

// Length of the UTF-8 sequence at text[i], 0 if it is malformed.
std::size_t utf8_length(std::string_view text, std::size_t i) {
  const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(text[k]); };
  const unsigned char first = byte(i);
  const std::size_t length = first < 0x80               ? 1
                             : (first & 0xe0U) == 0xc0U ? 2
                             : (first & 0xf0U) == 0xe0U ? 3
                             : (first & 0xf8U) == 0xf0U ? 4
                                                        : 0;
  if (length == 0 || i + length > text.size()) {
    return 0;
  }
  for (std::size_t k = 1; k < length; ++k) {
    if ((byte(i + k) & 0xc0U) != 0x80U) {
      return 0;
    }
  }
  return length;
}

// Refuses what is no text at all, with words of ours and before the parser sees it.
void check_text(std::string_view text, const std::string& source, bool with_lines) {
  if (text.size() > kMaxBytes) {
    throw ConfigError("{}: {} bytes are too many for a configuration (at most {})", source,
                      text.size(), kMaxBytes);
  }
  int line = 1;
  bool indentation = true;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_length(text, i);
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::string where = with_lines ? place(source, line) : source;
    if (length == 0) {
      throw ConfigError("{}: byte 0x{:02x} at offset {} is not UTF-8; is this a text file?", where,
                        byte, i);
    }
    if ((byte < 0x20 && byte != '\n' && byte != '\r' && byte != '\t') || byte == 0x7f) {
      throw ConfigError("{}: control character 0x{:02x} at offset {}; is this a text file?", where,
                        byte, i);
    }
    if (byte == '\t' && indentation) {
      throw ConfigError("{}: a tab in the indentation; YAML wants spaces", where);
    }
    indentation = byte == '\n' || (indentation && byte == ' ');
    line += byte == '\n' ? 1 : 0;
    i += length;
  }
}

bool standard_tag(const std::string& tag) {
  constexpr std::string_view kPrefix = "tag:yaml.org,2002:";
  if (tag.empty() || tag == "?" || tag == "!") {
    return true;
  }
  if (!tag.starts_with(kPrefix)) {
    return false;
  }
  const std::string_view name = std::string_view(tag).substr(kPrefix.size());
  for (const std::string_view known :
       {"str", "int", "float", "bool", "null", "seq", "map", "python/tuple"}) {
    if (name == known) {
      return true;
    }
  }
  return false;
}

// Builds the tree from the parser's events; limits hold while it grows.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const std::string& source, bool with_lines)
      : source_(source), with_lines_(with_lines) {}

  DocumentNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (started_) {
      throw ConfigError("{}: a second YAML document begins; a configuration is one", at(mark));
    }
    started_ = true;
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(node(NodeKind::kNull, mark), anchor);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check_tag(mark, tag);
    DocumentNode scalar = node(NodeKind::kScalar, mark);
    scalar.text = value;
    scalar.quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
    const bool null =
        value.empty() || value == "~" || value == "null" || value == "Null" || value == "NULL";
    if (null && !scalar.quoted) {
      scalar.kind = NodeKind::kNull;
    }
    add(std::move(scalar), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto known = anchors_.find(anchor);
    if (known == anchors_.end()) {
      throw ConfigError("{}: an alias inside the very value that it names", at(mark));
    }
    count_nodes(mark, count(known->second) - 1);
    add(known->second, 0);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(NodeKind::kSequence, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(NodeKind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    DocumentNode node;
    YAML::anchor_t anchor;
    bool awaits_value = false;  // in a map: a key has been read
  };

  std::string at(const YAML::Mark& mark) const {
    return with_lines_ ? place(source_, mark.line + 1) : source_;
  }

  DocumentNode node(NodeKind kind, const YAML::Mark& mark) {
    count_nodes(mark, 1);
    DocumentNode created;
    created.kind = kind;
    created.origin = at(mark);
    return created;
  }

  void count_nodes(const YAML::Mark& mark, int64_t added) {
    nodes_ += added;
    if (nodes_ > kMaxNodes) {
      throw ConfigError("{}: more than {} values; this is no configuration", at(mark), kMaxNodes);
    }
  }

  static int64_t count(const DocumentNode& node) {
    int64_t total = 1;
    for (const auto& item : node.items) {
      total += count(item);
    }
    return total;
  }

  void check_tag(const YAML::Mark& mark, const std::string& tag) const {
    if (!standard_tag(tag)) {
      throw ConfigError("{}: the tag '{}' is not allowed here", at(mark), tag);
    }
  }

  void open(NodeKind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    check_tag(mark, tag);
    if (static_cast<int>(stack_.size()) >= kMaxDepth) {
      throw ConfigError("{}: nested deeper than {} levels", at(mark), kMaxDepth);
    }
    stack_.push_back({node(kind, mark), anchor});
  }

  void close() {
    Open done = std::move(stack_.back());
    stack_.pop_back();
    add(std::move(done.node), done.anchor);
  }

  void add(DocumentNode added, YAML::anchor_t anchor) {
    if (anchor != 0) {
      anchors_[anchor] = added;
    }
    if (stack_.empty()) {
      root_ = std::move(added);
      return;
    }
    Open& parent = stack_.back();
    if (parent.node.kind == NodeKind::kMap && !parent.awaits_value) {
      add_key(parent.node, added);
      parent.awaits_value = true;
      return;
    }
    parent.awaits_value = false;
    if (parent.node.kind == NodeKind::kMap && added.kind == NodeKind::kNull) {
      added.origin = parent.node.key_origins.back();  // the mark of "nothing" is a line too far
    }
    parent.node.items.push_back(std::move(added));
  }

  // "training.lr" for the key `lr` in the map that is open last.
  std::string path_to(const std::string& key) const {
    constexpr std::size_t kShown = 200;
    std::string path;
    for (std::size_t i = 0; i + 1 < stack_.size(); ++i) {
      const auto& keys = stack_[i].node.keys;
      path += keys.empty() ? "" : keys.back() + ".";
    }
    return (path + key).substr(0, kShown);
  }

  void add_key(DocumentNode& map, const DocumentNode& key) const {
    if (key.kind != NodeKind::kScalar) {
      throw ConfigError("{}: a key must be a word", key.origin);
    }
    for (std::size_t i = 0; i < map.keys.size(); ++i) {
      if (map.keys[i] == key.text) {
        throw ConfigError("{}: {}: given twice (first {})", key.origin, path_to(key.text),
                          map.key_origins[i]);
      }
    }
    map.keys.push_back(key.text);
    map.key_origins.push_back(key.origin);
  }

  std::string source_;
  bool with_lines_;
  DocumentNode root_;
  std::vector<Open> stack_;
  std::map<YAML::anchor_t, DocumentNode> anchors_;
  int64_t nodes_ = 0;
  bool started_ = false;
};

}  // namespace

const DocumentNode* DocumentNode::find(std::string_view key) const {
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == key) {
      return &items[i];
    }
  }
  return nullptr;
}

namespace {

// The parser's reasons in words that say what to do; the rest is rare enough for one sentence.
std::string yaml_reason(const std::string& message) {
  namespace reason = YAML::ErrorMsg;
  static const std::map<std::string, std::string> kReasons = {
      {reason::END_OF_MAP_FLOW, "a `{` is not closed by `}`, or a comma is missing"},
      {reason::END_OF_SEQ_FLOW, "a `[` is not closed by `]`, or a comma is missing"},
      {reason::FLOW_END, "a `}` or `]` without its beginning"},
      {reason::END_OF_MAP,
       "this line does not fit the `key: value` lines around it; check the "
       "indentation"},
      {reason::END_OF_SEQ, "this line does not fit the list around it; check the indentation"},
      {reason::BLOCK_ENTRY, "a `-` where no list item can be; check the indentation"},
      {reason::MAP_KEY,
       "a key where none can be; check the indentation, and that the line before "
       "is complete"},
      {reason::MAP_VALUE,
       "a `:` where none can be; check the indentation, and quote values that "
       "hold `: `"},
      {reason::EOF_IN_SCALAR, "a quoted text is not closed"},
      {reason::DOC_IN_SCALAR, "a quoted text is not closed before `---` or `...`"},
      {reason::CHAR_IN_SCALAR, "a text begins with a character that YAML reserves; quote it"},
      {reason::UNKNOWN_TOKEN, "a text begins with a character that YAML reserves; quote it"},
      {reason::TAB_IN_INDENTATION, "a tab in the indentation; YAML wants spaces"},
      {reason::UNKNOWN_ANCHOR,
       "a `*name` without a `&name` before it; quote the value if it is a "
       "text"},
      {reason::ALIAS_NOT_FOUND, "a `*` without a name behind it; quote the value if it is a text"},
      {reason::ANCHOR_NOT_FOUND,
       "a `&` without a name behind it; quote the value if it is a "
       "text"},
  };
  const auto known = kReasons.find(message);
  if (known != kReasons.end()) {
    return known->second;
  }
  if (message.starts_with(reason::INVALID_ESCAPE) || message.starts_with(reason::INVALID_UNICODE) ||
      message == reason::INVALID_HEX) {
    return "a `\\` sequence in a quoted text that YAML does not know; use single quotes or `\\\\`";
  }
  return "directives, tags or anchors that cannot be read; a configuration needs none";
}

}  // namespace

DocumentNode parse_yaml(std::string_view text, const std::string& source, bool with_lines) {
  check_text(text, source, with_lines);
  // yaml-cpp lets a quoted text run to the end of the file if that ends in a line break; behind
  // this comment without one it does not.
  std::istringstream stream{std::string(text) + "\n#"};
  TreeBuilder builder(source, with_lines);
  try {
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) {
      DocumentNode empty;  // nothing but comments
      empty.origin = source;
      return empty;
    }
    parser.HandleNextDocument(builder);  // refuses a second document
  } catch (const YAML::Exception& error) {
    const bool known = with_lines && !error.mark.is_null();
    // What is missing at the end is missed in the lines added above.
    const std::string_view body = text.substr(0, text.find_last_not_of(" \r\n") + 1);
    const auto lines = static_cast<int>(std::count(body.begin(), body.end(), '\n')) + 1;
    const int line = std::min(error.mark.line + 1, lines);
    throw ConfigError("{}: not valid YAML: {}", known ? place(source, line) : source,
                      yaml_reason(error.msg));
  }
  return builder.take();
}

}  // namespace stemfabric
