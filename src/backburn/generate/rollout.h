#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "backburn/generate/sampler.h"
#include "backburn/model/activations.h"
#include "backburn/model/transformer.h"

namespace backburn::generate {

/// One prompt and how many answers it wants.
struct RolloutRequest {
  std::vector<int32_t> prompt;  ///< token ids, at least one
  int64_t num_generations = 1;
  /// Names this prompt in the random stream: with the seed, the answer's index and the token's place it decides every
  /// draw, so that an answer does not depend on what else is in the batch.
  uint64_t stream = 0;
};

/// One sampled answer.
struct Completion {
  std::vector<int32_t> ids;        ///< the stop token included when there is one
  std::vector<float> logprobs;     ///< a value per id, see SampledToken
  std::vector<float> entropies;    ///< a value per id, nats
  std::vector<float> normalizers;  ///< a value per id, see SampledToken
  bool stopped = false;            ///< ended by a stop token, not by the length limit
  std::vector<at::Tensor> states;  ///< with keep_states: a value per id, the hidden state [1, hidden] that led to it
  /// With a record: the rows of all ids but the last, which the model was never asked to go on from.
  std::vector<int64_t> rows;
};

/// The activations of a whole rollout, for the update on its answers.
struct RolloutRecord {
  model::Activations activations;
  std::vector<std::vector<int64_t>> prompt_rows;  ///< a row per token of each request's prompt
};

struct RolloutOptions {
  SamplingOptions sampling = {};
  int64_t max_completion_length = 48;  ///< tokens, the stop token included
  int64_t max_rows = 64;               ///< answers decoded at the same time
  bool keep_states = false;            ///< see Completion
  uint64_t seed = 0;
};

/// Samples all requests: each prompt is prefilled once for its whole group, answers of a group are decoded once for as
/// long as they say the same, a finished row leaves the batch at once, and the next waiting answer takes its place.
/// Returns, for each request, its num_generations answers in order of index. `on_finished`, if given, is told the
/// number of answers finished since the last call. `record`, if given, is appended to (see activations.h for what
/// it takes) and has room for every prompt and for max_completion_length − 1 tokens an answer. Ctrl-C stops with an
/// Error.
std::vector<std::vector<Completion>> rollout(const model::Network& network, std::span<const RolloutRequest> requests,
                                             const RolloutOptions& options,
                                             const std::function<void(int64_t)>& on_finished = {},
                                             RolloutRecord* record = nullptr);

}  // namespace backburn::generate
