#include "trainer/audio_data/stem_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

using testing::AllOf;
using testing::HasSubstr;

AudioRoot root_with(const std::vector<std::string>& sources,
                    TrackLayout layout = TrackLayout::kTracks) {
  AudioRoot root{"songs", layout, {}};
  root.tracks.push_back({"one", TrackSplit::kByHash, {}, {}});
  for (const std::string& source : sources) {
    root.tracks[0].sources.push_back({source, {source + ".wav"}});
  }
  return root;
}

std::string form(const std::string& text) {
  StemMap map;
  map.stems[0] = parse_stem_recipe(text, "key");
  return map.entry(0);
}

std::string refusal(const std::string& text) {
  try {
    parse_stem_recipe(text, "data.stem_map.bass");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(StemMap, EntriesAndTheirForm) {
  EXPECT_EQ(form("guitar+ piano"), "guitar + piano");
  EXPECT_EQ(form(" bass - lowpass( bass , 120.5) "), "bass - lowpass(bass, 120.5)");
  EXPECT_EQ(form("lead-vocals + \"back vocals\""), "lead-vocals + \"back vocals\"");
  EXPECT_EQ(form("\"absent\""), "\"absent\"");
  EXPECT_EQ(form(" residual "), "residual");
  EXPECT_EQ(form("absent"), "absent");
  EXPECT_EQ(form("gitarre_müde"), "gitarre_müde");
  for (const char* text : {"guitar + piano", "lowpass(\"a b\", 80)", "a - b - \"residual\""}) {
    EXPECT_EQ(form(form(text)), form(text));
  }
}

TEST(StemMap, WhatIsNoEntryIsRefused) {
  EXPECT_THAT(refusal("a +"), AllOf(HasSubstr("data.stem_map.bass"), HasSubstr("ends where")));
  EXPECT_THAT(refusal("a b"), HasSubstr("expected + or - before 'b'"));
  EXPECT_THAT(refusal("a + residual"), HasSubstr("`residual` stands alone"));
  EXPECT_THAT(refusal("highpass(a, 3)"), HasSubstr("there is lowpass"));
  EXPECT_THAT(refusal("lowpass(a)"), HasSubstr("a source and a frequency"));
  EXPECT_THAT(refusal("lowpass(a, -3)"), HasSubstr("a frequency in Hz"));
  EXPECT_THAT(refusal("lowpass(a, nan)"), HasSubstr("a frequency in Hz"));
  EXPECT_THAT(refusal("lowpass(a, 3"), HasSubstr("no closing bracket"));
  EXPECT_THAT(refusal("\"a"), HasSubstr("has no end"));
  EXPECT_THAT(refusal("- a"), HasSubstr("begins with '-'"));
  std::string many = "a";
  for (int i = 0; i < 64; ++i) {
    many += " + a";
  }
  EXPECT_THAT(refusal(many), HasSubstr("more than 64 terms"));
}

TEST(StemMap, PresetsByLayoutAndSources) {
  const auto map = [](const AudioRoot& root) { return make_stem_map({}, root, 44100); };
  const StemMap demo = map(root_with({"vocals", "drums", "bass", "harmonic", "perc", "sub"}));
  EXPECT_EQ(demo.preset, "demo");
  for (std::size_t s = 0; s < kStemCount; ++s) {
    EXPECT_EQ(demo.entry(s), kStemNames[s]);
  }
  const StemMap musdb = map(root_with({"vocals", "drums", "bass", "other"}));
  EXPECT_EQ(musdb.preset, "musdb18");
  EXPECT_EQ(musdb.entry(3), "other");
  EXPECT_EQ(musdb.entry(4), "absent");
  // What no track has falls out of a preset.
  const StemMap moises = map(root_with({"vocals", "piano", "wind"}, TrackLayout::kMoisesdb));
  EXPECT_EQ(moises.preset, "moisesdb");
  EXPECT_EQ(moises.entry(3), "piano + wind");
  EXPECT_EQ(moises.entry(1), "absent");
  EXPECT_EQ(map(root_with({"vocals"})).text(),
            "vocals: vocals\ndrums: absent\nbass: absent\nharmonic: absent\nperc: absent\n"
            "sub: absent\nmissing: masked\n");
}

TEST(StemMap, ConfiguredEntries) {
  const AudioRoot root = root_with({"vocals", "drums", "bass", "other"});
  StemMapConfig config;
  config.stems[2] = "bass - lowpass(bass, 100)";
  config.stems[3] = "residual";
  config.stems[5] = "lowpass(bass, 100)";
  const StemMap map = make_stem_map(config, root, 44100);
  EXPECT_EQ(map.entry(0), "vocals");
  EXPECT_EQ(map.entry(2), "bass - lowpass(bass, 100)");
  EXPECT_EQ(map.entry(3), "residual");

  const auto refused = [&](const StemMapConfig& bad) -> std::string {
    try {
      make_stem_map(bad, root, 44100);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "accepted";
  };
  StemMapConfig bad = config;
  bad.stems[4] = "residual";
  EXPECT_THAT(refused(bad), HasSubstr("only one stem"));
  bad.stems[4] = "drms";
  EXPECT_THAT(refused(bad), AllOf(HasSubstr("data.stem_map.perc: no track has a source 'drms'"),
                                  HasSubstr("did you mean 'drums'?")));
  bad.stems[4] = "lowpass(drums, 22050)";
  EXPECT_THAT(refused(bad), HasSubstr("not below half the sample rate"));
  bad = {};
  bad.preset = "none";
  EXPECT_THAT(refused(bad), HasSubstr("no stem has a source; songs has the sources bass, drums"));
}

}  // namespace
}  // namespace stemfabric
