#include "trainer/audio_data/stem_map.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

#include "runtime/core/check.h"
#include "trainer/config/suggest.h"

namespace stemfabric {
namespace {

constexpr std::size_t kMaxTerms = 64;

struct Preset {
  std::string_view name;
  std::array<std::string_view, kStemCount> entries;  // vocals drums bass harmonic perc sub
};
constexpr std::array<Preset, 3> kPresets = {{
    {"demo", {"vocals", "drums", "bass", "harmonic", "perc", "sub"}},
    {"musdb18", {"vocals", "drums", "bass", "other", "absent", "absent"}},
    // Its source `other` (effects and the like) is in the mixture alone.
    {"moisesdb",
     {"vocals", "drums", "bass",
      "guitar + piano + other_keys + bowed_strings + wind + other_plucked", "percussion",
      "absent"}},
}};

const Preset* find_preset(std::string_view name) {
  const auto found = std::ranges::find(kPresets, name, &Preset::name);
  return found == kPresets.end() ? nullptr : &*found;
}

bool in_name(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return std::isalnum(byte) != 0 || c == '_' || c == '.' || c == '-' || byte >= 0x80;
}

class RecipeParser {
 public:
  RecipeParser(const std::string& text, const std::string& key) : text_(text), key_(key) {}

  StemRecipe parse() {
    StemRecipe recipe;
    skip_spaces();
    if (const std::string_view rest = rest_of_text(); rest == "absent" || rest == "residual") {
      recipe.kind = rest == "absent" ? StemRecipe::Kind::kAbsent : StemRecipe::Kind::kResidual;
      return recipe;
    }
    recipe.kind = StemRecipe::Kind::kSum;
    double sign = 1.0;
    for (;;) {
      recipe.terms.push_back(term(sign));
      skip_spaces();
      if (at_ == text_.size()) {
        return recipe;
      }
      if (recipe.terms.size() == kMaxTerms) {
        refuse(fmt::format("has more than {} terms", kMaxTerms));
      }
      if (text_[at_] != '+' && text_[at_] != '-') {
        refuse(fmt::format("expected + or - before '{}'", rest_of_text().substr(0, 40)));
      }
      sign = text_[at_++] == '+' ? 1.0 : -1.0;
    }
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw ConfigError(
        "{}: '{}': {}; write a sum such as `guitar + piano`, `lowpass(bass, 120)`, `residual` or "
        "`absent`",
        key_, text_.substr(0, 200), what);
  }
  std::string_view rest_of_text() const {
    std::string_view rest = std::string_view(text_).substr(at_);
    while (!rest.empty() && rest.back() == ' ') {
      rest.remove_suffix(1);
    }
    return rest;
  }
  void skip_spaces() {
    while (at_ < text_.size() && text_[at_] == ' ') {
      ++at_;
    }
  }
  bool take(char c) {
    skip_spaces();
    if (at_ == text_.size() || text_[at_] != c) {
      return false;
    }
    ++at_;
    return true;
  }
  std::string name() {
    skip_spaces();
    const std::size_t begin = at_;
    if (take('"')) {
      const std::size_t end = text_.find('"', at_);
      if (end == std::string::npos || end == at_) {
        refuse("a quoted name is empty or has no end");
      }
      std::string quoted = text_.substr(at_, end - at_);
      at_ = end + 1;
      return quoted;
    }
    while (at_ < text_.size() && in_name(text_[at_])) {
      ++at_;
    }
    if (at_ == begin || text_[begin] == '-') {
      refuse(at_ == text_.size() && at_ == begin ? "ends where a source must follow"
                                                 : "a source is missing or begins with '-'");
    }
    return text_.substr(begin, at_ - begin);
  }
  double hertz() {
    skip_spaces();
    double value = 0;
    const auto [end, error] =
        std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc() || !(value >= 1.0) || !(value <= 1e6)) {
      refuse("lowpass needs a frequency in Hz, at least 1");
    }
    at_ = static_cast<std::size_t>(end - text_.data());
    return value;
  }
  StemTerm term(double sign) {
    skip_spaces();
    const bool quoted = at_ < text_.size() && text_[at_] == '"';
    StemTerm result{name(), sign, 0.0};
    if (quoted) {
      return result;
    }
    if (take('(')) {
      if (result.source != "lowpass") {
        refuse(fmt::format("'{}' is no function; there is lowpass(source, hertz)",
                           result.source.substr(0, 40)));
      }
      result.source = name();
      if (!take(',')) {
        refuse("lowpass needs a source and a frequency: lowpass(bass, 120)");
      }
      result.lowpass_hz = hertz();
      if (!take(')')) {
        refuse("lowpass has no closing bracket");
      }
    } else if (result.source == "absent" || result.source == "residual") {
      refuse(fmt::format("`{}` stands alone", result.source));
    }
    return result;
  }

