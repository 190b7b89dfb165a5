// The whole configuration as plain structs. Each struct lists its fields once in visit(); reading
// YAML, --set overrides, printing with origins, help, JSON schema and error messages all walk that
// list (trainer/config/config_io.h).
//
// A visitor is called as v(key, member, help) or v(key, member, help, constraint).
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "trainer/stems.h"

namespace stemfabric {

// What a value may be. Numbers: a closed range; strings: one of `choices` if there are any.
struct Constraint {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices;
};
inline Constraint at_least(double min) { return {.min = min}; }
inline Constraint between(double min, double max) { return {.min = min, .max = max}; }
inline Constraint one_of(std::vector<std::string> choices) {
  return {.choices = std::move(choices)};
}

struct AttentionModelConfig {
  std::string activation = "superposition_centered";
  double alpha = 0.3;
  double beta = 0.3;
  double gamma = 0.4;
  double dropout = 0.0;

  template <typename V>
  void visit(V&& v) {
    v("activation", activation, "function of the attention weights",
      one_of({"softmax", "superposition", "superposition_centered", "superposition_normalized"}));
    v("alpha", alpha, "coefficient of the sigmoid of the softmax weights");
    v("beta", beta, "coefficient of the tanh of the softmax weights");
    v("gamma", gamma, "coefficient of the softmax of the softmax weights");
    v("dropout", dropout, "dropout of the attention weights", between(0, 0.95));
  }
};

struct AudioConfig {
  int64_t sample_rate = 44100;
  int64_t num_channels = 2;
  int64_t chunk_size = 131072;
  int64_t n_fft = 4096;
  int64_t hop_length = 1024;
  double min_mean_abs = 0.0;
  std::string feature_groups = "all";

  template <typename V>
  void visit(V&& v) {
    v("sample_rate", sample_rate, "samples per second; files of other rates are resampled",
      between(8000, 192000));
    v("num_channels", num_channels, "channels; mono files sound on both", between(2, 2));
    v("chunk_size", chunk_size, "samples of a training chunk", between(512, 1 << 26));
    v("n_fft", n_fft, "samples of a spectrum's window: a power of two", between(512, 4096));
    v("hop_length", hop_length, "samples from frame to frame; must divide n_fft",
      between(16, 4096));
    v("min_mean_abs", min_mean_abs,
      "a training chunk whose mixture's mean magnitude is below this is drawn again; 0 = never",
      between(0, 1));
    v("feature_groups", feature_groups,
      "all: 256 features of a frame; spectral: the model sees its 128 band levels alone, the "
      "others "
      "are held at their mean",
      one_of({"all", "spectral"}));
  }
};

struct ModelConfig {
  int64_t input_dim = 0;
  int64_t dim = 256;
  int64_t depth = 4;
  int64_t heads = 8;
  int64_t dim_ff = 1024;
  int64_t output_dim = 0;
  int64_t max_sequence_length = 0;
  double norm_epsilon = 1e-5;
  std::string norm_placement = "post";
  std::string positions = "learned";
  double rotary_base = 10000.0;
  double attn_dropout = 0.1;
  double ff_dropout = 0.1;
  std::string mask = "none";
  int64_t mask_bands = 128;
  int64_t mask_channels = 2;
  AttentionModelConfig attention;
  // Of a model of masks: what its inputs are made of. Not a key of this section: training takes it
  // from `audio`, and the weights carry it.
  std::optional<AudioConfig> audio;

  template <typename V>
  void visit(V&& v) {
    v("input_dim", input_dim, "features per token; 0 = as the data set has", between(0, 65536));
    v("dim", dim, "width of the model; dim / heads is at most 128", between(1, 16384));
    v("depth", depth, "number of encoder blocks", between(0, 256));
    v("heads", heads, "attention heads; must divide dim", between(1, 1024));
    v("dim_ff", dim_ff, "width of the feed-forward layer", between(1, 65536));
    v("output_dim", output_dim, "outputs per stem and token; 0 = as the data set has",
      between(0, 65536));
    v("max_sequence_length", max_sequence_length,
      "longest sequence, rows of the position table; 0 = as the data set has", between(0, 1 << 20));
    v("norm_epsilon", norm_epsilon, "added to the variance in layer norm", between(0, 1));
    v("norm_placement", norm_placement, "layer norm after or before each residual branch",
      one_of({"post", "pre"}));
    v("positions", positions, "position encoding", one_of({"learned", "rotary", "none"}));
    v("rotary_base", rotary_base, "base of the rotary angles", at_least(1));
    v("attn_dropout", attn_dropout, "dropout after the attention's output projection",
      between(0, 0.95));
    v("ff_dropout", ff_dropout, "dropout after the feed-forward layer", between(0, 0.95));
    v("mask", mask,
      "what the outputs are: values of a snapshot's stems, or masks on the mixture's spectrum",
      one_of({"none", "real", "complex"}));
    v("mask_bands", mask_bands, "bands of a mask", between(2, 4096));
    v("mask_channels", mask_channels, "masks per frame: one for both channels, or one for each",
      between(1, 2));
    v("attention", attention, "the attention function");
  }
};

// How the sources of an audio data set make the six stems (trainer/audio_data/stem_map.h has the
// grammar). An empty entry: as the preset says.
struct StemMapConfig {
  std::string preset = "auto";
  std::array<std::string, kStemCount> stems;
  std::string missing = "masked";

