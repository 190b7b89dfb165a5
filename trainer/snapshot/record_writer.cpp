#include "trainer/snapshot/record.h"

#include <charconv>
#include <cmath>

namespace stemfabric {
namespace {

template <typename T>
void append_number(std::string& out, T value) {
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  out.append(text, end);
}

// The shortest text of a number. Small integers, which are frequent, take a quicker way to the
// same.
template <typename T>
char* put_number(char* at, char* end, T value) {
  constexpr T kPlain = 100000;  // from here on 1e+05 may be shorter
  if (std::abs(value) < kPlain && !(value == 0 && std::signbit(value))) {
    const auto whole = static_cast<int32_t>(value);
    if (static_cast<T>(whole) == value) {
      return std::to_chars(at, end, whole).ptr;
    }
  }
  return std::to_chars(at, end, value).ptr;
}

template <typename T>
void append_list(std::string& out, const std::vector<T>& values) {
  // "-1.1754944e-38" or "-2.2250738585072014e-308", and a comma.
  constexpr std::size_t kLongest = sizeof(T) == sizeof(float) ? 16 : 26;
  std::size_t size = out.size();
  out.resize(size + values.size() * kLongest + 2);
  char* at = out.data() + size;
  char* const end = out.data() + out.size();
  *at++ = '[';
  for (const T value : values) {
    at = put_number(at, end, value);
    *at++ = ',';
  }
  if (!values.empty()) {
    --at;
  }
  *at++ = ']';
  out.resize(static_cast<std::size_t>(at - out.data()));
}

void append_context(std::string& out, const MusicalContext& context) {
  out += ",\"musicalContext\":{\"key\":\"";
  out += kKeyNames[static_cast<std::size_t>(context.key)];
  out += '"';
  if (context.mode != Mode::kUnknown) {
    out += context.mode == Mode::kMajor ? ",\"mode\":\"major\"" : ",\"mode\":\"minor\"";
  }
  out += ",\"bpm\":";
  if (context.bpm) {
    append_number(out, *context.bpm);
  } else {
    out += "null";
  }
  out += ",\"transientCount\":";
  append_number(out, context.transient_count);
  out += ",\"transientDensity\":";
  append_number(out, context.transient_density);
  out += ",\"harmonicContent\":{\"dominantFrequencies\":";
  append_list(out, context.dominant_frequencies);
  out += ",\"tensionLevel\":";
  append_number(out, context.tension);
  out += "}}";
}

void append_name(std::string& out, std::string_view name, bool first) {
  out += first ? "\"" : ",\"";
  out += name;
  out += "\":";
}

}  // namespace

void append_record(const SnapshotRecord& record, std::string& out) {
  out += "{\"id\":\"";
  out += record.id;
  out += "\",\"sampleCount\":";
  append_number(out, record.samples);
  out += ",\"sampleRate\":";
  append_number(out, record.sample_rate);
  out += ",\"channels\":";
  append_number(out, record.channels);
  out += ",\"strides\":{";
  for (std::size_t g = 0; g < kGroupCount; ++g) {
    append_name(out, kGroupNames[g], g == 0);
    append_number(out, record.strides[g]);
  }
  out += "},\"quantumFeatures\":{";
  for (std::size_t g = 0; g < kGroupCount; ++g) {
    append_name(out, kGroupNames[g], g == 0);
    append_list(out, record.groups[g]);
  }
  out += '}';
  append_context(out, record.context);
  if (record.has_ground_truth) {
    out += ",\"groundTruthFeatures\":{";
    bool first = true;
    for (std::size_t s = 0; s < kStemCount; ++s) {
      if (record.has_stem[s]) {
        append_name(out, kStemNames[s], first);
        append_list(out, record.stems[s]);
        first = false;
      }
    }
    out += '}';
  }
  if (!record.corrections.empty()) {
    out += ",\"correctionFeatures\":";
    append_list(out, record.corrections);
  }
  out += ",\"metadata\":{\"classification\":\"";
  out += kClassificationNames[static_cast<std::size_t>(record.classification)];
  out += "\",\"confidence\":";
  append_number(out, record.confidence);
  out += "}}\n";
}

}  // namespace stemfabric
