#pragma once

#include <string>
#include <vector>

#include "backburn/model/load.h"

namespace backburn::model {

/// The model as one asks it who leaves its chat template out: `format` with the prompt where "{}" stands
/// ("User: {}\nAssistant:"), earlier turns and system messages above it, a blank line after each. Weights are shared.
/// An empty format: the model as it is. Errors: a format without that place (usage).
Model in_plain_format(const Model& model, const std::string& format);

/// … in each of them.
std::vector<Model> in_plain_formats(const Model& model, const std::vector<std::string>& formats);

}  // namespace backburn::model
