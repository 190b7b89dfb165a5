#include "trainer/report/training_html.h"

#include <algorithm>

#include "runtime/core/progress.h"
#include "runtime/io/file.h"
#include "trainer/report/html_page.h"
#include "trainer/report/svg_chart.h"
#include "trainer/report/training_curves.h"
#include "trainer/version.h"

namespace stemfabric {
namespace {

std::string chart_card(const std::string& title, const char* x_label,
                       const std::vector<Series>& series) {
  return series.empty() ? std::string()
                        : fmt::format("<div class=\"card\"><h3>{}</h3>{}</div>\n", title,
                                      line_chart(title, x_label, series));
}

std::string per_stem(const TrainingCurves& curves) {
  std::string cards;
  for (std::size_t s = 0; s < kStemCount; ++s) {
    cards += chart_card(std::string(kStemNames[s]), "epoch", curves.stems[s]);
  }
  return cards.empty() ? cards
                       : "<h2>Loss per stem</h2>\n<div class=\"grid three\">\n" + cards +
                             "</div>\n<p class=\"hint\">Mean squared error per stem, without the "
                             "stem's weight; 0 where a stem has no supervised element.</p>\n";
}

std::string duration(double seconds) {
  return seconds < 1 ? fmt::format("{:.3g} ms", 1000 * seconds) : format_duration(seconds);
}

std::string time_table(const TrainingCurves& curves, double total_seconds) {
  double total = 0;
  double longest = 0;
  for (const auto& [phase, seconds] : curves.seconds) {
    total += seconds;
  }
  auto phases = curves.seconds;
  if (total_seconds > total && total > 0) {
    phases.emplace_back("checkpoints and the rest", total_seconds - total);
    total = total_seconds;
  }
  for (const auto& [phase, seconds] : phases) {
    longest = std::max(longest, seconds);
  }
  if (!(total > 0)) {
    return {};
  }
  std::string html =
      "<h2>Where the time went</h2>\n<div class=\"card scroll\"><table><thead><tr><th>Phase</th>"
      "<th>Time</th><th>Share</th><th></th></tr></thead><tbody>\n";
  for (const auto& [phase, seconds] : phases) {
    html += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{:.1f} %</td><td class=\"wide\"><div class=\"bar\" "
        "style=\"width:{:.1f}%\"></div></td></tr>\n",
        escape_html(phase), duration(seconds), 100 * seconds / total, 100 * seconds / longest);
  }
  return html + "</tbody></table></div>\n";
}

std::string card(const std::string& name, const std::string& value, const std::string& hint) {
  return fmt::format(
      "<div class=\"card\"><div class=\"name\">{}</div><div class=\"big\">{}</div><div "
      "class=\"hint\">{}</div></div>\n",
      escape_html(name), escape_html(value), escape_html(hint));
}

std::string summary_cards(const TrainingReport& report) {
  std::string html = "<div class=\"grid four\">\n";
  const std::string best =
      report.best_epoch > 0
          ? fmt::format("of the last epoch; epoch {} is the best so far", report.best_epoch)
          : "of the last epoch";
  html += report.validation_loss
              ? card("Validation loss", format_number(*report.validation_loss, 4),
                     report.finished ? report.weights : best)
              : card("Validation loss", "–",
                     report.validation_samples > 0 ? "not measured yet" : "no validation split");
  html += card("Training loss", format_number(report.train_loss, 4), "of the last epoch");
  html += card("Steps", std::to_string(report.steps), fmt::format("{} epochs", report.epochs));
  html += card("Time", format_duration(report.seconds),
               report.steps > 0
                   ? fmt::format("{} per step, all included",
                                 duration(report.seconds / static_cast<double>(report.steps)))
                   : "");
  return html + "</div>\n";
}

}  // namespace

std::string training_sections(const TrainingCurves& curves, double total_seconds) {
  const std::string cards = chart_card("Loss per epoch", "epoch", curves.epochs) +
                            chart_card("Separation of the validation split", "epoch", curves.sdr) +
                            chart_card("Loss per step", "step", curves.steps) +
                            chart_card("Learning rate", "step", curves.rates) +
                            chart_card("Gradient norm", "step", curves.norms);
  std::string html;
  if (curves.skipped > 0) {
    html += fmt::format(
        "<p class=\"note\">{} {} skipped because the loss or the gradient was not finite; "
        "metrics.jsonl names the place and the samples.</p>\n",
        curves.skipped, curves.skipped == 1 ? "step was" : "steps were");
  }
  if (!cards.empty()) {
    html += "<h2>Loss</h2>\n<div class=\"grid two\">\n" + cards + "</div>\n";
  }
  return html + per_stem(curves) + time_table(curves, total_seconds);
}

void write_training_html(const std::filesystem::path& path, const TrainingReport& report) {
  std::string html = open_page("stemfabric training", "Stem separation: training");
  html +=
      fmt::format("<p class=\"sub\">{} · {} · {}</p>\n", escape_html(report.run_folder.string()),
                  escape_html(report.end), escape_html(report.timestamp));
  html += summary_cards(report);
  const std::string sections =
      training_sections(read_training_curves(report.run_folder), report.seconds);
  html += sections.empty() ? "<p class=\"none\">No step was taken.</p>\n" : sections;
  html += "<h2>What was trained</h2>\n";
  html += value_list({{"Ended", report.end},
                      {"Parameters", std::to_string(report.parameters)},
                      {"Final weights", report.weights},
                      {"Final weights SHA-256", report.weights_sha256},
                      {"Data set", report.data_folder},
                      {"Hash of the data set", report.data_hash},
                      {"Samples", fmt::format("{} for training, {} for validation",
                                              report.train_samples, report.validation_samples)},
                      {"Seed", std::to_string(report.seed)},
                      {"Code", std::string(version_line())}});
  html += configuration_section(report.config_yaml,
                                "In effect in this run; behind each value is where it comes from.");
  html += close_page();
  write_text_file(path, html);
}

}  // namespace stemfabric
