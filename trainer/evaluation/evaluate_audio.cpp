#include "trainer/evaluation/evaluate_audio.h"

#include <fmt/core.h>

#include <limits>
#include <optional>

#include "runtime/core/check.h"
#include "runtime/core/progress.h"
#include "runtime/io/file.h"
#include "trainer/audio_data/audio_dataset.h"
#include "trainer/device_context.h"
#include "trainer/evaluation/audio_evaluation.h"
#include "trainer/evaluation/describe_model.h"
#include "trainer/evaluation/track_results.h"
#include "trainer/report/evaluation_report.h"
#include "trainer/training/run_outputs.h"
#include "trainer/version.h"

namespace stemfabric {
namespace {

using Tracks = std::vector<std::shared_ptr<const AudioTrack>>;

const Tracks& chosen_tracks(const AudioDatasetFolder& folder, const std::string& split) {
  if (split != "train" && split != "validation" && split != "test") {
    throw UsageError("--split {}: expected train, validation or test", split);
  }
  const Tracks& tracks = split == "train"        ? folder.train
                         : split == "validation" ? folder.validation
                                                 : folder.test;
  if (tracks.empty()) {
    throw InputError("the data set {} has no tracks in its {} split; evaluate another --split",
                     folder.root.string(), split);
  }
  return tracks;
}

SeparationModel open_model(const ExecutionContext& ctx, const EvaluateRequest& request,
                           const AudioDatasetFolder& folder) {
  const std::filesystem::path weights = find_weights(request.model);
  SeparationModel model = open_separation_model(ctx, weights);
  if (model.audio.sample_rate != folder.manifest.sample_rate) {
    throw InputError(
        "{} works at {} Hz, but the data set {} was made at {} Hz; make it again with "
        "--set audio.sample_rate={}",
        weights.string(), model.audio.sample_rate, folder.root.string(),
        folder.manifest.sample_rate, model.audio.sample_rate);
  }
  return model;
}

std::vector<OracleScores> oracle_scores(const std::vector<AudioTrackEvaluation>& tracks) {
  std::vector<OracleScores> oracles;
  for (const AudioEstimator of : {kIrm, kMwf}) {
    OracleScores scores{.name = kAudioEstimatorNames[of], .sdr = {}};
    for (std::size_t s = 0; s < kStemCount; ++s) {
      const Distribution sdr = sdr_of(tracks, of, s);
      scores.sdr[s] = sdr.count > 0 ? sdr.median : std::numeric_limits<double>::quiet_NaN();
    }
    oracles.push_back(std::move(scores));
  }
  return oracles;
}

// All that the results of tracks depend on.
std::string how_evaluated(const ExecutionContext& ctx, const EvaluateRequest& request,
                          const Tracks& tracks, const std::optional<SeparationModel>& model) {
  return fmt::format("tracks {}\nweights {}\noverlap {}\ndevice {}\ncode {}\n",
                     hash_of_tracks(tracks), model ? model->trained.sha256 : "none",
                     model ? request.num_overlap : 0, ctx.is_cpu() ? "cpu" : "cuda",
                     code_revision());
}

}  // namespace

EvaluateResult evaluate_audio(const ExecutionContext& ctx, const EvaluateRequest& request) {
  const AudioDatasetFolder folder = open_audio_dataset(request.dataset_dir);
  const Tracks& tracks = chosen_tracks(folder, request.split);
  std::optional<SeparationModel> model;
  if (!request.model.empty()) {
    model.emplace(open_model(ctx, request, folder));
  }
  make_directories(request.output_dir);
  // The oracle masks are made on the CPU.
  std::optional<ExecutionContext> own_cpu;
  if (!ctx.is_cpu()) {
    own_cpu.emplace(device_context("cpu", "inference.device", ctx.threads().threads()));
  }
  const TrackResults kept(request.output_dir, how_evaluated(ctx, request, tracks, model));
  AudioReport audio;
  std::vector<RecordEvaluation> records;
  Progress progress("evaluate", "tracks", static_cast<int64_t>(tracks.size()));
  int known = 0;
  for (const auto& track : tracks) {
    const int number = static_cast<int>(audio.tracks.size()) + 1;
    std::optional<TrackResults::Result> of = kept.find(number, *track, folder.manifest.sample_rate);
    if (of) {
      ++known;
    } else {
      TrackSignals signals = read_track(*track);
      if (model) {
        separate_track(*model, *track, request.num_overlap, signals);
      }
      of.emplace();
      of->evaluation = evaluate_track(ctx, own_cpu ? *own_cpu : ctx, *track,
                                      folder.manifest.sample_rate, signals);
      if (number <= kAudioExamples) {
        of->example = write_example(request.output_dir, number, of->evaluation, signals);
      }
      kept.keep(number, *of);
    }
    records.push_back(of->evaluation.record());
    audio.tracks.push_back(std::move(of->evaluation));
    if (of->example) {
      audio.examples.push_back(*std::move(of->example));
    }
    progress.advance(1);
  }
  EvaluateResult result{.summary = summarise(records),
                        .oracles = oracle_scores(audio.tracks),
                        .json = request.output_dir / "evaluation_report.json",
                        .html = request.output_dir / "report.html",
                        .note = {}};
  if (known > 0) {
    result.note = fmt::format(
        "{} of {} tracks were evaluated before with the same weights, data, settings and code: "
        "their results were taken from {}.",
        known, tracks.size(), (request.output_dir / "tracks").string());
  }
  ReportInputs report{.timestamp = utc_now(),
                      .device = ctx.device(),
                      .dataset_dir = folder.root.string(),
                      .split = request.split,
                      .data_hash = folder.hash,
                      .split_hash = hash_of_tracks(tracks),
                      .target_kind = "audio",
                      .has_model = model.has_value(),
                      .records = records,
                      .summary = result.summary,
                      .audio = &audio};
  if (model) {
    describe_model(model->trained, report);
  }
  write_evaluation_json(result.json, report);
  write_evaluation_html(result.html, report);
  return result;
}

}  // namespace stemfabric
