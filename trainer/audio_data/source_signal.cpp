#include "trainer/audio_data/source_signal.h"

#include <algorithm>

#include "trainer/audio_data/zero_phase.h"

namespace stemfabric {

SourceSignal::SourceSignal(std::string name, const std::vector<std::filesystem::path>& files,
                           int64_t sample_rate)
    : name_(std::move(name)) {
  const AudioLayout layout{static_cast<int>(sample_rate), kAudioChannels};
  for (const std::filesystem::path& path : files) {
    files_.push_back({path, AudioInput(path, layout), SignalMeter(sample_rate)});
    frames_ = std::max(frames_, files_.back().input.frames());
    exact_ = exact_ && files_.back().input.exact_16_bit();
  }
}

void SourceSignal::read(int64_t frames, StereoBlock& block) {
  for (std::size_t f = 0; f < files_.size(); ++f) {
    StereoBlock& target = f == 0 ? block : part_;
    const int64_t got = files_[f].input.read(frames, target.channel(0), StereoBlock::kFrames);
    files_[f].meter.add(target.channel(0), target.channel(1), got);
    for (int c = 0; c < kAudioChannels; ++c) {
      if (f == 0) {
        std::fill(block.channel(c) + got, block.channel(c) + frames, 0.0F);
      } else {
        std::transform(part_.channel(c), part_.channel(c) + got, block.channel(c), block.channel(c),
                       std::plus<>());
      }
    }
  }
}

std::vector<FileAudit> SourceSignal::audits(const std::filesystem::path& root) {
  std::vector<FileAudit> result;
  for (File& file : files_) {
    FileAudit audit;
    audit.file = file.path.lexically_relative(root).string();
    audit.source = name_;
    audit.info = file.input.source();
    file.meter.finish(audit);
    result.push_back(std::move(audit));
  }
  return result;
}

Tensor lowpassed_source(SourceSignal source, int64_t frames, double hertz, int64_t sample_rate) {
  Tensor signal({kAudioChannels, frames}, DType::kF32, host_resource(), "low-pass of a source");
  StereoBlock block;
  for (int64_t at = 0; at < frames; at += StereoBlock::kFrames) {
    const int64_t count = std::min(StereoBlock::kFrames, frames - at);
    source.read(count, block);
    for (int c = 0; c < kAudioChannels; ++c) {
      std::copy_n(block.channel(c), count, signal.as<float>() + c * frames + at);
    }
  }
  for (int c = 0; c < kAudioChannels; ++c) {
    zero_phase_lowpass(signal.as<float>() + c * frames, frames, hertz, sample_rate);
  }
  return signal;
}

}  // namespace stemfabric
