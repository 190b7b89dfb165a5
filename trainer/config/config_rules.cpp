// Rules between fields.
#include <fmt/core.h>

#include <algorithm>
#include <bit>

#include "runtime/core/check.h"
#include "trainer/config/config_io.h"
#include "trainer/config/fields.h"

namespace stemfabric {
namespace {

constexpr int64_t kMaxHeadSize = 128;  // of the attention op

class Rules {
 public:
  explicit Rules(const LoadedConfig& loaded) : loaded_(loaded), config_(loaded.config) {}

  void check() const {
    check_model();
    check_loss();
    check_data();
    check_audio();
    check_optimiser();
    check_length();
  }

 private:
  // "training.lr = 0.001 (configs/a.yaml:7)"
  std::string named(const std::string& key) const {
    Config copy = config_;
    for (const Field& field : list_fields(copy).fields) {
      if (field.key() == key) {
        const auto origin = loaded_.origins.find(key);
        return fmt::format("{} = {} ({})", key, value_to_yaml(field),
                           origin == loaded_.origins.end() ? "default" : origin->second);
      }
    }
    throw InternalError("a rule names the unknown key {}", key);
  }

  void check_model() const {
    const ModelConfig& model = config_.model;
    if (model.dim % model.heads != 0) {
      throw ConfigError("{} must divide {}", named("model.heads"), named("model.dim"));
    }
    const int64_t head_size = model.dim / model.heads;
    if (head_size > kMaxHeadSize) {
      throw ConfigError("{} and {} give heads of size {}; at most {} is supported: use {} heads",
                        named("model.dim"), named("model.heads"), head_size, kMaxHeadSize,
                        (model.dim + kMaxHeadSize - 1) / kMaxHeadSize);
    }
    if (model.positions == "rotary" && head_size % 2 != 0) {
      throw ConfigError("{} turns pairs of values, so {} and {} must give heads of an even size",
                        named("model.positions"), named("model.dim"), named("model.heads"));
    }
    const auto& attention = model.attention;
    if (attention.activation == "superposition_normalized" &&
        (attention.alpha < 0 || attention.beta < 0 || attention.gamma < 0 ||
         attention.alpha + attention.beta + attention.gamma <= 0)) {
      throw ConfigError(
          "{} divides by the sum of a row: {}, {} and {} must not be negative nor all zero",
          named("model.attention.activation"), named("model.attention.alpha"),
          named("model.attention.beta"), named("model.attention.gamma"));
    }
  }

  void check_loss() const {
    const auto& weights = config_.loss.stem_weights;
    if (weights.size() != kStemCount) {
      throw ConfigError("{} needs {} entries: {}", named("loss.stem_weights"), kStemCount,
                        "vocals drums bass harmonic perc sub");
    }
    if (std::all_of(weights.begin(), weights.end(), [](double w) { return w == 0; })) {
      throw ConfigError("{} leaves nothing to learn: give one stem a weight above 0",
                        named("loss.stem_weights"));
    }
    if (config_.loss.magnitude_weight == 0 && config_.loss.complex_weight == 0) {
      throw ConfigError("{} and {}: set one of them above 0", named("loss.magnitude_weight"),
                        named("loss.complex_weight"));
    }
  }

  void check_data() const {
    if (config_.data.train_ratio <= 0) {
      throw ConfigError("{} leaves nothing to train on; use a share such as 0.8",
                        named("data.train_ratio"));
    }
  }

  void check_audio() const {
    const AudioConfig& audio = config_.audio;
    if (!std::has_single_bit(static_cast<uint64_t>(audio.n_fft))) {
      throw ConfigError("{} must be a power of two: 512, 1024, 2048 or 4096", named("audio.n_fft"));
    }
    if (audio.n_fft % audio.hop_length != 0) {
      throw ConfigError("{} must divide {}", named("audio.hop_length"), named("audio.n_fft"));
    }
    if (4 * audio.hop_length > audio.n_fft) {
      throw ConfigError(
          "{} must be a quarter of {} or less: masked spectra are overlapped and added",
          named("audio.hop_length"), named("audio.n_fft"));
    }
    if (audio.chunk_size <= audio.n_fft / 2) {
      throw ConfigError("{} must be longer than half of {}", named("audio.chunk_size"),
                        named("audio.n_fft"));
    }
    if (config_.augmentations.loudness_min > config_.augmentations.loudness_max) {
      throw ConfigError("{} must not be above {}", named("augmentations.loudness_min"),
                        named("augmentations.loudness_max"));
    }
    if (config_.augmentations.speed_min > config_.augmentations.speed_max) {
      throw ConfigError("{} must not be above {}", named("augmentations.speed_min"),
                        named("augmentations.speed_max"));
    }
  }

  void check_optimiser() const {
    const TrainingConfig& training = config_.training;
    if (training.schedule != "constant" && training.min_lr > training.lr) {
      throw ConfigError("{} must not be above {}", named("training.min_lr"), named("training.lr"));
    }
    if (training.schedule == "plateau" &&
        (training.reduce_factor <= 0 || training.reduce_factor >= 1)) {
      throw ConfigError("{} must lie between 0 and 1 with {}", named("training.reduce_factor"),
                        named("training.schedule"));
    }
  }

  void check_length() const {
    const TrainingConfig& training = config_.training;
    if (training.num_epochs == 0 && training.num_steps == 0) {
      throw ConfigError("{} and {}: there is nothing to do; set one of them above 0",
                        named("training.num_epochs"), named("training.num_steps"));
    }
  }

  const LoadedConfig& loaded_;
  const Config& config_;
};

}  // namespace

void validate_config(const LoadedConfig& config) { Rules(config).check(); }

}  // namespace stemfabric