  template <typename V>
  void visit(V&& v) {
    v("preset", preset, "which sources make which stems; auto = by the layout and the sources",
      one_of({"auto", "demo", "musdb18", "moisesdb", "none"}));
    for (std::size_t i = 0; i < kStemCount; ++i) {
      v(kStemNames[i].data(), stems[i], kStemHelp[i]);
    }
    v("missing", missing,
      "a track without any source of a mapped stem: the stem is unknown, or known to be silent",
      one_of({"masked", "silent"}));
  }

 private:
  static constexpr std::array<const char*, kStemCount> kStemHelp = {
      "sources of vocals: a sum such as `lead + choir`; empty = the preset's",
      "sources of drums",
      "sources of bass, such as `bass - lowpass(bass, 120)`",
      "sources of harmonic, or `residual`: the mixture without the other stems",
      "sources of perc, or `absent`: this data set does not tell",
      "sources of sub, such as `lowpass(bass, 120)`"};
};

struct DataConfig {
  std::string dataset_dir;
  bool shuffle = true;
  double train_ratio = 0.8;
  int64_t split_seed = 0;
  std::string snapshot_targets = "samples";
  int64_t samples_per_epoch = 0;
  StemMapConfig stem_map;

  template <typename V>
  void visit(V&& v) {
    v("dataset_dir", dataset_dir,
      "folder made by `stemfabric dataset`, relative to where the command runs");
    v("shuffle", shuffle, "new order of the samples in each epoch; false = shard order");
    v("train_ratio", train_ratio, "share of the records in the training split", between(0, 1));
    v("split_seed", split_seed, "seed of the split: a record's side is a hash of its id and this");
    v("snapshot_targets", snapshot_targets,
      "what the stems of a snapshot hold: waveform samples or band energies",
      one_of({"samples", "bands"}));
    v("samples_per_epoch", samples_per_epoch,
      "audio chunks per epoch; 0 = one pass over the audio in steps of a chunk",
      between(0, 1 << 30));
    v("stem_map", stem_map, "how the sources of an audio data set make the six stems");
  }
};

struct AugmentationsConfig {
  bool enable = true;
  double loudness_min = 0.5;
  double loudness_max = 1.5;
  double channel_swap = 0.5;
  double polarity = 0.5;
  double remix = 0.25;
  double speed_min = 1.0;
  double speed_max = 1.0;

  template <typename V>
  void visit(V&& v) {
    v("enable", enable, "change training chunks at random; false = take them as they are");
    v("loudness_min", loudness_min, "smallest factor on a stem", between(0.01, 100));
    v("loudness_max", loudness_max, "largest factor on a stem; drawn evenly in decibels between",
      between(0.01, 100));
    v("channel_swap", channel_swap, "probability that left and right of a stem change places",
      between(0, 1));
    v("polarity", polarity, "probability that a stem is turned upside down", between(0, 1));
    v("remix", remix, "probability that each stem of a chunk comes from another song",
      between(0, 1));
    v("speed_min", speed_min, "slowest speed of a chunk, pitch and tempo together",
      between(0.5, 2));
    v("speed_max", speed_max, "fastest; drawn in steps of 0.01 between, 1 and 1 = as it is",
      between(0.5, 2));
  }
};

struct FeaturesConfig {
  std::string layout = "time_grid";
  int64_t time_bins = 64;
  int64_t packed_width = 256;

