#pragma once

#include <map>
#include <string>

#include "backburn/text/jinja_syntax.h"

namespace backburn::text::jinja {

/// Renders a parsed template with these variables. Errors name `origin` and line.
std::string render(const Block& block, const std::string& origin, std::map<std::string, Value> variables);

}  // namespace backburn::text::jinja
