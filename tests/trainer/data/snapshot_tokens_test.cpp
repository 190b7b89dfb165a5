// Tokens and targets against a slow restatement of docs/dataset.md, value by value.
#include "trainer/data/snapshot_tokens.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "runtime/core/check.h"
#include "tests/trainer/snapshot/snapshot_files.h"
#include "trainer/data/input_statistics.h"
#include "trainer/snapshot/feature_vector.h"

namespace stemfabric {
namespace {

SnapshotRecord real(const std::string& file) {
  return test::parse(read_text_file(test::data_dir() / "snapshots" / file)).record;
}
const std::vector<std::string> kFiles = {"s01_neon_drift.json", "s02_paper_boats.json",
                                         "s05_lanterns_mono.json", "s08_orbit_park_clip.json",
                                         "s14_quiet_room.json"};

// Name of an input feature -> its place.
std::map<std::string, int64_t> feature_index(const SnapshotTokenizer& tokenizer) {
  std::map<std::string, int64_t> index;
  for (const std::string& name : tokenizer.feature_names()) {
    index.emplace(name, static_cast<int64_t>(index.size()));
  }
  EXPECT_EQ(static_cast<int64_t>(index.size()), tokenizer.features());
  return index;
}

// Middle of what raw value r covers, written out from the table of the exporter.
double middle(std::size_t group, int64_t raw) {
  const auto r = static_cast<double>(raw);
  switch (group) {
    case 0:
      return 512 * std::floor(r / 32) + 64 * std::fmod(r, 32) + 32;
    case 2:
      return 2048 * std::floor(r / 16) + 1024;
    case 3:
      return 512 * (std::floor(r / 4) + 1) + 256;
    default:
      return 1024 * std::floor(r / 3) + 512;
  }
}

TEST(SnapshotTokens, TimeGridHoldsMeansAndPresence) {
  const int64_t slots[] = {32, 3, 16, 4, 3};
  for (const std::string& file : kFiles) {
    for (const int64_t bins : {1, 7, 64, 1000}) {
      SCOPED_TRACE(file + " " + std::to_string(bins));
      const SnapshotRecord record = real(file);
      SnapshotTokenizer tokenizer({.time_bins = bins});
      auto index = feature_index(tokenizer);
      TokenSample sample;
      tokenizer.tokenize(record, sample);
      std::map<std::pair<int64_t, std::string>, std::vector<double>> cells;
      for (std::size_t g = 0; g < 5; ++g) {
        if (g == 4 && record.channels == 1) {
          continue;
        }
        for (std::size_t i = 0; i < record.groups[g].size(); ++i) {
          const int64_t raw = static_cast<int64_t>(i) * record.strides[g];
          const auto bin = static_cast<int64_t>(middle(g, raw) * static_cast<double>(bins) /
                                                static_cast<double>(record.samples));
          const std::string name =
              std::string(kGroupNames[g]) + "." + std::to_string(raw % slots[g]);
          cells[{bin, name}].push_back(static_cast<double>(record.groups[g][i]));
        }
      }
      std::size_t present = 0;
      std::vector<bool> filled(static_cast<std::size_t>(bins));
      for (const auto& [cell, values] : cells) {
        const float* row = sample.inputs.data() + cell.first * tokenizer.features();
        double mean = 0.0;
        for (const double value : values) {
          mean += value / static_cast<double>(values.size());
        }
        ASSERT_NEAR(static_cast<double>(row[index.at(cell.second + ".mean")]), mean,
                    1e-6 * std::abs(mean));
        ASSERT_EQ(row[index.at(cell.second + ".present")], 1.0F);
        ++present;
        filled[static_cast<std::size_t>(cell.first)] = true;
      }
      std::size_t flags = 0;
      for (int64_t bin = 0; bin < bins; ++bin) {
        const float* row = sample.inputs.data() + bin * tokenizer.features();
        ASSERT_EQ(sample.input_mask[static_cast<std::size_t>(bin)] == 1,
                  filled[static_cast<std::size_t>(bin)]);
        for (const auto& [name, f] : index) {
          flags += name.ends_with(".present") && name[0] != 'b' && name[0] != 'e' && row[f] == 1.0F
                       ? 1
                       : 0;
          if (!filled[static_cast<std::size_t>(bin)]) {
            ASSERT_EQ(row[f], 0.0F) << name;
          }
        }
        if (filled[static_cast<std::size_t>(bin)]) {
          const MusicalContext& context = record.context;
          const std::string key(kKeyNames[static_cast<std::size_t>(context.key)]);
          ASSERT_EQ(row[index.at("key." + key)], 1.0F);
          ASSERT_EQ(std::count(row + index.at("key.C"), row + index.at("key.B") + 1, 1.0F), 1);
          ASSERT_EQ(row[index.at("energy.maximum")], record.groups[5][2]);
          ASSERT_EQ(row[index.at("energy.present")], 1.0F);
          ASSERT_EQ(row[index.at("bpm.present")], context.bpm ? 1.0F : 0.0F);
          ASSERT_EQ(row[index.at("transientDensity")],
                    static_cast<float>(context.transient_density));
          ASSERT_EQ(row[index.at("dominantFrequency.9")],
                    static_cast<float>(context.dominant_frequencies[9]));
        }
      }
      ASSERT_EQ(flags, present);
    }
  }
}

TEST(SnapshotTokens, EachStemValueSupervisesItsPlace) {
  for (const std::string& file : kFiles) {
    for (const int64_t bins : {1, 7, 64, 100, 500}) {
      const SnapshotRecord record = real(file);
      SnapshotTokenizer tokenizer({.time_bins = bins});
      EXPECT_EQ(tokenizer.outputs(), (500 + bins - 1) / bins);
      TokenSample sample;
      tokenizer.tokenize(record, sample);
      const int64_t stride = (record.samples + 499) / 500;
      for (int64_t stem = 0; stem < kStemCount; ++stem) {
        const std::vector<float>& values = record.stems[static_cast<std::size_t>(stem)];
        // Read back in order of tokens and outputs, the present values are the stem's again.
        std::vector<float> placed;
        std::size_t in_masked_tokens = 0;
        for (int64_t i = 0; i < static_cast<int64_t>(values.size()); ++i) {
          const int64_t bin = i * stride * bins / record.samples;
          in_masked_tokens += sample.input_mask[static_cast<std::size_t>(bin)] == 0 ? 1U : 0U;
        }
        for (int64_t bin = 0; bin < bins; ++bin) {
          for (int64_t k = 0; k < tokenizer.outputs(); ++k) {
            const auto at = static_cast<std::size_t>((stem * bins + bin) * tokenizer.outputs() + k);
            if (sample.target_mask[at] == 1) {
              const auto i = static_cast<int64_t>(placed.size());
              ASSERT_EQ(sample.input_mask[static_cast<std::size_t>(bin)], 1);
              if (in_masked_tokens == 0) {
                ASSERT_EQ(i * stride * bins / record.samples, bin);
              }
              placed.push_back(sample.targets[at]);
            } else {
              ASSERT_EQ(sample.targets[at], 0.0F);
            }
          }
        }
        ASSERT_EQ(placed.size() + in_masked_tokens, values.size()) << file << " " << bins;
        if (in_masked_tokens == 0) {
          ASSERT_EQ(placed, values);
        }
        ASSERT_EQ(sample.supervised[static_cast<std::size_t>(stem)], !placed.empty());
      }
    }
  }
}

// A stem buffer of another length than the mix: as many values, spread evenly.
TEST(SnapshotTokens, StemOfAnotherLength) {
  SnapshotRecord record = real("s01_neon_drift.json");
  record.stems[2].resize(300);
  SnapshotTokenizer tokenizer({});
  TokenSample sample;
  tokenizer.tokenize(record, sample);
  const auto begin = sample.target_mask.begin() + 2 * 64 * 8;
  EXPECT_EQ(std::count(begin, begin + 64 * 8, 1), 300);
  EXPECT_EQ(sample.dropped_values, 0);
}

TEST(SnapshotTokens, BandsLieWhereTheSpectralValuesLie) {
  SnapshotRecord record = real("s01_neon_drift.json");
  for (auto& stem : record.stems) {
    stem.clear();
  }
  // The mixture's own values as a stem: targets equal the input means of every second kept value.
  const std::vector<float>& spectral = record.groups[0];
  for (std::size_t i = 0; i < spectral.size(); i += 2) {
    record.stems[1].push_back(spectral[i]);
  }
  SnapshotTokenizer tokenizer({.targets = TargetKind::kBands});
  EXPECT_EQ(tokenizer.outputs(), 32);
  TokenSample sample;
  tokenizer.tokenize(record, sample);
  std::map<std::pair<int64_t, int64_t>, std::vector<double>> cells;
  for (std::size_t i = 0; i < spectral.size(); i += 2) {
    const int64_t raw = static_cast<int64_t>(i) * record.strides[0];
    cells[{static_cast<int64_t>(middle(0, raw) * 64 / static_cast<double>(record.samples)),
           raw % 32}]
        .push_back(static_cast<double>(spectral[i]));
  }
  int64_t count = 0;
  for (const auto& [cell, values] : cells) {
    double mean = 0.0;
    for (const double value : values) {
      mean += value / static_cast<double>(values.size());
    }
    const auto at = static_cast<std::size_t>((64 + cell.first) * 32 + cell.second);
    ASSERT_EQ(sample.target_mask[at], 1);
    ASSERT_NEAR(static_cast<double>(sample.targets[at]), mean, 1e-6 * mean);
    ++count;
  }
  EXPECT_EQ(std::count(sample.target_mask.begin(), sample.target_mask.end(), 1), count);
  EXPECT_TRUE(sample.supervised[1]);

  record.stems[1][3] = -0.1F;  // no energy
  tokenizer.tokenize(record, sample);
  EXPECT_FALSE(sample.supervised[1]);
  record.stems[1].pop_back();  // another count
  record.stems[1][3] = 0.1F;
  tokenizer.tokenize(record, sample);
  EXPECT_FALSE(sample.supervised[1]);
}

TEST(SnapshotTokens, PackedIsTheVectorInOrder) {
  for (const std::string& file : kFiles) {
    const SnapshotRecord record = real(file);
    SnapshotTokenizer tokenizer({.layout = TokenLayout::kPacked});
    EXPECT_EQ(tokenizer.tokens(), 20);
    EXPECT_EQ(tokenizer.features(), 256);
    TokenSample sample;
    tokenizer.tokenize(record, sample);
    std::vector<float> vector;
    append_feature_vector(record, vector);
    const auto tokens = static_cast<int64_t>((vector.size() + 255) / 256);
    EXPECT_EQ(std::count(sample.input_mask.begin(), sample.input_mask.end(), 1), tokens);
    EXPECT_EQ(sample.input_mask[static_cast<std::size_t>(tokens - 1)], 1);
    vector.resize(sample.inputs.size(), 0.0F);
    EXPECT_EQ(sample.inputs, vector);
    if (tokens >= 16) {  // then every target has a place
      int64_t values = 0;
      for (const auto& stem : record.stems) {
        values += static_cast<int64_t>(stem.size());
      }
      EXPECT_EQ(std::count(sample.target_mask.begin(), sample.target_mask.end(), 1), values);
      EXPECT_EQ(sample.dropped_values, 0);
    }
  }
}

TEST(SnapshotTokens, CorrectionsRaiseTheStemWeight) {
  SnapshotRecord record = real("s05_lanterns.json");  // drums 0.8, harmonic 0.25
  TokenSample sample;
  SnapshotTokenizer({.correction_weight = 1.0}).tokenize(record, sample);
  EXPECT_EQ(sample.stem_weight, (std::array<float, 6>{1, 1.8F, 1, 1.25F, 1, 1}));
  SnapshotTokenizer({.correction_weight = 0.0}).tokenize(record, sample);
  EXPECT_EQ(sample.stem_weight, (std::array<float, 6>{1, 1, 1, 1, 1, 1}));
  record.corrections.insert(record.corrections.end(), {1.0 / 6, 0.25, 0.5, 0, 1});
  SnapshotTokenizer({.correction_weight = 2.0}).tokenize(record, sample);
  EXPECT_EQ(sample.stem_weight[1], 2.6F);  // the strongest one counts
}

TEST(SnapshotTokens, ExtremeRecordsStayFiniteAndInside) {
  SnapshotRecord record = real("s08_orbit_park_clip.json");
  for (const int64_t samples : std::vector<int64_t>{0, 1, 500, 1025, 2049, 3000, 66'355'200'000}) {
    for (std::size_t g = 0; g < kGroupCount; ++g) {
      const auto group = static_cast<FeatureGroup>(g);
      const int64_t raw = raw_length(group, samples, 2);
      const int64_t kept = ceil_div(raw, stride_of(raw));
      record.groups[g].assign(static_cast<std::size_t>(kept), 3.4e38F);
      record.strides[g] = known_stride(group, samples, 2, kept);
    }
    record.samples = samples;
    record.context.dominant_frequencies = {1e300, -1e300};
    for (auto& stem : record.stems) {
      stem.assign(static_cast<std::size_t>(std::min<int64_t>(samples, 500)), 3.4e38F);
    }
    for (const TokenOptions& options :
         {TokenOptions{}, TokenOptions{.time_bins = 4096},
          TokenOptions{.layout = TokenLayout::kPacked, .packed_width = 4096},
          TokenOptions{.layout = TokenLayout::kPacked, .packed_width = 1},
          TokenOptions{.layout = TokenLayout::kPacked, .targets = TargetKind::kBands},
          TokenOptions{.targets = TargetKind::kBands, .time_bins = 1}}) {
      SnapshotTokenizer tokenizer(options);
      TokenSample sample;
      tokenizer.tokenize(record, sample);
      for (const float value : sample.inputs) {
        ASSERT_TRUE(std::isfinite(value));
      }
      for (const float value : sample.targets) {
        ASSERT_TRUE(std::isfinite(value));
      }
    }
  }
  EXPECT_THROW(SnapshotTokenizer({.time_bins = 0}), UsageError);
  EXPECT_THROW(SnapshotTokenizer({.packed_width = 5000}), UsageError);
}

TEST(TimeBins, AreTheExactQuotient) {
  for (const int64_t samples :
       std::vector<int64_t>{1, 2, 63, 64, 65, 882000, 920348, 66'355'200'000}) {
    for (const int64_t bins : {1, 3, 64, 4096}) {
      const TimeBins time_bins(samples, bins);
      for (int64_t s = 0; s < samples; s += std::max<int64_t>(1, samples / 997)) {
        ASSERT_EQ(time_bins(s), s * bins / samples);
      }
      ASSERT_EQ(time_bins(samples), bins - 1);  // clamped
    }
  }
}

TEST(InputStatistics, AreThoseOfThePresentValues) {
  SnapshotTokenizer tokenizer({});
  FeatureMoments merged(tokenizer.features());
  std::vector<std::vector<double>> values(static_cast<std::size_t>(tokenizer.features()));
  for (const std::string& file : kFiles) {
    TokenSample sample;
    tokenizer.tokenize(real(file), sample);
    FeatureMoments one(tokenizer.features());
    one.set(tokenizer, sample);
    merged.merge(one);
    const int64_t slots = 58;
    for (int64_t t = 0; t < tokenizer.tokens(); ++t) {
      const float* row = sample.inputs.data() + t * tokenizer.features();
      for (int64_t f = 0; f < tokenizer.features(); ++f) {
        const bool present = sample.input_mask[static_cast<std::size_t>(t)] == 1 &&
                             (f >= slots || row[f + slots] == 1);
        if (present) {
          values[static_cast<std::size_t>(f)].push_back(static_cast<double>(row[f]));
        }
      }
    }
  }
  const InputStatistics statistics = merged.statistics(tokenizer.scaled());
  const auto index = feature_index(tokenizer);
  int constants = 0;
  for (const auto& [name, feature] : index) {
    SCOPED_TRACE(name);
    const auto f = static_cast<std::size_t>(feature);
    const bool plain = name.ends_with(".present") || name.starts_with("key.") || name == "mode";
    ASSERT_EQ(tokenizer.scaled()[f], !plain);
    if (plain) {
      EXPECT_EQ(statistics.mean[f], 0.0F);
      EXPECT_EQ(statistics.scale[f], 1.0F);
      continue;
    }
    ASSERT_FALSE(values[f].empty());
    double mean = 0.0;
    for (const double value : values[f]) {
      mean += value / static_cast<double>(values[f].size());
    }
    double variance = 0.0;
    for (const double value : values[f]) {
      variance += (value - mean) * (value - mean) / static_cast<double>(values[f].size());
    }
    EXPECT_NEAR(static_cast<double>(statistics.mean[f]), mean, 1e-6 * std::abs(mean) + 1e-30);
    const double deviation = std::sqrt(variance);
    if (deviation > 1e-5 * std::abs(mean)) {
      EXPECT_NEAR(static_cast<double>(statistics.scale[f]) * deviation, 1.0, 1e-5);
    } else {
      EXPECT_EQ(statistics.scale[f], 1.0F);
      ++constants;
    }
  }
  EXPECT_GE(constants, 1);  // tension is 0.5 in every snapshot
}

}  // namespace
}  // namespace stemfabric
