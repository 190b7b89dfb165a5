#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "runtime/io/file.h"
#include "trainer/report/evaluation_report.h"
#include "trainer/report/html_page.h"
#include "trainer/report/svg_chart.h"
#include "trainer/report/training_curves.h"
#include "trainer/version.h"

namespace stemfabric {
namespace {

constexpr std::array<const char*, 4> kTitles = {"SDR", "SIR", "SAR", "Overall"};
constexpr std::array<const char*, 4> kUnits = {"dB", "dB", "dB", ""};

// A median; the limits stand for a quotient by zero.
std::string score(const Distribution& d, std::size_t metric) {
  if (d.count == 0) {
    return "–";
  }
  if (metric < 3 && std::abs(d.median) >= kScoreLimitDb) {
    return d.median > 0 ? "≥ 100" : "≤ −100";
  }
  return fmt::format("{:.{}f}", d.median, metric < 3 ? 1 : 2);
}

std::string verdict(const Distribution& d, std::size_t metric) {
  if (d.count == 0) {
    return "<span class=\"hint\">not evaluated</span>";
  }
  return d.median > kMetricTargets[metric] ? "<span class=\"met\">✓ met</span>"
                                           : "<span class=\"missed\">✗ not met</span>";
}

// "> 10 dB"
std::string target_text(std::size_t metric) {
  return fmt::format("&gt; {}{}{}", kMetricTargets[metric], *kUnits[metric] != '\0' ? " " : "",
                     kUnits[metric]);
}

std::string counted(std::size_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

// What a report has one of per sample of the data set.
const char* unit(const ReportInputs& report) {
  return report.audio != nullptr ? "track" : "record";
}

std::string head(const ReportInputs& report) {
  std::string html = open_page("stemfabric evaluation", "Stem separation: evaluation");
  html += fmt::format("<p class=\"sub\">{} of the {} split · {} · {}</p>\n",
                      counted(report.records.size(), unit(report)), escape_html(report.split),
                      escape_html(report.dataset_dir), escape_html(report.timestamp));
  if (!report.has_model) {
    html += "<p class=\"note\">No model was given: only the mixture baseline is shown.</p>\n";
  }
  if (const std::string note = target_note(report.target_kind); !note.empty()) {
    html += fmt::format("<p class=\"note\"><b>How to read these numbers.</b> {}</p>\n",
                        escape_html(note));
  }
  if (report.split == "train") {
    html += fmt::format(
        "<p class=\"note\">These are the {}s the model was trained on: the scores say how "
        "well it fits them, not how well it separates new ones.</p>\n",
        unit(report));
  }
  return html;
}

std::string summary_cards(const ReportInputs& report) {
  const MetricDistributions& main =
      report.has_model ? report.summary.model : report.summary.mixture;
  std::string html = "<div class=\"grid four\">\n";
  for (std::size_t m = 0; m < kTitles.size(); ++m) {
    html += fmt::format(
        "<div class=\"card\"><div class=\"name\">{} · median</div><div class=\"big\">"
        "{} <small>{}</small></div>",
        kTitles[m], score(main[m], m), kUnits[m]);
    if (report.has_model) {
      html += fmt::format("<div class=\"hint\">mixture {} · target {}</div><div>{}</div>",
                          score(report.summary.mixture[m], m), target_text(m), verdict(main[m], m));
    }
    html += "</div>\n";
  }
  return html + "</div>\n";
}

// "+1.2", "-3.0", "0.0"
std::string signed_number(double value, int digits) {
  const std::string text = fmt::format("{:+.{}f}", value, digits);
  return text.find_first_of("123456789") == std::string::npos ? text.substr(1) : text;
}

std::string table_row(const std::string& name, const MetricDistributions& model,
                      const MetricDistributions& mixture, bool has_model,
                      const std::string& counts) {
  std::string html = fmt::format("<td>{}</td>", name);
  for (std::size_t m = 0; m < kTitles.size(); ++m) {
    if (has_model) {
      // A limit stands for infinity, from which there is no distance.
      const bool both = model[m].count > 0 && mixture[m].count > 0 &&
                        (m == 3 || std::max(std::abs(model[m].median),
                                            std::abs(mixture[m].median)) < kScoreLimitDb);
      const double gain = both ? model[m].median - mixture[m].median : 0;
      const bool met = model[m].count > 0 && model[m].median > kMetricTargets[m];
      html += fmt::format("<td class=\"first {}\">{}{}</td><td>{}</td><td>{}</td>",
                          model[m].count == 0 ? ""
                          : met               ? "met"
                                              : "missed",
                          score(model[m], m),
                          model[m].count == 0 ? ""
                          : met               ? " ✓"
                                              : " ✗",
                          score(mixture[m], m), both ? signed_number(gain, m < 3 ? 1 : 2) : "–");
    } else {
      html += fmt::format("<td class=\"first\">{}</td>", score(mixture[m], m));
    }
  }
  return html + fmt::format("<td class=\"first\">{}</td></tr>\n", counts);
}

// " drums in 3 records (2 absent, 1 silent)," or nothing.
std::string missing_text(std::string_view name, const StemSummary& stem, const char* what) {
  if (stem.absent + stem.silent == 0) {
    return {};
  }
  return fmt::format(" {} in {} ({} absent, {} silent),", name,
                     counted(static_cast<std::size_t>(stem.absent + stem.silent), what),
                     stem.absent, stem.silent);
}

std::string comparison_table(const ReportInputs& report) {
  const EvaluationSummary& summary = report.summary;
  std::string html =
      "<h2>Against the mixture</h2>\n<div class=\"card scroll\"><table><thead><tr>"
      "<th></th>";
  for (std::size_t m = 0; m < kTitles.size(); ++m) {
    html +=
        fmt::format("<th class=\"group first\" colspan=\"{}\">{} {}</th>", report.has_model ? 3 : 1,
                    kTitles[m], report.has_model ? target_text(m) : std::string(kUnits[m]));
  }
  html += "<th class=\"first\">" + std::string(report.audio != nullptr ? "Tracks" : "Records") +
          "</th></tr><tr><th>Stem</th>";
  for (std::size_t m = 0; m < kTitles.size(); ++m) {
    html += report.has_model ? "<th class=\"first\">model</th><th>mixture</th><th>gain</th>"
                             : "<th class=\"first\">mixture</th>";
  }
  html += "<th class=\"first\">evaluated</th></tr></thead><tbody>\n";
  int64_t evaluated = 0;
  std::string missing;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    const StemSummary& stem = summary.stems[s];
    evaluated += stem.evaluated;
    missing += missing_text(kStemNames[s], stem, unit(report));
    html +=
        "<tr>" + table_row(std::string(kStemNames[s]), stem.model, stem.mixture, report.has_model,
                           fmt::format("{} of {}", stem.evaluated, report.records.size()));
  }
  html += "<tr class=\"all\">" + table_row("all", summary.model, summary.mixture, report.has_model,
                                           counted(static_cast<std::size_t>(evaluated), "stem"));
  html += "</tbody></table></div>\n<p class=\"hint\">";
  html += report.audio != nullptr
              ? "Medians over tracks; per track, medians of frames of 1 s. The mixture baseline "
                "answers with the mixture for every stem."
              : "Medians. The mixture baseline answers with the sum of the true stems for every "
                "stem; it has no artifacts, hence its SAR.";
  if (!missing.empty()) {
    html += " Not evaluated:" + missing.substr(0, missing.size() - 1) + ".";
  }
  return html + "</p>\n";
}

std::vector<double> stem_values(const ReportInputs& report, std::size_t stem, std::size_t metric) {
  std::vector<double> values;
  for (const RecordEvaluation& record : report.records) {
    const StemEvaluation& entry = record.stems[stem];
    if (entry.state == StemState::kEvaluated) {
      const double value = metric_value(report.has_model ? entry.model : entry.mixture, metric);
      if (std::isfinite(value)) {
        values.push_back(value);
      }
    }
  }
  return values;
}

std::string box_plots(const ReportInputs& report) {
  std::string html = fmt::format("<h2>Scores per stem{}</h2>\n<div class=\"grid two\">\n",
                                 report.has_model ? "" : " (mixture)");
  for (std::size_t m = 0; m < kTitles.size(); ++m) {
    std::vector<Box> boxes;
    for (std::size_t s = 0; s < kStemCount; ++s) {
      const StemSummary& stem = report.summary.stems[s];
      const bool baseline = report.has_model && stem.mixture[m].count > 0 &&
                            std::abs(stem.mixture[m].median) < kScoreLimitDb;
      boxes.push_back({.label = std::string(kStemNames[s]),
                       .distribution = report.has_model ? stem.model[m] : stem.mixture[m],
                       .values = stem_values(report, s, m),
                       .baseline = baseline ? stem.mixture[m].median
                                            : std::numeric_limits<double>::quiet_NaN()});
    }
    const std::string title = fmt::format("{} per stem", kTitles[m]);
    html += fmt::format("<div class=\"card\"><h3>{}</h3>{}</div>\n", title,
                        box_chart(title, kUnits[m], boxes, kMetricTargets[m]));
  }
  html +=
      "</div>\n<div class=\"legend\"><span><i class=\"key key-0\"></i>box: quartiles and "
      "median; whiskers: minimum and maximum</span>";
  if (report.has_model) {
    html += "<span><i class=\"key key-1\"></i>median of the mixture baseline</span>";
  }
  return html +
         "<span><i class=\"key key-target\"></i>dashed: target that the median should "
         "exceed</span></div>\n";
}

std::string curves(const ReportInputs& report) {
  if (!report.has_model) {
    return {};
  }
  const TrainingCurves curves = read_training_curves(report.run_folder);
  if (curves.empty()) {
    return "<h1>Training</h1>\n<p class=\"none\">No training run lies beside these weights, so "
           "there are no curves to show.</p>\n";
  }
  return "<h1>Training</h1>\n" + training_sections(curves);
}

std::string definitions() {
  return R"html(<h2>Definitions</h2>
<div class="card"><dl>
<dt>t</dt><dd>target: projection of the estimate e on the true stem</dd>
<dt>i</dt><dd>interference: projection of e on all true stems of the record, minus t</dd>
<dt>a</dt><dd>artifacts: the rest, e − t − i</dd>
<dt>SDR, SIR, SAR</dt><dd>10 log₁₀ of |t|² / |i + a|², |t|² / |i|², |t + i|² / |a|²; no filter taps;
limited to ±100 dB; charts end at ±40 dB</dd>
<dt>Overall</dt><dd>0.4 n(SDR) + 0.4 n(SIR) + 0.2 n(SAR) with n(x) = clip((x + 20) / 40, 0, 1)</dd>
<dt>Vectors</dt><dd>one per record: the elements supervised for all of its stems</dd>
<dt>Not evaluated</dt><dd>absent stems (nothing supervised) and silent ones (zero everywhere)</dd>
</dl></div>
)html";
}

std::string audio_definitions() {
  return R"html(<h2>Definitions</h2>
<div class="card"><dl>
<dt>SDR, SIR, SAR</dt><dd>BSS-Eval v4: frames of 1 s, both channels together, 512 filter taps; the median of a track's
frames, without those in which any stem is silent; limited to ±100 dB; charts end at ±40 dB</dd>
<dt>Whole-track SDR</dt><dd>10 log₁₀(Σ s² / Σ (s − e)²) over the whole track, e the estimate of the true stem s</dd>
<dt>Overall</dt><dd>0.4 n(SDR) + 0.4 n(SIR) + 0.2 n(SAR) with n(x) = clip((x + 20) / 40, 0, 1)</dd>
<dt>Not evaluated</dt><dd>absent stems (the data set does not know them) and silent ones (zero everywhere)</dd>
</dl></div>
)html";
}

