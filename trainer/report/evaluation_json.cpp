#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/io/file.h"
#include "trainer/report/evaluation_report.h"
#include "trainer/version.h"

namespace stemfabric {
namespace {

using Json = nlohmann::ordered_json;

// Ids and paths may hold bytes that are no UTF-8.
std::string dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(); }

Json distribution(const Distribution& d) {
  if (d.count == 0) {
    return {{"count", 0}};
  }
  return {{"count", d.count}, {"mean", d.mean}, {"median", d.median}, {"q25", d.q25},
          {"q75", d.q75},     {"min", d.min},   {"max", d.max}};
}

// Medians by name, and the whole distributions below "statistics".
Json metrics(const MetricDistributions& metrics) {
  Json json;
  Json statistics;
  for (std::size_t m = 0; m < metrics.size(); ++m) {
    json[kMetricNames[m]] = metrics[m].count > 0 ? Json(metrics[m].median) : Json();
    statistics[kMetricNames[m]] = distribution(metrics[m]);
  }
  json["statistics"] = statistics;
  return json;
}

Json targets(const MetricDistributions& metrics) {
  Json json;
  for (std::size_t m = 0; m < metrics.size(); ++m) {
    const bool known = metrics[m].count > 0;
    json[kMetricNames[m]] = {{"target", kMetricTargets[m]},
                             {"value", known ? Json(metrics[m].median) : Json()},
                             {"met", known ? Json(metrics[m].median > kMetricTargets[m]) : Json()}};
  }
  return json;
}

Json scores(const SeparationScores& scores) {
  Json json;
  for (std::size_t m = 0; m < kMetricNames.size(); ++m) {
    json[kMetricNames[m]] = number(metric_value(scores, m));
  }
  return json;
}

Json stem_metrics(const EvaluationSummary& summary, bool of_model) {
  Json json;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    const StemSummary& stem = summary.stems[s];
    Json entry = metrics(of_model ? stem.model : stem.mixture);
    if (of_model) {
      entry["evaluated"] = stem.evaluated;
      entry["absent"] = stem.absent;
      entry["silent"] = stem.silent;
      entry["targets"] = targets(stem.model);
    }
    json[std::string(kStemNames[s])] = entry;
  }
  return json;
}

// What is known of the run that made the weights; null where it is not.
Json training_entry(const ReportInputs& report) {
  Json json;
  for (const char* key : {"codeVersion", "codeRevision", "dataHash", "step", "weights"}) {
    const auto entry = report.training.find(key);
    json[key] = entry == report.training.end() ? Json() : Json(entry->second);
  }
  return json;
}

// The whole configuration, or {"model": …} alone.
Json config_entry(const ReportInputs& report) {
  if (!report.config_source.empty()) {
    return Json::parse(report.config, nullptr, false);
  }
  return {{"model", Json::parse(report.model_config, nullptr, false)}};
}

Json seed_entry(const ReportInputs& report) {
  const auto seed = report.training.find("seed");
  const Json number =
      seed == report.training.end() ? Json() : Json::parse(seed->second, nullptr, false);
  return number.is_number_integer() ? number : Json();
}

Json definitions() {
  return {
      {"sdr",
       "10 log10(|t|^2 / |e - t|^2) in dB, t = projection of the estimate e on the true stem"},
      {"sir", "10 log10(|t|^2 / |i|^2) in dB, i = projection of e on all true stems, minus t"},
      {"sar", "10 log10(|t + i|^2 / |a|^2) in dB, a = e - t - i"},
      {"overall", "0.4 n(SDR) + 0.4 n(SIR) + 0.2 n(SAR), n(x) = clip((x + 20) / 40, 0, 1)"},
      {"vectors",
       "per record: the elements supervised for all of its stems, at tokens that are present; no "
       "filter taps"},
      {"limits",
       "values are limited to +-100 dB; null = undefined (SIR of a record with one stem)"},
      {"notEvaluated", "absent = no supervised element; silent = true stem is zero everywhere"},
      {"aggregate", "medians; aggregateMetrics over all evaluated stems of all records"},
      {"mixture", "baseline: the sum of the record's true stems as the estimate of every stem"}};
}

Json audio_definitions() {
  return {
      {"sdr",
       "SDR (median of 1 s frames): BSS-Eval v4, 10 log10(|s|^2 / |e - s|^2) in dB over both "
       "channels, s = true stem, e = estimate"},
      {"isr",
       "BSS-Eval v4, median of 1 s frames: 10 log10(|s|^2 / |q - s|^2), q = projection of e on s "
       "filtered by 512 taps"},
      {"sir",
       "BSS-Eval v4, median of 1 s frames: 10 log10(|q|^2 / |p - q|^2), p = projection of e on all "
       "stems filtered by 512 taps"},
      {"sar", "BSS-Eval v4, median of 1 s frames: 10 log10(|p|^2 / |e - p|^2)"},
      {"trackSdr", "SDR (whole track): the track as one frame"},
      {"overall", "0.4 n(SDR) + 0.4 n(SIR) + 0.2 n(SAR), n(x) = clip((x + 20) / 40, 0, 1)"},
      {"limits",
       "values are limited to +-100 dB; null = undefined; frames in which any stem is silent are "
       "left out"},
      {"notEvaluated", "absent = the data set does not know the stem; silent = zero everywhere"},
      {"aggregate", "medians over tracks; aggregateMetrics over all evaluated stems of all tracks"},
      {"mixture", "baseline: the mixture as the estimate of every stem"},
      {"IRM",
       "baseline: ideal ratio mask, |stem| over the sum of the magnitudes of all stems and of what "
       "else the mixture holds, on spectra of 4096 samples every 1024; SDRs alone"},
      {"MWF",
       "baseline: multichannel Wiener filter with the true powers and spatial covariances, on "
       "the same spectra; SDRs alone"}};
}

