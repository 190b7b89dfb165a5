#include "trainer/audio_data/track_pass.h"

#include <fmt/core.h>

#include <algorithm>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

void add_scaled(const float* from, int64_t frames, float factor, float* to) {
  for (int64_t n = 0; n < frames; ++n) {
    to[n] += factor * from[n];
  }
}

void clear(StereoBlock& block, int64_t frames) {
  for (int c = 0; c < kAudioChannels; ++c) {
    std::fill_n(block.channel(c), frames, 0.0F);
  }
}

void add(const StereoBlock& from, int64_t frames, StereoBlock& to) {
  for (int c = 0; c < kAudioChannels; ++c) {
    add_scaled(from.channel(c), frames, 1.0F, to.channel(c));
  }
}

void subtract(const StereoBlock& a, const StereoBlock& b, int64_t frames, StereoBlock& result) {
  for (int c = 0; c < kAudioChannels; ++c) {
    std::transform(a.channel(c), a.channel(c) + frames, b.channel(c), result.channel(c),
                   std::minus<>());
  }
}

double energy(const StereoBlock& block, int64_t frames) {
  double sum = 0;
  for (int c = 0; c < kAudioChannels; ++c) {
    for (int64_t n = 0; n < frames; ++n) {
      const auto x = static_cast<double>(block.channel(c)[n]);
      sum += x * x;
    }
  }
  return sum;
}

}  // namespace

TrackPass::TrackPass(const TrackFiles& files, const StemMap& map, int64_t sample_rate,
                     const std::array<bool, kSlots>& wide)
    : files_(files), map_(map), sample_rate_(sample_rate), wide_(wide), level_(sample_rate) {
  for (const AudioSource& source : files.sources) {
    sources_.emplace_back(source.name, source.files, sample_rate);
    frames_ = std::max(frames_, sources_.back().frames());
  }
  if (!files.mixture.empty()) {
    mixture_file_.emplace("mixture", std::vector{files.mixture}, sample_rate);
    frames_ = std::max(frames_, mixture_file_->frames());
  }
  source_blocks_.resize(sources_.size());
  plan();
}

void TrackPass::plan() {
  bool others_known = true;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    const StemRecipe& recipe = map_.stems[s];
    if (recipe.kind == StemRecipe::Kind::kResidual) {
      residual_ = s;
    }
    if (recipe.kind != StemRecipe::Kind::kSum) {
      continue;
    }
    for (const StemTerm& term : recipe.terms) {
      const auto source = std::ranges::find(sources_, term.source, &SourceSignal::name);
      if (source != sources_.end()) {
        terms_[s].push_back({static_cast<std::size_t>(source - sources_.begin()),
                             static_cast<float>(term.sign),
                             term.lowpass_hz,
                             {}});
      }
    }
    known_[s] = !terms_[s].empty() || map_.silent_if_missing;
    others_known = others_known && known_[s];
  }
  if (!others_known) {
    residual_.reset();
  }
  if (residual_) {
    known_[*residual_] = true;
  }
}

bool TrackPass::tells_a_stem() const {
  return residual_ || std::ranges::any_of(terms_, [](const auto& terms) { return !terms.empty(); });
}

// i16 if every sample is an integer / 32768 by its origin.
DType TrackPass::slot_type(std::size_t slot) const {
  const auto exact = [&](const std::vector<Term>& terms) {
    return std::ranges::all_of(terms, [&](const Term& term) {
      return term.lowpass_hz == 0 && sources_[term.source].exact_16_bit();
    });
  };
  bool narrow = !wide_[slot];
  if (slot == kRemainder || slot == residual_) {
    narrow = narrow && std::ranges::all_of(terms_, exact) &&
             (mixture_file_ ? mixture_file_->exact_16_bit()
                            : std::ranges::all_of(sources_, &SourceSignal::exact_16_bit));
  } else {
    narrow = narrow && exact(terms_[slot]);
  }
  return narrow ? DType::kI16 : DType::kF32;
}

