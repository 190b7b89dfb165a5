// Sample rate conversion with libsoxr at its "high quality" (20 bits: pass band to 0.913 of the
// lower Nyquist frequency, aliases below -120 dB, linear phase, no delay). A signal of N frames
// becomes round(N · output_rate / input_rate) frames. The same bits for any cutting into blocks and
// on every x86-64; on other processors the library may take other instructions.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace stemfabric {

// round(frames · output_rate / input_rate), halves up.
int64_t resampled_frames(int64_t frames, int input_rate, int output_rate);

// A stream, block by block. Equal rates pass the samples on as they are.
class Resampler {
 public:
  Resampler(int channels, int input_rate, int output_rate);
  ~Resampler();
  Resampler(Resampler&& other) noexcept;
  Resampler& operator=(Resampler&& other) noexcept;

  // Takes interleaved [frames, channels] and appends to `output` the frames that are known by now;
  // they lag behind by some thousand.
  void process(const float* interleaved, int64_t frames, std::vector<float>& output);
  // The end of the signal: appends the rest.
  void finish(std::vector<float>& output);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// A whole signal: interleaved [frames, channels] in and out.
std::vector<float> resample(const std::vector<float>& interleaved, int channels, int input_rate,
                            int output_rate);

}  // namespace stemfabric