// ISR and whole-track SDR of a track's stems, beside the four values of every report.
void add_audio_scores(const AudioTrackEvaluation& track, bool has_model, Json& stems) {
  for (std::size_t s = 0; s < kStemCount; ++s) {
    if (track.states[s] != StemState::kEvaluated) {
      continue;
    }
    const auto add = [&](Json& entry, AudioEstimator of) {
      entry["isr"] = number(track.scores[of][s].isr);
      entry["trackSdr"] = number(track.scores[of][s].track_sdr);
    };
    Json& entry = stems[std::string(kStemNames[s])];
    if (has_model) {
      add(entry, kModelEstimate);
    }
    add(entry["mixture"], kMixtureEstimate);
    for (const AudioEstimator of : {kIrm, kMwf}) {
      entry[kAudioEstimatorNames[of]] = {{"sdr", number(track.scores[of][s].sdr)},
                                         {"trackSdr", number(track.scores[of][s].track_sdr)}};
    }
  }
}

// SDRs of the masks that are made from the truth.
Json oracle_baseline(const std::vector<AudioTrackEvaluation>& tracks, AudioEstimator of) {
  const auto entry = [&](std::size_t stem) {
    const Distribution frames = sdr_of(tracks, of, stem);
    const Distribution whole = sdr_of(tracks, of, stem, &AudioScores::track_sdr);
    Json json;
    json["sdr"] = frames.count > 0 ? Json(frames.median) : Json();
    json["trackSdr"] = whole.count > 0 ? Json(whole.median) : Json();
    json["statistics"] = {{"sdr", distribution(frames)}, {"trackSdr", distribution(whole)}};
    return json;
  };
  Json stems;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    stems[std::string(kStemNames[s])] = entry(s);
  }
  return {{"aggregateMetrics", entry(kStemCount)}, {"stemMetrics", stems}};
}

Json baselines(const ReportInputs& report) {
  Json json;
  json["mixture"] = {{"aggregateMetrics", metrics(report.summary.mixture)},
                     {"stemMetrics", stem_metrics(report.summary, false)}};
  if (report.audio != nullptr) {
    for (const AudioEstimator of : {kIrm, kMwf}) {
      json[kAudioEstimatorNames[of]] = oracle_baseline(report.audio->tracks, of);
    }
  }
  return json;
}

Json record_entry(const RecordEvaluation& record, bool has_model) {
  Json stems;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    const StemEvaluation& stem = record.stems[s];
    Json& entry = stems[std::string(kStemNames[s])];
    if (stem.state != StemState::kEvaluated) {
      entry = {{"notEvaluated", stem.state == StemState::kAbsent ? "absent" : "silent"}};
      continue;
    }
    entry = has_model ? scores(stem.model) : Json::object();
    entry["mixture"] = scores(stem.mixture);
  }
  return {{"id", record.id},
          {"elements", record.elements},
          {"elementsLeftOut", record.left_out},
          {"independentStems", record.independent_stems},
          {"stems", stems}};
}

}  // namespace

std::string target_note(const std::string& target_kind) {
  return target_kind == "samples"
             ? "The targets of this data set are decimated waveform samples. No feature of a "
               "snapshot determines them, so low scores are expected by design and say nothing "
               "about the model. Snapshots whose stems hold band energies (data.snapshot_targets: "
               "bands) "
               "can be learnt."
             : "";
}

std::string config_source_text(const ReportInputs& report) {
  return report.config_source.empty()
             ? "the weights file: the model section only, because no record of the training run "
               "lies beside it"
             : report.config_source;
}

void write_evaluation_json(const std::filesystem::path& path, const ReportInputs& report) {
  const EvaluationSummary& summary = report.summary;
  Json head = {
      {"timestamp", report.timestamp},
      {"codeVersion", version()},
      {"codeRevision", code_revision()},
      {"device", report.device.to_string()},
      {"aggregateMetrics", report.has_model ? metrics(summary.model) : Json()},
      {"stemMetrics", report.has_model ? stem_metrics(summary, true) : Json()},
      {"baselines", baselines(report)},
      {"definitions", report.audio != nullptr ? audio_definitions() : definitions()},
      {"model", report.has_model ? Json{{"path", report.model_path}, {"sha256", report.model_hash}}
                                 : Json()},
      {"data",
       {{"path", report.dataset_dir},
        {"split", report.split},
        {"hash", report.data_hash},
        {"splitHash", report.split_hash},
        {"targets", report.target_kind.empty() ? Json() : Json(report.target_kind)},
        {"records", report.records.size()}}},
      {"seed", report.has_model ? seed_entry(report) : Json()},
      {"training", report.has_model ? training_entry(report) : Json()},
      {"configSource", report.has_model ? Json(config_source_text(report)) : Json()},
      {"config", report.has_model ? config_entry(report) : Json()}};
  if (const std::string note = target_note(report.target_kind); !note.empty()) {
    head["note"] = note;
  }
  // The records may be many: they are appended to the opened object one by one.
  std::string text = dump(head, 1);
  text.resize(text.size() - 2);  // "\n}"
  AtomicFile file(path);
  file.write(text);
  file.write(",\n \"individualEvaluations\": [");
  for (std::size_t i = 0; i < report.records.size(); ++i) {
    file.write(i == 0 ? "\n  " : ",\n  ");
    Json entry = record_entry(report.records[i], report.has_model);
    if (report.audio != nullptr) {
      add_audio_scores(report.audio->tracks[i], report.has_model, entry["stems"]);
    }
    file.write(dump(entry, -1));
  }
  file.write("\n ]\n}\n");
  file.commit();
}

}  // namespace stemfabric
