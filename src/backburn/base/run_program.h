#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace backburn {

/// How a program ended.
struct ProgramResult {
  int status;             ///< exit status; 127 when the program could not be started, 128 when a signal ended it
  std::string last_line;  ///< the last line of what it wrote that is not empty; when it could not be started, why
};

/// Runs a program (looked for on PATH) without a shell and without input, its output and errors into the file `log`; a
/// stop that the user asks for ends it.
ProgramResult run_program(const std::vector<std::string>& arguments, const std::filesystem::path& log);

}  // namespace backburn
