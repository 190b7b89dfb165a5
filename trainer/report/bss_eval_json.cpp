#include "trainer/report/bss_eval_json.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "kernels/bss_eval/bss_eval.h"
#include "trainer/version.h"

namespace stemfabric {
namespace {

using Json = nlohmann::ordered_json;

Json decibel(double value) {
  if (std::isnan(value)) {
    return nullptr;
  }
  if (std::isinf(value)) {
    return value > 0 ? "inf" : "-inf";
  }
  return value;
}

Json decibel(const std::vector<double>& values) {
  Json array = Json::array();
  for (const double value : values) {
    array.push_back(decibel(value));
  }
  return array;
}

Json decibel(const std::vector<std::vector<double>>& rows) {
  Json array = Json::array();
  for (const std::vector<double>& row : rows) {
    array.push_back(decibel(row));
  }
  return array;
}

template <typename T>
void add_measures(const BssEvaluation::PerMeasure<T>& values, Json& json) {
  for (std::size_t m = 0; m < kBssMeasures.size(); ++m) {
    json[kBssMeasures[m]] = decibel(values[m]);
  }
}

Json frames_section(const BssEvaluation& evaluation) {
  Json json = {{"window", evaluation.window},
               {"hop", evaluation.hop},
               {"filters_len", kBssTaps},
               {"n_frames", evaluation.frame_count}};
  add_measures(evaluation.frames, json);
  add_measures(evaluation.median, json["median"]);
  return json;
}

Json whole_section(const BssEvaluation& evaluation) {
  Json json;
  add_measures(evaluation.whole, json);
  return json;
}

Json sources_section(const BssEvaluation& evaluation) {
  return {{"channels", "mono"},
          {"SDR", decibel(evaluation.source_sdr)},
          {"SIR", decibel(evaluation.whole[2])},
          {"SAR", decibel(evaluation.whole[3])}};
}

Json places(const std::vector<bool>& flags) {
  Json array = Json::array();
  for (std::size_t i = 0; i < flags.size(); ++i) {
    if (flags[i]) {
      array.push_back(i);
    }
  }
  return array;
}

// What museval and mir_eval do with such a track, and what the sources that can be scored get.
void add_refusal(const BssEvaluation& evaluation, bool mono, Json& json) {
  const Json silent_references = places(evaluation.silent_reference);
  const Json refusal = {
      {"error", "ValueError"},
      {"reason", silent_references.empty() ? "a silent (all-zero) estimated source"
                                           : "a silent (all-zero) reference source"}};
  json["museval_v4"] = refusal;
  json["museval_global"] = refusal;
  if (mono) {
    json["mir_eval_sources"] = refusal;
  }
  json["museval_other_sources"] = {{"zero_references", silent_references},
                                   {"zero_estimates", places(evaluation.silent_estimate)},
                                   {"frames", frames_section(evaluation)},
                                   {"whole", whole_section(evaluation)}};
}

Json si_sdr_section(const BssEvaluation& evaluation) {
  Json json = {{"all_channels", Json::array()},
               {"all_channels_zero_mean", Json::array()},
               {"per_channel", Json::array()},
               {"per_channel_zero_mean", Json::array()}};
  for (const SiSdr& source : evaluation.si_sdr) {
    json["all_channels"].push_back(decibel(source.all_channels));
    json["all_channels_zero_mean"].push_back(decibel(source.all_channels_zero_mean));
    json["per_channel"].push_back(decibel(source.per_channel));
    json["per_channel_zero_mean"].push_back(decibel(source.per_channel_zero_mean));
  }
  return json;
}

Json utterance_section(const BssEvaluation& evaluation) {
  double sum = 0;
  for (const double sdr : evaluation.utterance_sdr) {
    sum += sdr;
  }
  return {{"eps", kUtteranceSdrEpsilon},
          {"SDR", decibel(evaluation.utterance_sdr)},
          {"mean", decibel(sum / static_cast<double>(evaluation.utterance_sdr.size()))}};
}

Json paths(const std::vector<std::filesystem::path>& files) {
  Json array = Json::array();
  for (const auto& file : files) {
    array.push_back(file.string());
  }
  return array;
}

}  // namespace

std::string bss_eval_json(const BssSources& sources, const BssEvaluation& evaluation) {
  const Shape& shape = sources.references.shape();
  const bool mono = shape[1] == 1;
  Json json = {{"format", 1},
               {"codeVersion", version()},
               {"codeRevision", code_revision()},
               {"device", evaluation.device.to_string()},
               {"sample_rate", sources.sample_rate},
               {"n_sources", shape[0]},
               {"n_channels", shape[1]},
               {"n_samples", shape[2]},
               {"sources", sources.names},
               {"references", paths(sources.reference_files)},
               {"estimates", paths(sources.estimate_files)}};
  if (evaluation.refused_by_museval()) {
    add_refusal(evaluation, mono, json);
  } else {
    json["museval_v4"] = frames_section(evaluation);
    json["museval_global"] = whole_section(evaluation);
    if (mono) {
      json["mir_eval_sources"] = sources_section(evaluation);
    }
  }
  json["si_sdr"] = si_sdr_section(evaluation);
  json["utterance_sdr"] = utterance_section(evaluation);
  // Names and paths may hold bytes that are no UTF-8.
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace stemfabric
