// report.html of training runs that ended, were stopped, or diverged.
#include "trainer/report/training_html.h"

#include <gtest/gtest.h>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "tests/support/tiny_training.h"
#include "trainer/evaluation/evaluate.h"
#include "trainer/report/training_curves.h"
#include "trainer/training/training.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

// Not a matcher: a failure need not print the page.
bool has(const std::string& html, const std::string& part) {
  return html.find(part) != std::string::npos;
}

class TrainingHtml : public testing::Test {
 protected:
  TrainingHtml() { set_log_level(LogLevel::kError); }
  ~TrainingHtml() override { set_log_level(LogLevel::kInfo); }

  void train(const std::vector<std::string>& settings, std::function<bool(int64_t)> stop = {}) {
    run_training(test::tiny_config(folder_ / "data", settings),
                 {.output_dir = run(), .resume = "auto", .stop = std::move(stop)});
  }
  fs::path run() const { return folder_ / "<run>"; }
  std::string page() const { return read_text_file(run() / "report.html"); }

  test::TempDir folder_;
};

TEST_F(TrainingHtml, ShowsTheRunAndStandsAlone) {
  test::write_tiny_dataset(folder_ / "data");
  train({"training.num_epochs=3", "training.warmup_steps=4", "training.seed=23"});
  const std::string html = page();
  for (const char* outside :
       {"http:", "https:", "<script", "src=", "href=", "@import", "url(", "<run>"}) {
    EXPECT_FALSE(has(html, outside)) << outside;
  }
  for (const char* part :
       {"Loss per epoch", "Loss per step", "Learning rate", "Gradient norm", "<h3>vocals</h3>",
        "<h3>sub</h3>", "validation loss", "Where the time went", "<td>backward</td>",
        "<td>checkpoints and the rest</td>", "Configuration", "warmup_steps: 4", "&lt;run&gt;",
        "best (epoch", "<dt>Seed</dt><dd><code>23</code>"}) {
    EXPECT_TRUE(has(html, part)) << part;
  }
  EXPECT_FALSE(has(html, "nan"));

  const TrainingCurves curves = read_training_curves(run());
  const auto epochs = test::read_metrics(run(), "epoch");
  ASSERT_EQ(curves.stems[3].size(), 2U);
  ASSERT_EQ(curves.stems[3][1].y.size(), 3U);
  EXPECT_EQ(curves.stems[3][1].y[2], epochs[2].at("val_loss_harmonic").get<double>());
  EXPECT_EQ(curves.norms.front().y.size(), 18U);
}

TEST_F(TrainingHtml, AStoppedRunHasOneToo) {
  test::write_tiny_dataset(folder_ / "data");
  train({}, [](int64_t step) { return step == 8; });
  EXPECT_TRUE(has(page(), "stopped after step 8; the same command goes on"));
  train({});
  EXPECT_FALSE(has(page(), "stopped after"));
}

TEST_F(TrainingHtml, ADivergedRunSaysSo) {
  test::write_tiny_dataset(folder_ / "data");
  EXPECT_THROW(train({"training.lr=1e30", "training.max_non_finite_steps=3"}), NumericError);
  const std::string html = page();
  EXPECT_TRUE(has(html, "not finite"));
  EXPECT_TRUE(has(html, "3 steps were skipped"));
  EXPECT_FALSE(has(html, ">nan"));
  EXPECT_FALSE(has(html, "-nan"));
}

// The evaluation's page takes the place of the training's if it is written there, and loses
// nothing.
TEST_F(TrainingHtml, AnEvaluationInTheRunFolderKeepsTheCurves) {
  test::write_tiny_dataset(folder_ / "data");
  train({});
  evaluate(ExecutionContext(),
           {.dataset_dir = folder_ / "data", .model = run(), .output_dir = run()});
  const std::string html = page();
  for (const char* part : {"SDR per stem", "Loss per epoch", "Loss per stem", "Gradient norm",
                           "Where the time went", "Configuration"}) {
    EXPECT_TRUE(has(html, part)) << part;
  }
}

}  // namespace
}  // namespace stemfabric
