// The executable: a table of commands in the order of `stemfabric --help`.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "runtime/collectives/mpi_transport.h"
#include "trainer/cli/application.h"

namespace {

using namespace stemfabric::cli;

// Every command joins here with one line below the heading of its kind.
constexpr AddCommand kCommands[] = {
    // From snapshots to an evaluated model
    add_run_command,

    // Data
    add_features_command,
    add_ingest_command,
    add_sanitize_command,
    add_dataset_command,
    add_demo_songs_command,

    // Training
    add_train_command,

    // Models at work
    add_evaluate_command,
    add_predict_command,
    add_separate_command,
    add_export_command,
    add_bss_eval_command,

    // This installation
    add_bench_command,
    add_config_command,
    add_doctor_command,
};

// An exception that leaves a thread ends the process: with a sentence at least.
[[noreturn]] void end_in_a_sentence() {
  std::fputs("stemfabric: error: internal error in a worker thread; please report this as a bug\n",
             stderr);
  std::_Exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  // A file that outgrows its limit (ulimit -f) is an error with a sentence, not a signal's death.
  std::signal(SIGXFSZ, SIG_IGN);
  std::set_terminate(end_in_a_sentence);
  const int status =
      run_application(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc), kCommands);
  stemfabric::leave_ranks(status, status == 0 || status == kExitInterrupted);
  return status;
}