void TrackPass::add_term(const Term& term, int64_t at, int64_t frames, StereoBlock& stem) const {
  for (int c = 0; c < kAudioChannels; ++c) {
    const float* from = term.filtered ? term.filtered.as<float>() + c * frames_ + at
                                      : source_blocks_[term.source].channel(c);
    add_scaled(from, frames, term.sign, stem.channel(c));
  }
}

void TrackPass::make_block(int64_t at, int64_t frames) {
  clear(sum_, frames);
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    sources_[i].read(frames, source_blocks_[i]);
    add(source_blocks_[i], frames, sum_);
  }
  if (mixture_file_) {
    mixture_file_->read(frames, mixture_);
  } else {
    mixture_ = sum_;
  }
  StereoBlock& total = blocks_[kRemainder];  // of the stems, for now
  clear(total, frames);
  for (std::size_t s = 0; s < kStemCount; ++s) {
    if (known_[s] && s != residual_) {
      clear(blocks_[s], frames);
      for (const Term& term : terms_[s]) {
        add_term(term, at, frames, blocks_[s]);
      }
      add(blocks_[s], frames, total);
    }
  }
  subtract(mixture_, total, frames, blocks_[kRemainder]);
  if (residual_) {
    std::swap(blocks_[*residual_], blocks_[kRemainder]);
    clear(blocks_[kRemainder], frames);
  }
}

bool TrackPass::append_block(int64_t frames, std::size_t& slot) {
  for (slot = 0; slot < kSlots; ++slot) {
    if (scratch_[slot] && !scratch_[slot]->append(blocks_[slot], frames)) {
      return false;
    }
  }
  return true;
}

std::optional<std::size_t> TrackPass::run(const std::filesystem::path& file) {
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    if (slot == kRemainder || known_[slot]) {
      scratch_[slot] = std::make_unique<PcmScratch>(
          file.string() + fmt::format(".{}.scratch", slot), frames_, slot_type(slot));
    }
  }
  for (auto& terms : terms_) {
    for (Term& term : terms) {
      if (term.lowpass_hz > 0) {
        const AudioSource& source = files_.sources[term.source];
        term.filtered = lowpassed_source({source.name, source.files, sample_rate_}, frames_,
                                         term.lowpass_hz, sample_rate_);
      }
    }
  }
  for (int64_t at = 0; at < frames_; at += StereoBlock::kFrames) {
    const int64_t count = std::min(StereoBlock::kFrames, frames_ - at);
    make_block(at, count);
    if (std::size_t slot = 0; !append_block(count, slot)) {
      return slot;
    }
    level_.add(mixture_.channel(0), mixture_.channel(1), count);
    mixture_energy_ += energy(mixture_, count);
    remainder_energy_ += energy(blocks_[kRemainder], count);
    subtract(mixture_, sum_, count, sum_);
    sum_error_energy_ += energy(sum_, count);
  }
  return std::nullopt;
}

std::optional<double> TrackPass::sum_error_db() const {
  return mixture_file_ ? std::optional(decibels(sum_error_energy_ / mixture_energy_))
                       : std::nullopt;
}

double TrackPass::remainder_db() const { return decibels(remainder_energy_ / mixture_energy_); }

std::vector<FileAudit> TrackPass::audits(const std::filesystem::path& root) {
  std::vector<FileAudit> result;
  const auto take = [&](SourceSignal& source) {
    for (FileAudit& audit : source.audits(root)) {
      result.push_back(std::move(audit));
    }
  };
  for (SourceSignal& source : sources_) {
    take(source);
  }
  if (mixture_file_) {
    take(*mixture_file_);
  }
  return result;
}

std::vector<NamedTensor> TrackPass::tensors(bool remainder) {
  std::vector<NamedTensor> result;
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    if (scratch_[slot] && (slot != kRemainder || remainder)) {
      result.push_back(
          {slot == kRemainder ? "pcm.remainder" : fmt::format("pcm.{}", kStemNames[slot]),
           scratch_[slot]->view()});
    }
  }
  return result;
}

}  // namespace stemfabric