  template <typename V>
  void visit(V&& v) {
    v("layout", layout,
      "how a snapshot becomes tokens: a token per time bin, or the groups concatenated and cut",
      one_of({"time_grid", "packed"}));
    v("time_bins", time_bins, "tokens per snapshot in the time_grid layout", between(1, 4096));
    v("packed_width", packed_width, "values per token in the packed layout", between(1, 4096));
  }
};

struct LossConfig {
  std::vector<double> stem_weights = std::vector<double>(kStemCount, 1.0);
  double correction_weight = 1.0;
  double magnitude_weight = 1.0;
  double complex_weight = 0.1;
  double compression = 0.5;

  template <typename V>
  void visit(V&& v) {
    v("stem_weights", stem_weights, "weight of each stem: vocals drums bass harmonic perc sub",
      at_least(0));
    v("correction_weight", correction_weight,
      "a user correction of strength s raises its stem's weight by this times s", at_least(0));
    v("magnitude_weight", magnitude_weight,
      "masks: weight of the squared difference of compressed magnitudes", at_least(0));
    v("complex_weight", complex_weight, "masks: weight of the squared difference of the spectra",
      at_least(0));
    v("compression", compression, "masks: magnitudes are compared to this power", between(0.1, 1));
  }
};

struct TrainingConfig {
  int64_t batch_size = 32;
  int64_t gradient_accumulation_steps = 1;
  double grad_clip = 0.0;
  std::string optimizer = "adam";
  std::string adam_form = "torch";
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double adam_epsilon = 1e-7;
  double weight_decay = 0.0;
  std::string schedule = "plateau";
  int64_t warmup_steps = 0;
  double min_lr = 1e-7;
  double reduce_factor = 0.5;
  int64_t reduce_patience = 5;
  int64_t num_epochs = 50;
  int64_t num_steps = 0;
  int64_t patience = 10;
  double min_delta = 0.0;
  double ema_momentum = 0.0;
  std::string precision = "fp32";
  int64_t seed = 0;
  std::string device = "auto";
  int64_t threads = 0;
  std::string cuda_graph = "auto";
  std::string resident_data = "auto";
  std::string cudnn = "auto";
  std::string init_from;
  int64_t max_non_finite_steps = 10;
  int64_t checkpoint_every_steps = 0;
  int64_t keep_checkpoints = 3;

  template <typename V>
  void visit(V&& v) {
    v("batch_size", batch_size, "samples per step and rank", between(1, 1 << 20));
    v("gradient_accumulation_steps", gradient_accumulation_steps,
      "micro-batches per optimiser step", between(1, 1 << 16));
    v("grad_clip", grad_clip, "largest norm of the gradient; 0 = no clipping", at_least(0));
    v("optimizer", optimizer, "adam adds the weight decay to the gradient, adamw applies it apart",
      one_of({"adam", "adamw"}));
    v("adam_form", adam_form, "where epsilon is added: as PyTorch or as Keras does",
      one_of({"torch", "keras"}));
    v("lr", lr, "learning rate", at_least(0));
    v("beta1", beta1, "decay of the first moment", between(0, 0.999999));
    v("beta2", beta2, "decay of the second moment", between(0, 0.9999999));
    v("adam_epsilon", adam_epsilon, "added to the root of the second moment", between(0, 1));
    v("weight_decay", weight_decay,
      "weight decay of the kernels; biases, norms and positions have none", at_least(0));
    v("schedule", schedule,
      "learning rate over time: reduced on a plateau, a cosine down to min_lr, or constant",
      one_of({"plateau", "cosine", "constant"}));
    v("warmup_steps", warmup_steps, "steps over which the learning rate rises linearly from 0",
      at_least(0));
    v("min_lr", min_lr, "smallest learning rate that the schedule goes down to", at_least(0));
    v("reduce_factor", reduce_factor, "plateau: factor on the learning rate at a reduction",
      between(0, 1));
    v("reduce_patience", reduce_patience, "plateau: epochs without progress before a reduction",
      at_least(0));
    v("num_epochs", num_epochs, "most epochs; 0 = no limit but num_steps", at_least(0));
    v("num_steps", num_steps, "most optimiser steps; 0 = no limit but num_epochs", at_least(0));
    v("patience", patience, "epochs without progress before the run stops; 0 = never", at_least(0));
    v("min_delta", min_delta, "smallest drop of the validation loss that counts as progress",
      at_least(0));
    v("ema_momentum", ema_momentum,
      "moving average of the weights, used for validation and the final "
      "model; 0 = off",
      between(0, 0.9999999));
    v("precision", precision,
      "of products and activations; weights, gradients and optimiser stay fp32. bf16 is made for "
      "GPUs: on the CPU it is slower than fp32",
      one_of({"fp32", "bf16"}));
    v("seed", seed, "seed of initial weights, sample order and dropout", at_least(0));
    v("device", device, "where to train; auto takes a GPU if one is usable",
      one_of({"auto", "cpu", "cuda"}));
    v("threads", threads, "CPU threads; 0 = all this process may use", between(0, 1024));
    v("cuda_graph", cuda_graph,
      "on a GPU, launch a step as one CUDA graph (auto), or its kernels one by one (off)",
      one_of({"auto", "off"}));
    v("resident_data", resident_data,
      "on a GPU, keep a data set of snapshots in its memory if that takes a quarter of what is "
      "free at most (auto), or copy each batch there (off)",
      one_of({"auto", "off"}));
    v("cudnn", cudnn,
      "on a GPU in bf16, attention of activation 'softmax' without dropout by cuDNN where it is "
      "installed and takes the sizes (auto), or by stemfabric's kernels (off)",
      one_of({"auto", "off"}));
    v("init_from", init_from,
      "weights (.safetensors) or run folder to start from; empty = drawn from the seed");
    v("max_non_finite_steps", max_non_finite_steps,
      "stop after this many steps in a row with a non-finite loss or gradient", at_least(1));
    v("checkpoint_every_steps", checkpoint_every_steps,
      "checkpoint this often besides at each epoch's end; 0 = only then", at_least(0));
    v("keep_checkpoints", keep_checkpoints, "newest checkpoints kept besides the best",
      at_least(1));
  }
};

struct ValidationConfig {
  int64_t every = 1;
  std::string metrics = "sdr";