  const std::string& text_;
  const std::string& key_;
  std::size_t at_ = 0;
};

std::string term_text(const StemTerm& term) {
  const bool plain = std::ranges::all_of(term.source, in_name) && term.source.front() != '-' &&
                     term.source != "absent" && term.source != "residual";
  const std::string name = plain ? term.source : "\"" + term.source + "\"";
  return term.lowpass_hz > 0 ? fmt::format("lowpass({}, {})", name, term.lowpass_hz) : name;
}

// Named by the layout, or told by the sources.
std::string_view choose_preset(const AudioRoot& root, const std::vector<std::string>& sources) {
  const auto has = [&](std::string_view name) {
    return std::ranges::find(sources, name) != sources.end();
  };
  if (root.layout == TrackLayout::kMusdb18 || root.layout == TrackLayout::kMoisesdb) {
    return track_layout_name(root.layout);
  }
  if (has("other") && !has("harmonic")) {
    return has("guitar") || has("piano") || has("percussion") ? "moisesdb" : "musdb18";
  }
  return "demo";
}

bool found(const StemTerm& term, const std::vector<std::string>& sources) {
  return std::ranges::find(sources, term.source) != sources.end();
}

// An entry of the configuration: every source must be there.
void require_sources(const StemRecipe& recipe, const std::vector<std::string>& sources,
                     const std::string& key, int64_t sample_rate) {
  for (const StemTerm& term : recipe.terms) {
    if (!found(term, sources)) {
      throw ConfigError("{}: no track has a source '{}'; there are {}{}", key, term.source,
                        comma_list(sources), did_you_mean(term.source, sources));
    }
    if (term.lowpass_hz >= static_cast<double>(sample_rate) / 2) {
      throw ConfigError("{}: lowpass at {} Hz is not below half the sample rate of {} Hz", key,
                        term.lowpass_hz, sample_rate);
    }
  }
}

}  // namespace

std::string StemMap::entry(std::size_t stem) const {
  const StemRecipe& recipe = stems[stem];
  if (recipe.kind != StemRecipe::Kind::kSum) {
    return recipe.kind == StemRecipe::Kind::kAbsent ? "absent" : "residual";
  }
  std::string text;
  for (const StemTerm& term : recipe.terms) {
    text += text.empty() ? "" : term.sign > 0 ? " + " : " - ";
    text += term_text(term);
  }
  return text;
}

std::string StemMap::text() const {
  std::string text;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    text += fmt::format("{}: {}\n", kStemNames[s], entry(s));
  }
  return text + fmt::format("missing: {}\n", silent_if_missing ? "silent" : "masked");
}

StemRecipe parse_stem_recipe(const std::string& text, const std::string& key) {
  return RecipeParser(text, key).parse();
}

StemMap make_stem_map(const StemMapConfig& config, const AudioRoot& root, int64_t sample_rate) {
  const std::vector<std::string> sources = root.source_names();
  StemMap map;
  map.preset = config.preset == "auto" ? choose_preset(root, sources) : config.preset;
  map.silent_if_missing = config.missing == "silent";
  const Preset* preset = find_preset(map.preset);
  int residuals = 0;
  bool any = false;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    const std::string key = fmt::format("data.stem_map.{}", kStemNames[s]);
    StemRecipe& recipe = map.stems[s];
    if (!config.stems[s].empty()) {
      recipe = parse_stem_recipe(config.stems[s], key);
      require_sources(recipe, sources, key, sample_rate);
    } else if (preset != nullptr) {
      recipe = parse_stem_recipe(std::string(preset->entries[s]), key);
      std::erase_if(recipe.terms, [&](const StemTerm& term) { return !found(term, sources); });
      if (recipe.terms.empty()) {
        recipe.kind = StemRecipe::Kind::kAbsent;
      }
    }
    residuals += recipe.kind == StemRecipe::Kind::kResidual ? 1 : 0;
    any = any || recipe.kind == StemRecipe::Kind::kSum;
  }
  if (residuals > 1) {
    throw ConfigError("data.stem_map: only one stem can be the residual of the others");
  }
  if (!any) {
    throw ConfigError(
        "data.stem_map: with the preset {} no stem has a source; {} has the sources {}. Say which "
        "make which stem: --set data.stem_map.vocals=…",
        map.preset, root.root.string(), comma_list(sources));
  }
  return map;
}

}  // namespace stemfabric
