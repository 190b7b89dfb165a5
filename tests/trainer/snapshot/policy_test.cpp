// Every line of the acceptance policy (docs/snapshots.md), each with cases on both sides.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "tests/trainer/snapshot/snapshot_files.h"

namespace stemfabric {
namespace {

using test::control;
using test::control_replacing;
using test::control_with;
using test::Json;
using test::parse;
using test::Parsed;
using ::testing::HasSubstr;

void expect_accept(const std::string& text) {
  const Parsed parsed = parse(text);
  EXPECT_EQ(parsed.verdict, Verdict::kAccept) << parsed.reason();
}
Parsed expect_repair(const std::string& text, const std::string& reason) {
  Parsed parsed = parse(text);
  EXPECT_EQ(parsed.verdict, Verdict::kAcceptWithRepair) << parsed.reason();
  EXPECT_THAT(parsed.reason(), HasSubstr(reason));
  return parsed;
}
void expect_reject(const std::string& text, const std::string& reason) {
  const Parsed parsed = parse(text);
  EXPECT_EQ(parsed.verdict, Verdict::kReject) << parsed.reason();
  EXPECT_THAT(parsed.reason(), HasSubstr(reason));
}
// The control with one field set; the path is dotted.
std::string with(const std::string& path, const Json& value) {
  return control_with([&](Json& snapshot) {
    snapshot[Json::json_pointer([&] {
      std::string pointer = fmt::format("/{}", path);
      std::replace(pointer.begin(), pointer.end(), '.', '/');
      return pointer;
    }())] = value;
  });
}
std::string without(const std::string& parent, const std::string& field) {
  return control_with([&](Json& s) { (parent.empty() ? s : s[parent]).erase(field); });
}
// The value of a field as raw text, for what no JSON library would write.
std::string raw(const std::string& path, const std::string& text) {
  std::string json = with(path, "@@");
  const std::size_t at = json.find("\"@@\"");
  return json.replace(at, 4, text);
}
std::string nested(int levels) {
  return std::string(static_cast<std::size_t>(levels), '[') +
         std::string(static_cast<std::size_t>(levels), ']');
}

TEST(Policy, GrammarIsStrict) {
  const std::string good = control().dump();
  expect_accept(good);
  expect_accept(" \r\n\t" + good + "\r\n \t");
  expect_accept(control().dump(2));
  std::string crlf = control().dump(1);
  for (std::size_t at = 0; (at = crlf.find('\n', at)) != std::string::npos; at += 2) {
    crlf.replace(at, 1, "\r\n");
  }
  expect_accept(crlf);

  expect_reject("", "");
  expect_reject("   \n", "");
  expect_reject(fmt::format("[{}]", good), "not one JSON object");
  expect_reject("null", "not one JSON object");
  expect_reject("17", "");
  expect_reject(fmt::format("\"{}\"", std::string(40, 'a')), "not one JSON object");
  expect_reject(good + good, "more text after the object");
  expect_reject(good + "x", "");
  expect_reject(good + "}", "");
  expect_reject(good + std::string(1, '\0'), "");
  expect_reject(good + ",", "");
  for (std::size_t size = 1; size < good.size(); size += 97) {  // cut anywhere
    expect_reject(good.substr(0, size), "");
  }
  expect_reject(good.substr(0, good.size() - 1) + ",}", "");
  expect_reject(good.substr(0, good.size() - 1) + "]", "");
  expect_reject(std::string("/* c */") + good, "");
  expect_reject(control_replacing("{\"id\"", "{,\"id\""), "");
  expect_reject(control_replacing("\"id\":", "\"id\" "), "");
  expect_reject(control_replacing("\"id\":", "id:"), "");
  expect_reject(control_replacing("\"id\":", "'id':"), "");
  expect_reject(control_replacing("\"channels\":2", "\"channels\":2,"), "");
  expect_reject(control_replacing("\"channels\":2}", "\"channels\":2]"), "");
  expect_reject(raw("metadata.confidence", "0.6 0.7"), "");
}

TEST(Policy, GrammarIsStrictInUnknownFieldsToo) {
  for (const char* good : {"1", "-0", "0.5e-3", "1E400", "123456789012345678901234567890", "true",
                           "false", "null", R"("\u00e9\n\/ \ud83d\ude00")", R"("\ud800")", "[]",
                           "{}", R"([{"a":[1,{"b":null}]}])", "[ 1 , 2 ]"}) {
    SCOPED_TRACE(good);
    expect_repair(raw("secret", good), "unknown field dropped");
    expect_repair(raw("originalAudio.secret", good), "originalAudio: unknown field dropped");
  }
  for (const char* bad : {"NaN",          "Infinity",    "-Infinity",
                          "nul",          "nulls",       "tru",
                          "True",         "01",          "-",
                          "+1",           ".5",          "1.",
                          "1e",           "1e+",         "0x10",
                          "1_000",        "'a'",         "[1,]",
                          "[,1]",         "[1 2]",       "{\"a\":1,}",
                          "{\"a\"}",      "{a:1}",       "{\"a\":}",
                          "{1:2}",        "[1}",         "{\"a\":1]",
                          R"("\x")",      R"("\u12g4")", R"("\u12")",
                          "\"a\nb\"",     "\"a\tb\"",    "\"\x01\"",
                          "\"\xff\"",     "\"\xc3\"",    "\"\xed\xa0\x80\"",
                          "\"\xc0\xaf\"", "\"a\"\"b\"",  "\"a\"b",
                          "1\"b\"",       "\"a\":1",     "[\"a\":1]",
                          "[1:2]",        "[{}:1]",      "{\"a\":\"b\":1}",
                          "{\"a\":1:1}",  "// c\n1",     "undefined",
                          "[[1]"}) {
    SCOPED_TRACE(bad);
    expect_reject(raw("secret", bad), "");
    expect_reject(raw("metadata.secret", bad), "");
  }
  expect_reject(control_replacing("\"id\":", "\"\xff\":1,\"id\":"), "");
  expect_reject(control_replacing("\"id\":", "\"a\\q\":1,\"id\":"), "");
}

TEST(Policy, DepthAndSize) {
  expect_repair(raw("secret", nested(31)), "unknown field dropped");  // 32 with the root
  expect_reject(raw("secret", nested(32)), "deeper than 32");
  expect_reject(raw("secret", nested(100000)), "deeper than 32");
  expect_repair(raw("musicalContext.harmonicContent.x", nested(29)), "harmonicContent: unknown");
  expect_reject(raw("musicalContext.harmonicContent.x", nested(30)), "deeper than 32");
  expect_repair(raw("musicalContext.transients.0.x", nested(28)), "transients: unknown");
  expect_reject(raw("musicalContext.transients.0.x", nested(29)), "deeper than 32");
  expect_reject(raw("userCorrections.0.frequencyRange", nested(40)), "deeper than 32");
  expect_reject(raw("secret", std::string(200000, '[')), "");
  expect_reject(std::string(200000, '{'), "");

  const std::string good = control().dump();
  const std::size_t limit = 16 << 20;
  expect_accept(good + std::string(limit - good.size(), ' '));
  expect_reject(good + std::string(limit - good.size() + 1, ' '), "larger than 16 MiB");
}

TEST(Policy, ByteOrderMark) {
  const std::string bom = "\xEF\xBB\xBF";
  expect_repair(bom + control().dump(), "byte order mark");
  expect_reject(bom + bom + control().dump(), "");
  expect_reject(bom, "");
  expect_reject("\xFF\xFE{\0}", "");
}

TEST(Policy, DuplicateKeys) {
  expect_reject(control_replacing("\"id\":", "\"id\":\"x\",\"id\":"), "");
  const std::string id = control()["id"].dump();
  expect_reject(control_replacing("{\"id\":", "{\"id\":" + id + ",\"id\":"), "same name");
  expect_reject(control_replacing("{\"id\":", "{\"i\\u0064\":" + id + ",\"id\":"), "same name");
  expect_reject(control_replacing("\"channels\":2", "\"channels\":2,\"channels\":2"),
                "originalAudio: two fields");
  expect_reject(control_replacing("\"time\":", "\"time\":0,\"time\":"), "transients: two fields");
  expect_reject(control_replacing("\"strength\":0.4", "\"strength\":0.4,\"strength\":0.4"),
                "userCorrections[]: two fields");
  expect_reject(raw("secret", R"({"a":1,"b":2,"a":3})"), "same name");
  expect_reject(raw("secret", R"({"kim":[{"x":1,"\u0078":1}]})"), "same name");
  // Large objects are compared another way.
  const auto object = [](int fields, int last) {
    std::string text = "{";
    for (int i = 0; i < fields; ++i) {
      text += fmt::format("{}\"k{}\":{}", i == 0 ? "" : ",", i + 1 == fields ? last : i, i);
    }
    return text + "}";
  };
  for (const int fields : {15, 16, 17, 18, 2000}) {
    SCOPED_TRACE(fields);
    expect_repair(raw("secret", object(fields, fields)), "unknown field dropped");
    expect_reject(raw("secret", object(fields, 0)), "same name");
    expect_reject(raw("secret", object(fields, fields - 2)), "same name");
  }
  // The same name in two objects is none.
  expect_repair(raw("secret", R"([{"a":1},{"a":1,"b":{"a":1}}])"), "unknown field dropped");
}

TEST(Policy, ReasonsHoldNoTextOfTheSnapshot) {
  const std::vector<std::string> texts = {
      with("kim_lee", "kim_lee"),
      with("metadata.classification", "kim_lee"),
      with("musicalContext.mode", "kim_lee"),
      with("musicalContext.key", "kim_lee"),
      with("id", "kim_lee"),
      with("timestamp", "kim_lee"),
      with("userCorrections.0.correctedStem", "kim_lee"),
      with("groundTruthStems.kim_lee", Json::array()),
      raw("kim_lee", R"({"kim_lee":1,"kim_lee":2})"),
      raw("kim_lee", "kim_lee"),
      raw("kim_lee", "\"kim_lee\\q\""),
      raw("quantumFeatures.spectral", "[kim_lee]"),
      raw("quantumFeatures.spectral", "[\"kim_lee\"]"),
  };
  for (const std::string& text : texts) {
    const Parsed parsed = parse(text);
    EXPECT_NE(parsed.verdict, Verdict::kAccept);
    EXPECT_EQ(parsed.reason().find("kim"), std::string::npos) << parsed.reason();
  }
}

TEST(Policy, RequiredFields) {
  for (const char* field :
       {"id", "timestamp", "originalAudio", "quantumFeatures", "musicalContext", "metadata"}) {
    expect_reject(without("", field), std::string(field) + " is missing");
    for (const char* other : {"null", "true", "[]", "\"x\""}) {
      SCOPED_TRACE(std::string(field) + " " + other);
      expect_reject(raw(field, other), field);
    }
  }
  const std::vector<std::pair<std::string, std::vector<std::string>>> children = {
      {"originalAudio", {"duration", "sampleRate", "channels"}},
      {"quantumFeatures", {"spectral", "temporal", "harmonic", "percussive", "stereo", "energy"}},
      {"musicalContext", {"key", "transients", "harmonicContent"}},
      {"metadata", {"classification", "confidence", "processingTime"}}};
  for (const auto& [parent, fields] : children) {
    for (const std::string& field : fields) {
      const std::string path = fmt::format("{}.{}", parent, field);
      expect_reject(without(parent, field), path + " is missing");
      for (const char* other : {"null", "true", "{\"a\":[1]}"}) {
        SCOPED_TRACE(path + " " + other);
        expect_reject(raw(path, other), field);
      }
    }
  }
  for (const std::string field : {"dominantFrequencies", "tensionLevel"}) {
    const std::string path = "musicalContext.harmonicContent." + field;
    expect_reject(
        control_with([&](Json& s) { s["musicalContext"]["harmonicContent"].erase(field); }),
        path + " is missing");
    expect_reject(raw(path, "null"), field);
    expect_reject(raw(path, "\"x\""), field);
  }
  expect_accept(without("musicalContext", "bpm"));
  expect_accept(without("musicalContext", "mode"));
  expect_accept(without("", "groundTruthStems"));
  expect_accept(without("", "userCorrections"));
  expect_reject("{}", "is missing");
}

TEST(Policy, Id) {
  const std::string id = control()["id"];
  std::string upper = id;
  for (char& c : upper) {
    c = static_cast<char>(std::toupper(c));
  }
  EXPECT_EQ(expect_repair(with("id", upper), "id: made lower-case").record.id, id);
  expect_accept(with("id", "00000000-0000-0000-0000-000000000000"));
  expect_accept(control_replacing(id, fmt::format("\\u{:04x}{}", id[0], id.substr(1))));
  for (const std::string& bad :
       {std::string(), id + "0", id.substr(1), std::string("g") + id.substr(1),
        std::string("{") + id.substr(1), std::string(36, '-'), std::string(36, 'a'),
        id.substr(0, 35) + " ", id.substr(0, 8) + "_" + id.substr(9)}) {
    expect_reject(with("id", bad), "id");
  }
  expect_reject(with("id", 7), "id must be a string");
  expect_reject(raw("id", R"("\ud800")"), "id");
}

TEST(Policy, NumbersAreFinite) {
  expect_reject(raw("timestamp", "1e400"), "timestamp is too large");
  expect_reject(raw("timestamp", "-1e400"), "timestamp is too large");
  expect_accept(raw("timestamp", "1e308"));
  expect_accept(raw("timestamp", "99999999999999999999999"));
  expect_accept(raw("timestamp", "-5.5"));
  expect_accept(raw("timestamp", "1e-400"));
  expect_accept(raw("timestamp", "1e-00000000000000000000000000001"));
  expect_reject(raw("timestamp", "1e00000000000000000000000000999"), "timestamp is too large");
  expect_reject(raw("timestamp", "1e99999999999999999999999999"), "timestamp is too large");
  expect_reject(raw("metadata.processingTime", "1e999"), "too large");
  expect_reject(raw("musicalContext.bpm", "1e999"), "too large");
  expect_reject(raw("userCorrections.0.strength", "1e999"), "too large");

  const auto first = [](const char* value) {
    return parse(raw("quantumFeatures.temporal.0", value));
  };
  EXPECT_EQ(first("3.4028234663852886e38").record.groups[1][0], std::numeric_limits<float>::max());
  EXPECT_EQ(first("3.40282356e38").record.groups[1][0], std::numeric_limits<float>::max());
  EXPECT_EQ(first("1e-60").record.groups[1][0], 0.0F);
  EXPECT_EQ(first("1e-400").record.groups[1][0], 0.0F);
  EXPECT_EQ(first("-1.5E+2").record.groups[1][0], -150.0F);
  EXPECT_EQ(first("0.1").record.groups[1][0], 0.1F);
  for (const char* bad : {"3.4028235678e38", "-3.5e38", "1e300", "1e400"}) {
    EXPECT_EQ(first(bad).verdict, Verdict::kReject) << bad;
    EXPECT_THAT(first(bad).reason(), HasSubstr("quantumFeatures.temporal[0]"));
  }
  expect_reject(raw("groundTruthStems.vocals.2", "1e39"), "groundTruthStems.vocals[2]");
}

TEST(Policy, Audio) {
  for (const char* bad : {"0", "-1", "86400.001", "1e9", "\"3\"", "null", "-0.0"}) {
    expect_reject(raw("originalAudio.duration", bad), "originalAudio.duration");
  }
  for (const char* bad : {"2999.9", "768000.1", "0", "-44100", "\"44100\"", "null", "[44100]"}) {
    expect_reject(raw("originalAudio.sampleRate", bad), "originalAudio.sampleRate");
  }
  for (const char* good : {"3000", "768000", "44100.0", "4.41e4", "11025.5"}) {
    EXPECT_NE(parse(raw("originalAudio.sampleRate", good)).verdict, Verdict::kReject) << good;
  }
  for (const char* bad : {"0", "33", "1.5", "-2", "\"2\"", "null", "1e300"}) {
    expect_reject(raw("originalAudio.channels", bad), "originalAudio.channels");
  }
  for (const char* good : {"1", "2.0", "32", "2e0"}) {
    EXPECT_NE(parse(raw("originalAudio.channels", good)).verdict, Verdict::kReject) << good;
  }
  // A day of sound in a handful of values is odd but allowed; transients do not overflow the
  // density.
  EXPECT_NE(parse(raw("originalAudio.duration", "86400")).verdict, Verdict::kReject);
  const Parsed tiny = parse(control_with([](Json& s) {
    s["originalAudio"]["duration"] = 1e-310;
    s["musicalContext"]["transients"] = Json::array({{{"time", 0}, {"strength", 1}}});
  }));
  EXPECT_EQ(tiny.verdict, Verdict::kAccept) << tiny.reason();
  EXPECT_TRUE(std::isfinite(static_cast<float>(tiny.record.context.transient_density)));
}

TEST(Policy, FeatureGroups) {
  for (const char* group : {"spectral", "temporal", "harmonic", "percussive", "stereo"}) {
    const std::string path = fmt::format("quantumFeatures.{}", group);
    expect_accept(with(path, std::vector<double>(1000, 0.5)));
    expect_reject(with(path, std::vector<double>(1001, 0.5)), path + " holds more than 1000");
    expect_accept(with(path, Json::array()));
    expect_reject(raw(path, "[1,\"2\"]"), path + "[1] must be a number");
    expect_reject(raw(path, "[true]"), path + "[0] must be a number");
    expect_reject(raw(path, "[[1]]"), path + "[0] must be a number");
    expect_reject(raw(path, "[{}]"), path + "[0] must be a number");
    expect_reject(raw(path, "[1,NaN]"), path);
    expect_reject(raw(path, "{\"0\":1}"), path + " must be an array");
    expect_repair(raw(path, "[1,null]"), path + ": null became 0");
    expect_reject(raw(path, "[null]"), path + ": more than half");
    expect_reject(raw(path, "[1,null,null]"), path + ": more than half");
    expect_repair(raw(path, "[1,null,null,2]"), "(2 times)");
  }
  expect_accept(with("quantumFeatures.energy", Json::array()));
  for (const std::size_t size : {1U, 3U, 5U, 1000U}) {
    expect_reject(with("quantumFeatures.energy", std::vector<double>(size, 0.1)),
                  "quantumFeatures.energy must hold 4 values or none");
  }
  expect_reject(raw("quantumFeatures.energy", "[null,null,null,null]"), "more than half");
  expect_repair(raw("quantumFeatures.energy", "[null,0,0,null]"), "null became 0");

  const auto all_empty = [](double duration) {
    return control_with([&](Json& s) {
      for (auto& group : s["quantumFeatures"]) {
        group = Json::array();
      }
      s["originalAudio"]["duration"] = duration;
      s["musicalContext"]["transients"] = Json::array();
    });
  };
  expect_accept(all_empty(2048.0 / 44100.0));
  expect_accept(all_empty(0.0001));
  expect_reject(all_empty(2049.0 / 44100.0), "all six groups are empty");
  expect_reject(all_empty(20.0), "all six groups are empty");
  expect_repair(with("quantumFeatures.phase", Json::array({1})), "quantumFeatures: unknown");
}

TEST(Policy, Transients) {
  const std::string path = "musicalContext.transients";
  expect_accept(with(path, Json::array()));
  expect_reject(raw(path, "[null]"), path);
  expect_reject(raw(path, "[1]"), path);
  expect_reject(raw(path, "{}"), path);
  expect_reject(raw(path, "[{\"time\":0}]"), "strength is missing");
  expect_reject(raw(path, "[{\"strength\":1}]"), "time is missing");
  expect_reject(raw(path, "[{\"time\":null,\"strength\":1}]"), "time must be a number");
  expect_reject(raw(path, "[{\"time\":0,\"strength\":\"1\"}]"), "strength must be a number");
  expect_reject(raw(path, "[{\"time\":1e999,\"strength\":1}]"), "time is too large");
  const Parsed outside = expect_repair(
      raw(path, R"([{"time":0,"strength":1},{"time":-0.1,"strength":1},{"time":9,"strength":1}])"),
      "time outside the clip, dropped (2 times)");
  EXPECT_EQ(outside.record.context.transient_count, 1);
  expect_repair(raw(path, "[{\"time\":0,\"strength\":1.5}]"), "strength: clamped");
  expect_repair(raw(path, "[{\"time\":0,\"strength\":-1}]"), "strength: clamped");
  expect_repair(raw(path, "[{\"time\":0,\"strength\":1,\"who\":\"kim\"}]"), "unknown field");
  const double duration = control()["originalAudio"]["duration"];
  Json many = Json::array();
  for (int i = 0; i < 50000; ++i) {
    many.push_back({{"time", duration * i / 49999.0}, {"strength", 1}});
  }
  const Parsed parsed = parse(with(path, many));
  EXPECT_EQ(parsed.record.context.transient_count, 50000);
  EXPECT_DOUBLE_EQ(parsed.record.context.transient_density, 50000 / duration);
  // The duration may come after the transients.
  Json reordered = control();
  reordered[path.substr(0, 14)]["transients"] = Json::array({{{"time", 7}, {"strength", 1}}});
  const Json audio = reordered["originalAudio"];
  reordered.erase("originalAudio");
  reordered["originalAudio"] = audio;
  EXPECT_EQ(expect_repair(reordered.dump(), "outside the clip").record.context.transient_count, 0);
}

TEST(Policy, Context) {
  const std::string frequencies = "musicalContext.harmonicContent.dominantFrequencies";
  std::vector<double> twelve(12);
  std::iota(twelve.begin(), twelve.end(), 1.0);
  const Parsed more = expect_repair(with(frequencies, twelve), "after the tenth dropped (2 times)");
  EXPECT_EQ(more.record.context.dominant_frequencies,
            std::vector<double>(twelve.begin(), twelve.begin() + 10));
  expect_accept(with(frequencies, Json::array()));
  expect_reject(raw(frequencies, "[1,null]"), frequencies);
  expect_reject(raw(frequencies, "[1,\"2\"]"), frequencies);
  expect_repair(with("musicalContext.harmonicContent.tensionLevel", 1.01), "clamped");
  expect_repair(with("musicalContext.harmonicContent.tensionLevel", -1), "clamped");
  expect_accept(with("musicalContext.harmonicContent.tensionLevel", 1));

  for (std::size_t i = 0; i < kKeyNames.size(); ++i) {
    const Parsed parsed = parse(with("musicalContext.key", kKeyNames[i]));
    EXPECT_EQ(parsed.verdict, Verdict::kAccept);
    EXPECT_EQ(parsed.record.context.key, static_cast<int>(i));
  }
  const std::map<std::string, std::string> flats = {
      {"Db", "C#"}, {"Eb", "D#"}, {"Gb", "F#"}, {"Ab", "G#"}, {"Bb", "A#"}};
  for (const auto& [flat, sharp] : flats) {
    const Parsed parsed = expect_repair(with("musicalContext.key", flat), "musicalContext.key");
    EXPECT_EQ(kKeyNames[static_cast<std::size_t>(parsed.record.context.key)], sharp);
  }
  for (const char* bad : {"", "c", "Cb", "E#", "H", "C major", "constructor", " C"}) {
    expect_reject(with("musicalContext.key", bad), "musicalContext.key");
  }
  expect_accept(raw("musicalContext.key", "\"\\u0043#\""));  // escapes are decoded

  EXPECT_EQ(parse(with("musicalContext.mode", "minor")).record.context.mode, Mode::kMinor);
  for (const char* odd : {"\"dorian\"", "null", "3", "[\"major\"]", "{}", "\"Major\""}) {
    expect_repair(raw("musicalContext.mode", odd), "musicalContext.mode");
  }
  expect_reject(raw("musicalContext.mode", "[1,]"), "");

  expect_accept(raw("musicalContext.bpm", "null"));
  EXPECT_EQ(parse(raw("musicalContext.bpm", "5168")).record.context.bpm, 5168.0);
  for (const char* low : {"0", "-1", "-0.0"}) {
    EXPECT_FALSE(expect_repair(raw("musicalContext.bpm", low), "bpm").record.context.bpm);
  }
  for (const char* bad : {"\"120\"", "true", "[120]", "{}"}) {
    expect_reject(raw("musicalContext.bpm", bad), "musicalContext.bpm must be a number");
  }
}

TEST(Policy, Metadata) {
  for (std::size_t i = 0; i < kClassificationNames.size(); ++i) {
    EXPECT_EQ(parse(with("metadata.classification", kClassificationNames[i])).record.classification,
              static_cast<int>(i));
  }
  EXPECT_EQ(expect_repair(with("metadata.classification", "Full"), "metadata.classification")
                .record.classification,
            kUnknownClassification);
  expect_reject(with("metadata.classification", 1), "must be a string");
  EXPECT_EQ(expect_repair(with("metadata.confidence", 2), "clamped").record.confidence, 1.0);
  EXPECT_EQ(expect_repair(with("metadata.confidence", -2), "clamped").record.confidence, 0.0);
}

TEST(Policy, Stems) {
  expect_accept(with("groundTruthStems", Json::object()));
  expect_repair(raw("groundTruthStems", "null"), "groundTruthStems: null counts as absent");
  for (const char* bad : {"[]", "1", "\"x\"", "true"}) {
    expect_reject(raw("groundTruthStems", bad), "groundTruthStems must be an object");
  }
  for (const std::string_view stem : kStemNames) {
    const std::string path = fmt::format("groundTruthStems.{}", stem);
    expect_accept(with(path, std::vector<double>(500, -1.5)));
    expect_reject(with(path, std::vector<double>(501, 0.0)), path + " holds more than 500");
    const Parsed absent = expect_repair(raw(path, "null"), path + ": null counts as absent");
    EXPECT_FALSE(absent.record.has_stem[static_cast<std::size_t>(*stem_index(stem))]);
    for (const char* bad : {"1", "{}", "\"x\"", "[\"x\"]", "[[0]]", "[null,null,1]"}) {
      expect_reject(raw(path, bad), path);
    }
  }
  expect_repair(with("groundTruthStems.piano", Json::array({0.5})), "groundTruthStems: unknown");
  expect_repair(with("groundTruthStems.constructor", 1), "groundTruthStems: unknown");
}

TEST(Policy, Corrections) {
  expect_repair(raw("userCorrections", "null"), "userCorrections: null counts as absent");
  for (const char* bad : {"{}", "1", "\"x\""}) {
    expect_reject(raw("userCorrections", bad), "userCorrections must be an array");
  }
  expect_accept(raw("userCorrections", "[]"));
  const auto one = [](const std::string& fields) {
    return raw("userCorrections", fmt::format("[{{{}}}]", fields));
  };
  const std::string good = R"("correctedStem":"perc","correctionType":"masking","strength":0.5)";
  const Parsed plain = parse(one(good));
  EXPECT_EQ(plain.verdict, Verdict::kAccept) << plain.reason();
  EXPECT_EQ(plain.record.corrections, (std::vector<double>{4.0 / 6, 0.75, 0.5, 0.0, 1.0}));
  const Parsed swapped =
      expect_repair(one(good + R"(,"frequencyRange":[400,200],"timeRange":[2,1])"),
                    "frequencyRange: reversed range swapped");
  EXPECT_THAT(swapped.reason(), HasSubstr("timeRange: reversed range swapped"));
  EXPECT_EQ(swapped.record.corrections, (std::vector<double>{4.0 / 6, 0.75, 0.5, 0.01, 0.02}));
  for (const char* bad :
       {R"("correctedStem":"piano","correctionType":"cut","strength":0.5)",
        R"("correctedStem":3,"correctionType":"cut","strength":0.5)",
        R"("correctionType":"cut","strength":0.5)",
        R"("correctedStem":"bass","correctionType":"destroy","strength":0.5)",
        R"("correctedStem":"bass","correctionType":null,"strength":0.5)",
        R"("correctedStem":"bass","strength":0.5)",
        R"("correctedStem":"bass","correctionType":"cut")",
        R"("correctedStem":"bass","correctionType":"cut","strength":"0.5")",
        R"("correctedStem":"bass","correctionType":"cut","strength":null)",
        R"("correctedStem":"bass","correctionType":"cut","strength":1,"frequencyRange":[1])",
        R"("correctedStem":"bass","correctionType":"cut","strength":1,"frequencyRange":[1,2,3])",
        R"("correctedStem":"bass","correctionType":"cut","strength":1,"frequencyRange":[1,null])",
        R"("correctedStem":"bass","correctionType":"cut","strength":1,"timeRange":["a",[2]])",
        R"("correctedStem":"bass","correctionType":"cut","strength":1,"timeRange":7)"}) {
    SCOPED_TRACE(bad);
    EXPECT_TRUE(expect_repair(one(bad), "dropped").record.corrections.empty());
  }
  for (const char* odd : {"[null]", "[1]", "[[]]", "[\"x\"]"}) {
    expect_repair(raw("userCorrections", odd), "not an object, dropped");
  }
  expect_repair(one(good + ",\"who\":\"kim\""), "userCorrections[]: unknown field dropped");
  EXPECT_EQ(expect_repair(one(R"("correctedStem":"bass","correctionType":"cut","strength":7)"),
                          "strength: clamped")
                .record.corrections[2],
            1.0);
}

}  // namespace
}  // namespace stemfabric
