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

std::atomic<void (*)(const char*)> call_at_first{nullptr};
std::atomic<int> received_signal{0};
static_assert(std::atomic<int>::is_always_lock_free &&
                  std::atomic<void (*)(const char*)>::is_always_lock_free,
              "used in a signal handler");
// Guards may live side by side: the first handles the signals, the last gives them back.
std::mutex guards_mutex;
int guards = 0;
std::array<struct sigaction, kSignals.size() + 1> previous_actions;

const char* name_of(int number) {
  for (const auto& [signal, name] : kSignals) {
    if (signal == number) {
      return name;
    }
  }
  return nullptr;
}

void handle(int signal) {
  if (const auto call = call_at_first.load()) {
    call(name_of(signal));
    return;
  }
  int none = 0;
  if (!received_signal.compare_exchange_strong(none, signal) && signal == SIGINT &&
      none == SIGINT) {
    std::signal(SIGINT, SIG_DFL);  // the user insists
    std::raise(SIGINT);
  }
}

}  // namespace

StopSignalGuard::StopSignalGuard(void (*at_first)(const char* signal)) {
  const std::lock_guard lock(guards_mutex);
  if (guards++ > 0) {
    return;
  }
  received_signal = 0;
  call_at_first = at_first;
  struct sigaction action {};
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  action.sa_handler = handle;
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

void StopSignalGuard::remember() { call_at_first = nullptr; }

const char* StopSignalGuard::received() const { return name_of(received_signal); }

}  // namespace stemfabric
