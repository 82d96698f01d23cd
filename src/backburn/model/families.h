#pragma once

#include <span>
#include <string>

#include "backburn/model/config.h"

namespace backburn::model {

/// A family of models: what sets its config.json apart from Llama's. Adding one that the decoder's variants cover takes
/// a line in the table and, where its file has keys of its own, a function to read and one to write them.
struct Family {
  const char* architecture;                                                                  ///< `model_type`
  const char* class_name;                                                                    ///< in "architectures"
  void (*read)(const Json& json, const std::string& origin, ModelConfig& config) = nullptr;  ///< after Llama's keys
  void (*write)(const ModelConfig& config, Json& json) = nullptr;
};

std::span<const Family> known_families();

/// Errors: a `model_type` that is not known.
const Family& family_of(const std::string& architecture, const std::string& origin);

/// What every reader of a config checks once the family has said how much of a head RoPE turns, and of its experts.
void check_rope(const ModelConfig& config, const std::string& origin);
void check_mixture(const MixtureOfExperts& mixture, const std::string& origin);

/// Errors: more layers or experts than the file's `tensors` can be of, before lists of them take memory. With
/// `experts_apart` each expert has tensors of its own.
void check_size(const ModelConfig& config, size_t tensors, bool experts_apart, const std::string& origin);

}  // namespace backburn::model
