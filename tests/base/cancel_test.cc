#include "backburn/base/cancel.h"

#include <gtest/gtest.h>

#include <csignal>

#include "backburn/base/error.h"

namespace backburn {
namespace {

TEST(Cancel, AStopIsAnErrorWithExitCode130) {
  throw_if_stopped();
  request_stop();
  try {
    throw_if_stopped();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), 130);
  }
  request_stop(false);
  throw_if_stopped();
}

TEST(CancelDeathTest, TheFirstSignalStopsTheSecondKills) {
  for (const int signal : {SIGINT, SIGTERM}) {
    EXPECT_EXIT(
        {
          stop_on_signals();
          std::raise(signal);
          try {
            throw_if_stopped();
          } catch (const Error& error) {
            std::exit(error.exit_code());
          }
        },
        testing::ExitedWithCode(130), "");
    EXPECT_EXIT(
        {
          stop_on_signals();
          std::raise(signal);
          std::raise(signal);
        },
        testing::KilledBySignal(signal), "");
  }
}

}  // namespace
}  // namespace backburn