// Who would answer how well: medians of the SDR.
std::string baseline_table(const ReportInputs& report) {
  std::string html =
      "<h2>Between mixture and oracle</h2>\n<div class=\"card scroll\"><table><thead><tr>"
      "<th>SDR (median of 1 s frames), dB</th>";
  for (const std::string_view stem : kStemNames) {
    html += fmt::format("<th>{}</th>", stem);
  }
  html += "<th class=\"first\">all</th></tr></thead><tbody>\n";
  for (const AudioEstimator of : {kMixtureEstimate, kModelEstimate, kIrm, kMwf}) {
    if (of == kModelEstimate && !report.has_model) {
      continue;
    }
    html += fmt::format("<tr><td>{}</td>", kAudioEstimatorNames[of]);
    for (std::size_t s = 0; s <= kStemCount; ++s) {
      const Distribution d = sdr_of(report.audio->tracks, of, s);
      html += fmt::format("<td{}>{}</td>", s == kStemCount ? " class=\"first\"" : "", score(d, 0));
    }
    html += "</tr>\n";
  }
  return html +
         "</tbody></table></div>\n<p class=\"hint\">IRM: the ideal ratio mask; MWF: the "
         "multichannel Wiener filter; both are made from the true stems, on spectra of 4096 "
         "samples.</p>\n";
}

