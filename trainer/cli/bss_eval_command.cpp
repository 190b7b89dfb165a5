// stemfabric bss-eval: separated waveforms against the true ones.
#include <fmt/core.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/io/file.h"
#include "trainer/cli/command.h"
#include "trainer/cli/option_values.h"
#include "trainer/device_context.h"
#include "trainer/evaluation/bss_eval_files.h"
#include "trainer/evaluation/bss_evaluation.h"
#include "trainer/report/bss_eval_json.h"

namespace stemfabric::cli {
namespace {

struct Options {
  std::string references, estimates, output;
  std::vector<std::string> sources;
  double window = 1, hop = 1;  // seconds
  std::string device = "auto";
  int threads = 0;
};

// Whole samples, cut off as museval does.
int64_t samples_of(const char* option, double seconds, int sample_rate) {
  const double samples = seconds * sample_rate;
  if (samples < 1 || samples > 1e15) {
    throw UsageError("{}: {} s are no number of samples at {} Hz", option, seconds, sample_rate);
  }
  return static_cast<int64_t>(samples);
}

std::string cells(const std::vector<double>& values) {
  std::string line;
  for (const double value : values) {
    line += std::isnan(value) ? "       -" : fmt::format("{:8.2f}", value);
  }
  return line;
}

void print_table(const BssSources& sources, const BssEvaluation& e) {
  const auto seconds = [&](int64_t samples) {
    return static_cast<double>(samples) / sources.sample_rate;
  };
  const Shape& shape = sources.references.shape();
  fmt::print("{} sources of {:.2f} s, {} Hz, {}; all values in dB\n", shape[0], seconds(shape[2]),
             sources.sample_rate, shape[1] == 1 ? "mono" : "stereo");
  fmt::print("{:<16}{:^32} |{:>28}\n", "",
             fmt::format("BSS-Eval v4: median of {} {} of {:g} s", e.frame_count,
                         e.frame_count == 1 ? "frame" : "frames", seconds(e.window)),
             "whole track");
  fmt::print("{:<16}{:>8}{:>8}{:>8}{:>8} |{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}\n", "source", "SDR", "ISR",
             "SIR", "SAR", "SDR", "ISR", "SIR", "SAR", "SI-SDR", "uSDR");
  for (std::size_t s = 0; s < sources.names.size(); ++s) {
    std::vector<double> median;
    std::vector<double> whole;
    for (std::size_t m = 0; m < kBssMeasures.size(); ++m) {
      median.push_back(e.median[m][s]);
      whole.push_back(e.whole[m][s]);
    }
    whole.push_back(e.si_sdr[s].all_channels);
    whole.push_back(e.utterance_sdr[s]);
    fmt::print("{:<16}{} |{}\n", sources.names[s], cells(median), cells(whole));
  }
}

void warn_of_silence(const BssSources& sources, const BssEvaluation& evaluation) {
  for (std::size_t s = 0; s < sources.names.size(); ++s) {
    for (const bool reference : {true, false}) {
      if (reference ? evaluation.silent_reference[s] : evaluation.silent_estimate[s]) {
        log_warning(
            "{}: silent from beginning to end, so '{}' has no BSS-Eval values; museval "
            "refuses the whole track",
            (reference ? sources.reference_files : sources.estimate_files)[s].string(),
            sources.names[s]);
      }
    }
  }
}

int run_bss_eval(const Options& options) {
  AtomicFile output(options.output);  // before the work: a folder that is missing shows now
  const ExecutionContext ctx = device_context(options.device, "--device", options.threads);
  if (!ctx.is_cpu()) {
    log_info("device {}", describe_context(ctx));
  }
  const BssSources sources =
      read_bss_sources(options.references, options.estimates, options.sources);
  const BssEvaluation evaluation =
      evaluate_bss(ctx, sources.references.view(), sources.estimates.view(),
                   samples_of("--window", options.window, sources.sample_rate),
                   samples_of("--hop", options.hop, sources.sample_rate));
  warn_of_silence(sources, evaluation);
  output.write(bss_eval_json(sources, evaluation));
  output.commit();
  print_table(sources, evaluation);
  fmt::print("{}\n", options.output);
  return 0;
}

}  // namespace

void add_bss_eval_command(CLI::App& app, Run& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "bss-eval", "Score separated audio against the true stems: BSS-Eval v4, SI-SDR");
  command
      ->add_option("--references", options->references,
                   "Folder with the true sources, one .wav or .flac file each")
      ->type_name("DIR")
      ->required();
  command
      ->add_option("--estimates", options->estimates,
                   "Folder with the estimates, under the same names")
      ->type_name("DIR")
      ->required();
  command->add_option("--output", options->output, "Gets all values as JSON")
      ->type_name("FILE.json")
      ->required();
  command
      ->add_option("--sources", options->sources,
                   "Only these, in this order; default: all files, by name")
      ->type_name("NAME,NAME,...")
      ->delimiter(',');
  const double infinity = std::numeric_limits<double>::infinity();
  command->add_option("--window", options->window, "Seconds of a frame")
      ->check(real_number(0, infinity))
      ->capture_default_str();
  command->add_option("--hop", options->hop, "Seconds from one frame to the next")
      ->check(real_number(0, infinity))
      ->capture_default_str();
  command->add_option("--device", options->device, "Where BSS-Eval is computed")
      ->check(CLI::IsMember({"auto", "cuda", "cpu"}))
      ->type_name("auto|cuda|cpu")
      ->capture_default_str();
  command
      ->add_option("--threads", options->threads, "Worker threads; 0 = all cores of this process")
      ->check(whole_number(0, 1024))
      ->capture_default_str();
  command->callback([&run, options] { run = [options] { return run_bss_eval(*options); }; });
}

}  // namespace stemfabric::cli
