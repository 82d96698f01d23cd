#include "backburn/generate/sampler.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "backburn/base/error.h"
#include "backburn/generate/cuts.h"
#include "backburn/kernels/cpu.h"
#include "backburn/kernels/parallel.h"
#include "backburn/kernels/vocabulary.h"

namespace backburn::generate {
namespace {

// Sets the probabilities that are cut to zero. Returns what is left of the mass.
double truncate(std::span<float> probabilities, const SamplingOptions& options) {
  const Kept kept = kept_tokens(std::span<const float>(probabilities), options);
  std::vector<float> left;
  for (const int32_t id : kept.ids) left.push_back(probabilities[id]);
  std::fill(probabilities.begin(), probabilities.end(), 0.0F);
  for (size_t i = 0; i < left.size(); ++i) probabilities[kept.ids[i]] = left[i];
  return kept.mass;
}

// The first token whose cumulative probability passes `target`; the last possible one if rounding left none.
int32_t invert(std::span<const float> probabilities, double target) {
  double sum = 0;
  int32_t last = 0;
  for (size_t i = 0; i < probabilities.size(); ++i) {
    if (probabilities[i] <= 0) continue;
    sum += probabilities[i];
    last = static_cast<int32_t>(i);
    if (sum > target) return last;
  }
  return last;
}

std::vector<SampledToken> tokens_of(const std::vector<int32_t>& ids, const std::vector<float>& logprobs,
                                    const std::vector<float>& entropies, const std::vector<float>& normalizers) {
  std::vector<SampledToken> sampled(ids.size());
  for (size_t i = 0; i < sampled.size(); ++i) sampled[i] = {ids[i], logprobs[i], entropies[i], normalizers[i]};
  return sampled;
}

// Without cuts.
std::vector<SampledToken> sample_with_kernel(const at::Tensor& logits, std::span<const float> uniforms,
                                             double temperature) {
  const auto rows = static_cast<int64_t>(uniforms.size());
  std::vector<int32_t> ids(uniforms.size());
  std::vector<float> logprobs(uniforms.size()), entropies(uniforms.size()), normalizers(uniforms.size());
  kernels::parallel([&] {
    kernels::team_sample(rows, logits.data_ptr<float>(), logits.size(1), logits.size(1),
                         static_cast<float>(temperature), uniforms.data(), ids.data(), logprobs.data(),
                         entropies.data(), normalizers.data());
  });
  return tokens_of(ids, logprobs, entropies, normalizers);
}

// Tokens that were drawn otherwise, described as those that are drawn with the kernel.
std::vector<SampledToken> describe_with_kernel(const at::Tensor& logits, std::span<const SampledToken> drawn,
                                               double temperature) {
  std::vector<int32_t> ids;
  for (const SampledToken& token : drawn) ids.push_back(token.id);
  std::vector<float> logprobs(ids.size()), entropies(ids.size()), normalizers(ids.size());
  kernels::parallel([&] {
    kernels::team_describe(std::ssize(ids), logits.data_ptr<float>(), logits.size(1), logits.size(1),
                           static_cast<float>(temperature), ids.data(), logprobs.data(), entropies.data(),
                           normalizers.data());
  });
  return tokens_of(ids, logprobs, entropies, normalizers);
}

std::vector<SampledToken> sample_in_order(const at::Tensor& logits, std::span<const float> uniforms,
                                          const SamplingOptions& options, bool cut) {
  const bool greedy = options.temperature == 0;
  const auto scaled = greedy || options.temperature == 1.0 ? logits : logits / options.temperature;
  const auto logprobs = at::log_softmax(scaled, -1).contiguous();
  const auto probabilities = logprobs.exp();
  const auto entropies = -(probabilities * logprobs).nan_to_num_(0.0).sum(-1);
  const auto normalizers = scaled.logsumexp(-1);
  const int64_t vocabulary = logits.size(1);

  std::vector<SampledToken> sampled(uniforms.size());
  at::parallel_for(0, static_cast<int64_t>(uniforms.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const std::span<float> p(probabilities.data_ptr<float>() + row * vocabulary, vocabulary);
      const float* logprob = logprobs.data_ptr<float>() + row * vocabulary;
      int32_t id = 0;
      if (greedy) {
        id = static_cast<int32_t>(std::max_element(logprob, logprob + vocabulary) - logprob);
      } else {
        const double mass = cut ? truncate(p, options) : std::accumulate(p.begin(), p.end(), 0.0);
        id = invert(p, uniforms[row] * mass);
      }
      sampled[row] = {id, logprob[id], entropies.data_ptr<float>()[row], normalizers.data_ptr<float>()[row]};
    }
  });
  return sampled;
}

}  // namespace

std::vector<SampledToken> sample(const at::Tensor& device_logits, std::span<const float> uniforms,
                                 const SamplingOptions& options) {
  const at::NoGradGuard no_grad;
  const auto logits = device_logits.cpu().contiguous();
  const bool cut = options.temperature != 0 && cuts(options);
  const auto sampled = kernels::available() && !cut ? sample_with_kernel(logits, uniforms, options.temperature)
                                                    : sample_in_order(logits, uniforms, options, cut);
  const auto broken = [](const SampledToken& token) { return !(token.logprob <= 0); };
  if (std::any_of(sampled.begin(), sampled.end(), broken)) {
    fail(
        "the model's logits are not numbers (NaN or infinite): the weights are damaged or training diverged; "
        "lower the learning rate or check the model file");
  }
  return kernels::available() && cut ? describe_with_kernel(logits, sampled, options.temperature) : sampled;
}

}  // namespace backburn::generate
