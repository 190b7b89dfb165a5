#include "trainer/report/audio_examples.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/io/audio_file.h"
#include "runtime/io/file.h"
#include "trainer/report/spectrogram.h"
#include "trainer/report/svg_chart.h"

namespace stemfabric {
namespace {

constexpr int64_t kShortest = 2048;

// Where the part of that length with the most energy begins, in steps of a tenth of it.
int64_t loudest_part(const Tensor& mixture, int64_t length) {
  const int64_t n = mixture.shape()[1];
  const float* x = mixture.as<float>();
  const int64_t step = std::max<int64_t>(1, length / 10);
  int64_t best = 0;
  double most = -1;
  for (int64_t begin = 0; begin + length <= n; begin += step) {
    double energy = 0;
    for (int64_t i = begin; i < begin + length; ++i) {
      energy += static_cast<double>(x[i]) * static_cast<double>(x[i]) +
                static_cast<double>(x[n + i]) * static_cast<double>(x[n + i]);
    }
    if (energy > most) {
      most = energy;
      best = begin;
    }
  }
  return best;
}

AudioExcerpt write_excerpt(const std::filesystem::path& report_folder, const std::string& file,
                           const ConstTensorView& signal, int64_t sample_rate) {
  const int64_t n = signal.dim(1);
  std::vector<float> interleaved(static_cast<std::size_t>(2 * n));
  for (int64_t i = 0; i < n; ++i) {
    interleaved[static_cast<std::size_t>(2 * i)] = signal.as<float>()[i];
    interleaved[static_cast<std::size_t>(2 * i + 1)] = signal.as<float>()[signal.stride(0) + i];
  }
  AudioWriter writer(report_folder / file, static_cast<int>(sample_rate), 2, SampleFormat::kPcm16);
  writer.write(interleaved.data(), n);
  writer.finish();
  return {.file = file, .picture = spectrogram_picture(signal, sample_rate)};
}

std::string cell(const AudioExcerpt& excerpt) {
  if (excerpt.file.empty()) {
    return "<td class=\"none\">–</td>";
  }
  return fmt::format(
      "<td><img alt=\"spectrogram\" width=\"{}\" height=\"{}\" src=\"{}\"><br><audio controls "
      "preload=\"none\" src=\"{}\"></audio></td>",
      kSpectrogramWidth, kSpectrogramHeight, excerpt.picture, escape_html(excerpt.file));
}

}  // namespace

AudioExample write_example(const std::filesystem::path& report_folder, int number,
                           const AudioTrackEvaluation& track, const TrackSignals& signals) {
  const int64_t length = std::min(
      track.frames, static_cast<int64_t>(kExampleSeconds * static_cast<double>(track.sample_rate)));
  AudioExample example{.track = track.id};
  if (length < kShortest) {
    return example;
  }
  const int64_t begin = loudest_part(signals.mixture, length);
  const auto rate = static_cast<double>(track.sample_rate);
  example.begin = static_cast<double>(begin) / rate;
  example.seconds = static_cast<double>(length) / rate;
  const std::string folder = fmt::format("audio/{}", number);
  make_directories(report_folder / folder);
  const auto excerpt = [&](const std::string& name, const ConstTensorView& whole) {
    return write_excerpt(report_folder, fmt::format("{}/{}.flac", folder, name),
                         whole.slice(1, begin, length), track.sample_rate);
  };
  example.rows.push_back(
      {.name = "mixture", .truth = excerpt("mixture", signals.mixture.view()), .estimate = {}});
  for (int s = 0; s < kStemCount; ++s) {
    const std::string name(kStemNames[static_cast<std::size_t>(s)]);
    const auto stem = [&](const Tensor& stems) {
      return stems.view().slice(0, s, 1).reshape({kAudioChannels, track.frames});
    };
    AudioExampleRow row{.name = name, .truth = {}, .estimate = {}};
    if (track.states[static_cast<std::size_t>(s)] == StemState::kEvaluated) {
      row.truth = excerpt(name + "-true", stem(signals.stems));
    }
    if (signals.estimates) {
      row.estimate = excerpt(name, stem(signals.estimates));
    }
    example.rows.push_back(std::move(row));
  }
  return example;
}

std::string examples_section(const std::vector<AudioExample>& examples) {
  std::string html;
  for (const AudioExample& example : examples) {
    if (example.rows.empty()) {
      continue;
    }
    html += fmt::format(
        "<h2>Listen: {}</h2>\n<p class=\"hint\">{:.0f} s from {:.1f} s on, where it is loudest. "
        "Spectrograms: 40 Hz to half the sample rate, logarithmic; 80 dB from dark to "
        "light.</p>\n<div class=\"card scroll\"><table><thead><tr><th></th><th>true</th>"
        "<th>estimate</th></tr></thead><tbody>\n",
        escape_html(example.track), example.seconds, example.begin);
    for (const AudioExampleRow& row : example.rows) {
      html +=
          fmt::format("<tr><td>{}</td>{}{}</tr>\n", row.name, cell(row.truth), cell(row.estimate));
    }
    html += "</tbody></table></div>\n";
  }
  return html;
}

}  // namespace stemfabric
