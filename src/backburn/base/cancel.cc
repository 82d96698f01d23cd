#include "backburn/base/cancel.h"

#include <atomic>
#include <csignal>

#include "backburn/base/error.h"

namespace backburn {
namespace {

// A signal handler can reach nothing but a global: the one piece of global state here.
std::atomic<bool> stop_requested{false};

void on_signal(int signal) {
  if (stop_requested.exchange(true)) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

}  // namespace

void stop_on_signals() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

void throw_if_stopped() {
  if (stop_requested.load(std::memory_order_relaxed)) throw Error("stopped", 130);
}

void request_stop(bool stop) { stop_requested = stop; }

}  // namespace backburn
