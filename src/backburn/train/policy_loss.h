#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace backburn::train {

/// The GRPO family's loss, in TRL's names (`GRPOConfig`, TRL 1.16).
struct PolicyLossOptions {
  /// How per-token losses become one number: grpo (mean over each answer's tokens, then over answers; Shao 2024,
  /// arXiv 2402.03300), bnpo and dapo (mean over all tokens; Yu 2025, arXiv 2503.14476), dr_grpo (sum over
  /// answers × max_completion_length; Liu 2025, arXiv 2503.20783), luspo (sum over tokens, mean over answers), cispo
  /// (clipped weight on ln π; arXiv 2506.13585), sapo (a soft gate instead of the clip; arXiv 2511.20347).
  std::string loss_type = "grpo";
  /// Of the ratio that is clipped: token, sequence (the geometric mean over an answer's tokens: GSPO; Zheng 2025, arXiv
  /// 2507.18071), or trajectory (the whole answer's probability: RLOO; Ahmadian 2024, arXiv 2402.14740).
  std::string importance_sampling_level = "token";
  double epsilon = 0.2;       ///< clip range below 1
  double epsilon_high = 0.2;  ///< clip range above 1 (cispo: the cap of the ratio itself)
  double delta = 0.0;         ///< upper bound of the ratio for two-sided clipping; 0: none
  double beta = 0.0;          ///< weight of the KL to the reference model
  /// How a sampled token estimates that KL (Schulman 2020, "Approximating KL Divergence"; x = ln π_ref − ln π): k1 (−x:
  /// unbiased, but as a loss its gradient is zero in the mean), k2 (x²/2: its gradient is the KL's), k3 (eˣ − x − 1:
  /// unbiased, never negative; what TRL takes).
  std::string kl_estimator = "k3";
  double entropy_coef = 0.0;  ///< weight of the entropy bonus, the mean over all tokens whatever the loss_type
  double sapo_temperature_pos = 1.0;
  double sapo_temperature_neg = 1.05;
  int64_t max_completion_length = 48;  ///< dr_grpo's denominator
  /// What a token's loss is multiplied by when another policy than the one before the update has sampled: the ratio of
  /// the two, of the token or of the whole answer (sequence), truncated to [clip_min, clip_max] or, outside of that
  /// range, 0 (mask). TRL's vllm_importance_sampling_mode; none: no correction.
  std::string importance_sampling_mode = "token_truncate";
  double importance_sampling_clip_max = 3.0;
  double importance_sampling_clip_min = 0.0;
};

/// Answers whose tokens lie end to end; all tensors [tokens] f32.
struct PolicyBatch {
  at::Tensor logprobs;                ///< ln π of the policy that is trained, differentiable
  at::Tensor old_logprobs;            ///< of the policy before the step's updates; undefined: the same (first update)
  at::Tensor reference_logprobs;      ///< of the reference model; undefined: only with beta 0
  at::Tensor entropies;               ///< of the policy, differentiable; undefined: only with entropy_coef 0
  std::vector<int64_t> lengths;       ///< tokens per answer
  std::vector<double> advantages;     ///< one per answer, or one per token (those of GAE)
  at::Tensor sampling_logprobs = {};  ///< of the policy that sampled; undefined: that of old_logprobs
};

/// What the loss is divided by: counts over the whole step, of which a PolicyBatch may be a part.
struct LossNormalizer {
  int64_t completions = 0;
  int64_t tokens = 0;
};

struct PolicyLoss {
  at::Tensor loss;            ///< scalar; the step's loss is the sum over its parts
  double kl_sum = 0;          ///< Σ over tokens of the estimate; 0 without a reference
  int64_t counted = 0;        ///< ratios: one a token, or, at the other levels, one an answer
  int64_t clipped_low = 0;    ///< of them, clipped below with a negative advantage
  int64_t clipped_high = 0;   ///< … above with a positive advantage; sapo clips none
  double importance_sum = 0;  ///< Σ over tokens of what importance_sampling_mode multiplies by; 0 without a correction
};

/// Errors: an unknown loss_type, importance_sampling_level, importance_sampling_mode or kl_estimator (usage).
PolicyLoss policy_loss(const PolicyLossOptions& options, const PolicyBatch& batch, const LossNormalizer& normalizer);

}  // namespace backburn::train
