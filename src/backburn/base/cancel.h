#pragma once

namespace backburn {

/// From now on the first Ctrl-C (SIGINT, or SIGTERM) asks the program to stop at the next safe point; the second kills
/// it.
void stop_on_signals();

/// Throws an Error with exit code 130 when a stop was asked for. Called between steps, tokens and files.
void throw_if_stopped();

/// Asks for a stop, as Ctrl-C does. For tests.
void request_stop(bool stop = true);

}  // namespace backburn
