#include "trainer/evaluation/predict.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/core/progress.h"
#include "runtime/io/npy.h"
#include "trainer/model/trained_model.h"
#include "trainer/model/weights_file.h"
#include "trainer/stems.h"

namespace stemfabric {
namespace {

std::string description(const NpyFile& file) {
  return fmt::format("{} {}", file.shape().to_string(), dtype_name(file.dtype()));
}

void check_input(const NpyFile& input, const ModelConfig& config) {
  const Shape& shape = input.shape();
  const bool right_type = input.dtype() == DType::kF32 || input.dtype() == DType::kF64;
  if (!right_type || shape.rank() != 3 || shape[2] != config.input_dim || shape[1] < 1) {
    throw InputError("{}: expected an array [samples, tokens, {}] of f32 or f64, found {}",
                     input.path().string(), config.input_dim, description(input));
  }
  if (shape[1] > config.max_sequence_length) {
    throw InputError(
        "{}: has {} tokens per sample, but the model takes at most {}; cut the "
        "samples into shorter ones",
        input.path().string(), shape[1], config.max_sequence_length);
  }
}

void check_mask(const NpyFile& mask, const NpyFile& input) {
  const Shape expected{input.shape()[0], input.shape()[1]};
  if (mask.dtype() != DType::kU8 || !(mask.shape() == expected)) {
    throw InputError("{}: expected {} u8 (samples and tokens of {}), found {}",
                     mask.path().string(), expected.to_string(), input.path().string(),
                     description(mask));
  }
}

// Copies whole samples out of the files, as float32, and checks every value.
class BatchReader {
 public:
  BatchReader(const NpyFile& input, const NpyFile* mask, int64_t capacity)
      : input_(input),
        mask_(mask),
        tokens_(input.shape()[1]),
        features_(input.shape()[2]),
        values_({capacity, tokens_, features_}, DType::kF32),
        present_({capacity, tokens_}, DType::kU8) {
    if (input.dtype() == DType::kF64) {
      wide_.resize(static_cast<std::size_t>(values_.elements()));
    }
  }

  void read(int64_t begin, int64_t count) {
    const int64_t per_sample = tokens_ * features_;
    float* values = values_.as<float>();
    if (wide_.empty()) {
      input_.copy(begin * per_sample, count * per_sample, values);
    } else {
      input_.copy(begin * per_sample, count * per_sample, wide_.data());
      std::transform(wide_.begin(), wide_.begin() + count * per_sample, values,
                     [](double x) { return static_cast<float>(x); });
    }
    for (int64_t i = 0; i < count * per_sample; ++i) {
      if (!std::isfinite(values[i])) {
        throw InputError("{}: element [{}, {}, {}] is not a finite float32 number",
                         input_.path().string(), begin + i / per_sample, i / features_ % tokens_,
                         i % features_);
      }
    }
    if (mask_ != nullptr) {
      uint8_t* present = present_.as<uint8_t>();
      mask_->copy(begin * tokens_, count * tokens_, present);
      for (int64_t i = 0; i < count * tokens_; ++i) {
        if (present[i] > 1) {
          throw InputError("{}: element [{}, {}] is {}; a mask holds 0 and 1",
                           mask_->path().string(), begin + i / tokens_, i % tokens_, present[i]);
        }
      }
    }
  }
  ConstTensorView inputs(int64_t count) const { return values_.view().slice(0, 0, count); }
  ConstTensorView mask(int64_t count) const {
    return mask_ != nullptr ? present_.view().slice(0, 0, count) : ConstTensorView();
  }

 private:
  const NpyFile& input_;
  const NpyFile* mask_;
  int64_t tokens_;
  int64_t features_;
  Tensor values_;
  Tensor present_;
  std::vector<double> wide_;
};

// One stem of the model's output, whose rows may be strided.
void write_stem(NpyWriter& file, const ConstTensorView& outputs, int64_t stem) {
  for (int64_t b = 0; b < outputs.dim(1); ++b) {
    for (int64_t t = 0; t < outputs.dim(2); ++t) {
      const float* row = outputs.as<float>() + stem * outputs.stride(0) + b * outputs.stride(1) +
                         t * outputs.stride(2);
      file.write(std::as_bytes(std::span(row, static_cast<std::size_t>(outputs.dim(3)))));
    }
  }
}

}  // namespace

void predict(const ExecutionContext& ctx, const PredictRequest& request) {
  const std::filesystem::path weights = find_weights(request.model);
  const ModelConfig config = read_model_config(weights);
  const NpyFile input(request.input);
  check_input(input, config);
  std::optional<NpyFile> mask;
  if (!request.mask.empty()) {
    mask.emplace(request.mask);
    check_mask(*mask, input);
  }
  const int64_t samples = input.shape()[0];
  const int64_t tokens = input.shape()[1];
  const int64_t capacity =
      std::clamp<int64_t>(samples, 1, std::max<int64_t>(request.batch_size, 1));
  const TrainedModel trained = open_trained_model(ctx, weights, capacity, tokens);
  BatchReader reader(input, mask ? &*mask : nullptr, capacity);

  make_directories(request.output_dir);
  std::vector<std::unique_ptr<NpyWriter>> files;
  for (const std::string_view stem : kStemNames) {
    files.push_back(std::make_unique<NpyWriter>(request.output_dir / fmt::format("{}.npy", stem),
                                                Shape{samples, tokens, config.output_dim},
                                                DType::kF32));
  }
  Progress progress("predict", "samples", samples);
  for (int64_t begin = 0; begin < samples; begin += capacity) {
    const int64_t count = std::min(capacity, samples - begin);
    reader.read(begin, count);
    const ConstTensorView outputs =
        trained.model->forward(reader.inputs(count), reader.mask(count), false, {});
    for (int s = 0; s < kStemCount; ++s) {
      write_stem(*files[static_cast<std::size_t>(s)], outputs, s);
    }
    progress.advance(count);
  }
  for (const auto& file : files) {
    file->commit();
  }
}

}  // namespace stemfabric
