#include "backburn/train/sampled_logprobs.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "backburn/base/phases.h"
#include "backburn/generate/cuts.h"

namespace backburn::train {
namespace {

constexpr int64_t rows_at_once = 64;  // of logits: [64, 152k] f32 is 39 MB

// ln of the target's share of what is left after the cuts. logprobs: ln p of the whole distribution.
double kept_logprob(std::span<const double> logprobs, int64_t target, const generate::SamplingOptions& sampling) {
  std::vector<double> probabilities;
  probabilities.reserve(logprobs.size());
  for (const double logprob : logprobs) probabilities.push_back(std::exp(logprob));
  const auto kept = generate::kept_tokens(std::span<const double>(probabilities), sampling);
  const bool has_target = std::find(kept.ids.begin(), kept.ids.end(), target) != kept.ids.end();
  return has_target ? logprobs[static_cast<size_t>(target)] - std::log(kept.mass)
                    : -std::numeric_limits<double>::infinity();
}

// ln π(target) row by row; logits [rows, vocab] f32.
std::vector<double> row_logprobs(const at::Tensor& logits, std::span<const int64_t> targets,
                                 const generate::SamplingOptions& sampling) {
  const auto logprobs = at::log_softmax(logits.to(at::kCPU, at::kDouble) / sampling.temperature, -1).contiguous();
  const int64_t vocabulary = logprobs.size(1);
  std::vector<double> found(targets.size());
  at::parallel_for(0, static_cast<int64_t>(targets.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const std::span<const double> all(logprobs.data_ptr<double>() + row * vocabulary,
                                        static_cast<size_t>(vocabulary));
      const int64_t target = targets[static_cast<size_t>(row)];
      found[static_cast<size_t>(row)] =
          generate::cuts(sampling) ? kept_logprob(all, target, sampling) : all[static_cast<size_t>(target)];
    }
  });
  return found;
}

}  // namespace

std::vector<std::vector<AnswerLogprobs>> sampled_logprobs(const model::Network& network,
                                                          std::span<const Example> examples,
                                                          std::span<const generate::SamplingOptions> samplings) {
  for (const auto& sampling : samplings) {
    if (!(sampling.temperature > 0)) throw std::logic_error("sampled_logprobs: temperature");
  }
  const Phase phase("answer probabilities");
  const at::NoGradGuard no_grad;
  std::vector<std::vector<AnswerLogprobs>> all(samplings.size(), std::vector<AnswerLogprobs>(examples.size()));
  if (examples.empty()) return all;
  const auto given = taught(network, {examples.begin(), examples.end()});
  std::vector<int64_t> targets;
  std::vector<size_t> owners;
  for (size_t i = 0; i < examples.size(); ++i) {
    targets.insert(targets.end(), examples[i].answer.begin(), examples[i].answer.end());
    owners.insert(owners.end(), examples[i].answer.size(), i);
  }
  const auto states = at::cat(given.states);
  for (int64_t begin = 0; begin < states.size(0); begin += rows_at_once) {
    const int64_t size = std::min(rows_at_once, states.size(0) - begin);
    const auto logits = model::logits(network, states.narrow(0, begin, size));
    const auto wanted = std::span(targets).subspan(static_cast<size_t>(begin), static_cast<size_t>(size));
    for (size_t s = 0; s < samplings.size(); ++s) {
      const auto found = row_logprobs(logits, wanted, samplings[s]);
      for (size_t row = 0; row < found.size(); ++row)
        all[s][owners[static_cast<size_t>(begin) + row]].push_back(found[row]);
    }
  }
  return all;
}

}  // namespace backburn::train
