#pragma once

#include <string_view>

namespace backburn {

/// A file of data/ or recipes/ compiled into the program, by its path in the repository ("data/benign.jsonl").
/// Throws std::out_of_range for a name that was not embedded: that is a bug here, not a user's error.
std::string_view embedded_file(std::string_view path);

}  // namespace backburn