// SDR of every track and stem, model (mixture).
std::string track_table(const ReportInputs& report) {
  std::string html =
      "<h2>Tracks</h2>\n<div class=\"card scroll\"><table><thead><tr><th>Whole-track SDR, dB</th>";
  for (const std::string_view stem : kStemNames) {
    html += fmt::format("<th>{}</th>", stem);
  }
  html += "</tr></thead><tbody>\n";
  for (const AudioTrackEvaluation& track : report.audio->tracks) {
    html += fmt::format("<tr><td>{}</td>", escape_html(track.id));
    for (std::size_t s = 0; s < kStemCount; ++s) {
      if (track.states[s] != StemState::kEvaluated) {
        html += "<td class=\"none\">–</td>";
        continue;
      }
      const double mixture = track.scores[kMixtureEstimate][s].track_sdr;
      html += report.has_model ? fmt::format("<td>{:.1f} <small>({:.1f})</small></td>",
                                             track.scores[kModelEstimate][s].track_sdr, mixture)
                               : fmt::format("<td>{:.1f}</td>", mixture);
    }
    html += "</tr>\n";
  }
  html += "</tbody></table></div>\n";
  return report.has_model ? html + "<p class=\"hint\">Model (mixture).</p>\n" : html;
}

std::string provenance(const ReportInputs& report) {
  const auto of_training = [&](const char* key) {
    const auto entry = report.training.find(key);
    return entry == report.training.end() ? std::string() : entry->second;
  };
  const std::string trained_on = of_training("dataHash");
  const std::string trained_by =
      of_training("codeVersion").empty()
          ? of_training("codeRevision")
          : "stemfabric " + of_training("codeVersion") + " (" + of_training("codeRevision") + ")";
  std::string html = "<h2>What was evaluated</h2>\n";
  html += value_list({{"Model", report.model_path},
                      {"Model SHA-256", report.model_hash},
                      {"Weights", of_training("weights")},
                      {"Step", of_training("step")},
                      {"Seed", of_training("seed")},
                      {"Trained by", trained_by},
                      {"Trained on", trained_on == report.data_hash ? "this data set" : trained_on},
                      {"Data set", report.dataset_dir + " (" + report.split + ")"},
                      {"Hash of the data set", report.data_hash},
                      {"Hash of the split", report.split_hash},
                      {"Targets", report.target_kind},
                      {"Evaluated by", std::string(version_line())}});
  if (!report.has_model) {
    return html;
  }
  const bool whole = !report.config_source.empty();
  return html + configuration_section(
                    whole ? yaml_from_json(report.config)
                          : yaml_from_json("{\"model\": " + report.model_config + "}"),
                    (whole ? "In effect in the training of these weights; from " : "From ") +
                        config_source_text(report) + ".");
}

}  // namespace

void write_evaluation_html(const std::filesystem::path& path, const ReportInputs& report) {
  std::string html = head(report);
  html += summary_cards(report);
  html += comparison_table(report);
  html += box_plots(report);
  if (report.audio != nullptr) {
    html += baseline_table(report);
    html += track_table(report);
    html += examples_section(report.audio->examples);
  }
  html += curves(report);
  html += report.audio != nullptr ? audio_definitions() : definitions();
  html += provenance(report);
  html += close_page();
  write_text_file(path, html);
}

}  // namespace stemfabric
