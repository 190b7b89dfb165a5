// One reading of a track's files from start to end: sources to stems, mixture and remainder, block
// by block into scratch files (track_maker.h has the rules).
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/io/safetensors.h"
#include "trainer/audio_data/level.h"
#include "trainer/audio_data/pcm_scratch.h"
#include "trainer/audio_data/source_signal.h"
#include "trainer/audio_data/stem_map.h"
#include "trainer/audio_data/track_layout.h"

namespace stemfabric {

class TrackPass {
 public:
  static constexpr std::size_t kRemainder = kStemCount;  // the slot behind the stems
  static constexpr std::size_t kSlots = kStemCount + 1;

  // Opens the files. `wide` slots are stored as f32 whatever the files hold.
  TrackPass(const TrackFiles& files, const StemMap& map, int64_t sample_rate,
            const std::array<bool, kSlots>& wide);

  int64_t frames() const { return frames_; }
  const std::array<bool, kStemCount>& known() const { return known_; }
  bool tells_a_stem() const;  // at least one comes out of a file

  // Reads everything. If a sum left the range of i16: its slot, which the next pass must have wide.
  std::optional<std::size_t> run(const std::filesystem::path& file);

  // After a whole run:
  double gain() const { return level_.gain(); }
  bool silent() const { return mixture_energy_ == 0; }
  std::optional<double> sum_error_db() const;
  double remainder_db() const;
  std::vector<FileAudit> audits(const std::filesystem::path& root);
  // What the track's file holds, in order.
  std::vector<NamedTensor> tensors(bool remainder);

 private:
  struct Term {
    std::size_t source = 0;
    float sign = 1.0F;
    double lowpass_hz = 0.0;
    Tensor filtered;  // the whole source, if lowpass_hz > 0
  };
  void plan();
  DType slot_type(std::size_t slot) const;
  void add_term(const Term& term, int64_t at, int64_t frames, StereoBlock& stem) const;
  void make_block(int64_t at, int64_t frames);
  bool append_block(int64_t frames, std::size_t& slot);

  const TrackFiles& files_;
  const StemMap& map_;
  int64_t sample_rate_;
  std::array<bool, kSlots> wide_;
  std::vector<SourceSignal> sources_;
  std::optional<SourceSignal> mixture_file_;
  int64_t frames_ = 0;

  std::array<std::vector<Term>, kStemCount> terms_;
  std::array<bool, kStemCount> known_{};
  std::optional<std::size_t> residual_;  // if it is known

  std::vector<StereoBlock> source_blocks_;
  std::array<StereoBlock, kSlots> blocks_;
  StereoBlock sum_;  // of the sources
  StereoBlock mixture_;
  std::array<std::unique_ptr<PcmScratch>, kSlots> scratch_;
  LevelMeter level_;
  double mixture_energy_ = 0;
  double sum_error_energy_ = 0;
  double remainder_energy_ = 0;
};

}  // namespace stemfabric
