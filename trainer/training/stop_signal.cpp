#include "trainer/training/stop_signal.h"

#include <array>
#include <atomic>
#include <csignal>
#include <mutex>
#include <utility>

namespace stemfabric {
namespace {

constexpr std::array<std::pair<int, const char*>, 3> kSignals = {
    {{SIGTERM, "SIGTERM"}, {SIGINT, "SIGINT"}, {SIGUSR1, "SIGUSR1"}}};

std::atomic<int> received_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "used in a signal handler");
// Guards may live side by side: the first handles the signals, the last gives them back.
std::mutex guards_mutex;
int guards = 0;
std::array<struct sigaction, kSignals.size() + 1> previous_actions;

void remember(int signal) {
  int none = 0;
  if (!received_signal.compare_exchange_strong(none, signal) && signal == SIGINT &&
      none == SIGINT) {
    std::signal(SIGINT, SIG_DFL);  // the user insists
    std::raise(SIGINT);
  }
}

}  // namespace

StopSignalGuard::StopSignalGuard() {
  const std::lock_guard lock(guards_mutex);
  if (guards++ > 0) {
    return;
  }
  received_signal = 0;
  struct sigaction action {};
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  action.sa_handler = remember;
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i].first, &action, &previous_actions[i]);
  }
  action.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &action, &previous_actions.back());
}

StopSignalGuard::~StopSignalGuard() {
  const std::lock_guard lock(guards_mutex);
  if (--guards > 0) {
    return;
  }
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i].first, &previous_actions[i], nullptr);
  }
  sigaction(SIGXFSZ, &previous_actions.back(), nullptr);
}

const char* StopSignalGuard::received() const {
  for (const auto& [signal, name] : kSignals) {
    if (signal == received_signal) {
      return name;
    }
  }
  return nullptr;
}

}  // namespace stemfabric
