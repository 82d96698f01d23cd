#include "backburn/base/options.h"

#include "backburn/train/grpo.h"

namespace backburn::train {

void bind(Options& options, const std::string& prefix, LoraOptions& lora) {
  const std::string at = prefix + ".";
  options.add(at + "use_peft", lora.use_peft,
              "train a LoRA adapter; false: full fine-tuning of all weights, by LibTorch's layers");
  options.add(at + "r", lora.r, "LoRA rank", {1, 1024});
  options.add(at + "lora_alpha", lora.lora_alpha, "LoRA's update is scaled by lora_alpha / r", at_least_0);
  options.add(at + "target_modules", lora.target_modules,
              "kinds of linear layers that LoRA updates, such as q_proj,v_proj; all-linear: all of them");
  options.add(at + "use_rslora", lora.use_rslora, "scale LoRA's update by lora_alpha / sqrt(r) instead");
  options.add(at + "use_dora", lora.use_dora,
              "DoRA: each row's length is trained apart from its direction, by LibTorch's layers");
  options.add(at + "gradient_checkpointing", lora.gradient_checkpointing,
              "keep each layer's input alone, and compute the rest again for the gradient: less memory, slower");
}

void bind(Options& options, const std::string& prefix, OptimizerOptions& optimizer) {
  const std::string at = prefix + ".";
  options.add(at + "learning_rate", optimizer.learning_rate, "AdamW's step size", at_least_0);
  options.add(at + "lr_scheduler_type", optimizer.lr_scheduler_type, "how it changes after the warm-up",
              {"constant", "linear", "cosine"});
  options.add(at + "warmup_steps", optimizer.warmup_steps, "steps in which it rises from 0", at_least_0);
  options.add(at + "adam_beta1", optimizer.adam_beta1, "AdamW's memory of the gradient", share);
  options.add(at + "adam_beta2", optimizer.adam_beta2, "AdamW's memory of its square", share);
  options.add(at + "adam_epsilon", optimizer.adam_epsilon, "AdamW's guard against division by zero", at_least_0);
  options.add(at + "weight_decay", optimizer.weight_decay, "AdamW's decay", at_least_0);
  options.add(at + "max_grad_norm", optimizer.max_grad_norm, "gradients are scaled down to this norm; 0: never",
              at_least_0);
}

void bind(Options& options, const std::string& prefix, GrpoOptions& grpo) {
  const std::string at = prefix + ".";
  options.add(at + "max_steps", grpo.max_steps, "steps", at_least_0);
  options.add(at + "prompts_per_step", grpo.prompts_per_step, "groups in a step", at_least_1);
  options.add(at + "num_generations", grpo.num_generations, "answers in a group", {2, 4096});
  options.add(at + "max_completion_length", grpo.max_completion_length, "tokens of an answer, at the most", at_least_1);
  options.add(at + "temperature", grpo.temperature, "of sampling", {1e-3, 100});
  options.add(at + "top_k", grpo.top_k, "keep the k likeliest tokens; 0: all", at_least_0);
  options.add(at + "top_p", grpo.top_p, "keep the smallest set of tokens that reaches this probability", share);
  options.add(at + "min_p", grpo.min_p, "keep tokens at least this fraction as likely as the likeliest", share);
  options.add(at + "num_iterations", grpo.num_iterations, "updates on the same answers", at_least_1);
  options.add(at + "max_num_gen_batches", grpo.max_num_gen_batches,
              "with too few groups that have a differential, a step samples up to so often in all; 1: once",
              at_least_1);
  options.add(at + "advantage_estimator", grpo.advantage.advantage_estimator, "what a reward is compared with",
              {"grpo", "rloo", "reinforce_plus_plus", "reinforce_plus_plus_baseline", "gae"});
  options.add(at + "scale_rewards", grpo.advantage.scale_rewards, "what grpo's advantages are divided by",
              {"group", "batch", "none"});
  options.add(at + "normalize_advantages", grpo.advantage.normalize_advantages,
              "whether rloo's advantages are divided by the batch's standard deviation");
  options.add(at + "advantage_filter", grpo.advantage.advantage_filter, "which advantages count", {"all", "positive"});
  options.add(at + "gamma", grpo.critic.gamma, "gae: what a token later is worth", share);
  options.add(at + "lam", grpo.critic.lam, "gae: 1 trusts the rewards alone, 0 the critic", share);
  options.add(at + "vf_coef", grpo.critic.vf_coef, "gae: weight of the critic's loss", at_least_0);
  options.add(at + "cliprange_value", grpo.critic.cliprange_value,
              "gae: how far a value may move from the one before the update", at_least_0);
  options.add(at + "loss_type", grpo.loss.loss_type, "how token losses become one number",
              {"grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo"});
  options.add(at + "importance_sampling_level", grpo.loss.importance_sampling_level, "of the ratio that is clipped",
              {"token", "sequence", "trajectory"});
  options.add(at + "beta", grpo.loss.beta, "weight of the KL to the model before training", at_least_0);
  options.add(at + "kl_estimator", grpo.loss.kl_estimator, "how a token estimates that KL", {"k1", "k2", "k3"});
  options.add(at + "entropy_coef", grpo.loss.entropy_coef, "weight of the entropy bonus", at_least_0);
  options.add(at + "epsilon", grpo.loss.epsilon, "clip range below 1", share);
  options.add(at + "epsilon_high", grpo.loss.epsilon_high, "clip range above 1", at_least_0);
  options.add(at + "delta", grpo.loss.delta, "upper bound of the ratio (two-sided clipping); 0: none", at_least_0);
  options.add(at + "kl_steps", grpo.kl_steps, "with beta 0: steps between two measurements of the KL; 0: never",
              at_least_0);
  options.add(at + "kept_activations_gib", grpo.kept_activations_gib,
              "memory for activations that generation leaves to the update; 0: compute them again", at_least_0);
  options.add(
      at + "max_staleness", grpo.max_staleness,
      "updates that answers may be behind the weights: 1 samples a step's while the judge scores the one's before",
      {0, 1});
  options.add(at + "importance_sampling_mode", grpo.loss.importance_sampling_mode,
              "with max_staleness 1: how the ratio to the weights that sampled corrects the loss",
              {"token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "none"});
  options.add(at + "importance_sampling_clip_max", grpo.loss.importance_sampling_clip_max, "that ratio's upper bound",
              at_least_0);
  options.add(at + "importance_sampling_clip_min", grpo.loss.importance_sampling_clip_min, "that ratio's lower bound",
              at_least_0);
  bind(options, prefix, grpo.optimizer);
  bind(options, prefix, grpo.lora);
}

}  // namespace backburn::train
