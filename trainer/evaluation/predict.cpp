#include "trainer/evaluation/predict.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <type_traits>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/core/progress.h"
#include "runtime/io/npy.h"
#include "trainer/model/host_forward.h"
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
  const DType dtype = input.dtype();
  const bool right_type = dtype == DType::kF16 || dtype == DType::kF32 || dtype == DType::kF64;
  if (!right_type || shape.rank() != 3 || shape[2] != config.input_dim || shape[1] < 1) {
    throw InputError("{}: expected an array [samples, tokens, {}] of f16, f32 or f64, found {}",
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
  const DType dtype = mask.dtype();
  const bool right_type = dtype != DType::kF16 && dtype != DType::kF32 && dtype != DType::kF64;
  if (!right_type || !(mask.shape() == expected)) {
    throw InputError(
        "{}: expected a mask {} of bool or integers (samples and tokens of {}), found "
        "{}",
        mask.path().string(), expected.to_string(), input.path().string(), description(mask));
  }
}

// Elements of a file as From, given as To.
template <typename From, typename To>
void copy_converted(const NpyFile& file, int64_t begin, int64_t count, std::vector<std::byte>& raw,
                    To* to) {
  raw.resize(static_cast<std::size_t>(count) * sizeof(From));
  file.copy(begin, count, raw.data());
  for (int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, raw.data() + static_cast<std::size_t>(i) * sizeof(From), sizeof(From));
    if constexpr (std::is_same_v<From, uint16_t>) {
      to[i] = float_from_f16(value);
    } else {
      to[i] = static_cast<To>(value);
    }
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
        present_({capacity, tokens_}, DType::kU8) {}

  void read(int64_t begin, int64_t count) {
    read_values(begin, count);
    if (mask_ != nullptr) {
      read_mask(begin, count);
    }
  }
  ConstTensorView inputs(int64_t count) const { return values_.view().slice(0, 0, count); }
  ConstTensorView mask(int64_t count) const {
    return mask_ != nullptr ? present_.view().slice(0, 0, count) : ConstTensorView();
  }

 private:
  void read_values(int64_t begin, int64_t count) {
    const int64_t per_sample = tokens_ * features_;
    const int64_t first = begin * per_sample;
    const int64_t n = count * per_sample;
    float* values = values_.as<float>();
    if (input_.dtype() == DType::kF32) {
      input_.copy(first, n, values);
    } else if (input_.dtype() == DType::kF64) {
      copy_converted<double>(input_, first, n, raw_, values);
    } else {
      copy_converted<uint16_t>(input_, first, n, raw_, values);
    }
    for (int64_t i = 0; i < n; ++i) {
      if (!std::isfinite(values[i])) {
        throw InputError("{}: element [{}, {}, {}] is not a finite float32 number",
                         input_.path().string(), begin + i / per_sample, i / features_ % tokens_,
                         i % features_);
      }
    }
  }

  void read_mask(int64_t begin, int64_t count) {
    const int64_t first = begin * tokens_;
    const int64_t n = count * tokens_;
    flags_.resize(static_cast<std::size_t>(n));
    switch (mask_->dtype()) {
      case DType::kI32:
        copy_converted<int32_t>(*mask_, first, n, raw_, flags_.data());
        break;
      case DType::kU32:
        copy_converted<uint32_t>(*mask_, first, n, raw_, flags_.data());
        break;
      case DType::kI64:
      case DType::kU64:
        copy_converted<int64_t>(*mask_, first, n, raw_, flags_.data());
        break;
      default:
        copy_converted<uint8_t>(*mask_, first, n, raw_, flags_.data());
        break;
    }
    uint8_t* present = present_.as<uint8_t>();
    for (int64_t i = 0; i < n; ++i) {
      const int64_t flag = flags_[static_cast<std::size_t>(i)];
      if (flag != 0 && flag != 1) {
        const bool large = mask_->dtype() == DType::kU64 && flag < 0;
        throw InputError(
            "{}: element [{}, {}] is {}; a mask holds 0 and 1", mask_->path().string(),
            begin + i / tokens_, i % tokens_,
            large ? fmt::to_string(static_cast<uint64_t>(flag)) : fmt::to_string(flag));
      }
      present[i] = static_cast<uint8_t>(flag);
    }
  }

  const NpyFile& input_;
  const NpyFile* mask_;
  int64_t tokens_;
  int64_t features_;
  Tensor values_;
  Tensor present_;
  std::vector<std::byte> raw_;
  std::vector<int64_t> flags_;
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
  HostForward forward(*trained.model);
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
    const ConstTensorView outputs = forward(reader.inputs(count), reader.mask(count));
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