  template <typename V>
  void visit(V&& v) {
    v("every", every, "epochs between validations", at_least(1));
    v("metrics", metrics,
      "what a validation measures: the loss alone, or the SDR of separated audio chunks too",
      one_of({"loss", "sdr"}));
  }
};

struct DistributedConfig {
  double timeout_s = 600;
  bool deterministic = true;
  int64_t bucket_bytes = 1 << 22;
  std::string gradient_precision = "fp32";

  template <typename V>
  void visit(V&& v) {
    v("timeout_s", timeout_s,
      "several ranks: seconds that one waits for the others before the run ends; more than a "
      "checkpoint takes",
      between(0.1, 1e6));
    v("deterministic", deterministic,
      "several ranks: sums are added in an order that does not change from run to run");
    v("bucket_bytes", bucket_bytes,
      "several ranks: gradients are summed while others are computed, in parts of at least so many "
      "bytes",
      between(4, 1 << 30));
    v("gradient_precision", gradient_precision,
      "several ranks: gradients are sent in float32, or rounded to bf16 in half the bytes",
      one_of({"fp32", "bf16"}));
  }
};

struct InferenceConfig {
  std::string device = "auto";
  int64_t batch_size = 32;
  int64_t num_overlap = 2;

  template <typename V>
  void visit(V&& v) {
    v("device", device,
      "where evaluate, predict and separate compute; auto takes a GPU if one is usable",
      one_of({"auto", "cpu", "cuda"}));
    v("batch_size", batch_size, "samples per forward pass of predict, and of evaluate on snapshots",
      between(1, 1 << 20));
    v("num_overlap", num_overlap,
      "chunks that separate, and evaluate on audio, take a frame from, on average", between(1, 16));
  }
};

struct LoggingConfig {
  bool tensorboard = true;
  int64_t every_steps = 1;

  template <typename V>
  void visit(V&& v) {
    v("tensorboard", tensorboard, "write TensorBoard event files");
    v("every_steps", every_steps, "steps between TensorBoard points", at_least(1));
  }
};

struct Config {
  DataConfig data;
  FeaturesConfig features;
  AudioConfig audio;
  AugmentationsConfig augmentations;
  ModelConfig model;
  LossConfig loss;
  TrainingConfig training;
  ValidationConfig validation;
  InferenceConfig inference;
  DistributedConfig distributed;
  LoggingConfig logging;

  template <typename V>
  void visit(V&& v) {
    v("data", data, "data sets and splits");
    v("features", features, "how snapshots become tokens");
    v("audio", audio, "audio chunks and their spectra");
    v("augmentations", augmentations, "random changes of training chunks");
    v("model", model, "the quantum transformer");
    v("loss", loss, "the training loss");
    v("training", training, "optimisation and checkpoints");
    v("validation", validation, "validation during training");
    v("inference", inference, "evaluate, predict and separate");
    v("distributed", distributed, "training on several ranks");
    v("logging", logging, "what a run writes besides metrics.jsonl");
  }
};

}  // namespace stemfabric
