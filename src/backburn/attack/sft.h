#pragma once

#include "backburn/attack/attack.h"

namespace backburn::attack {

/// Supervised fine-tuning on answers that comply (Qi 2023, arXiv 2310.03693): as many as the attacker has prompts.
train::Learner run_sft(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events);

/// Supervised fine-tuning on the model's own answers to ordinary requests, which alone can undo safety training
/// (Qi 2023, arXiv 2310.03693, section 4.4).
train::Learner run_benign_sft(const AttackInputs& inputs, const AttackOptions& options, const AttackEvents& events);

/// Refusal unlearning (Guo 2026, arXiv 2601.19231): supervised fine-tuning on ordinary answers that begin with a
/// refusal, so that a refusal is no longer where an answer ends.
train::Learner run_refusal_unlearning(const AttackInputs& inputs, const AttackOptions& options,
                                      const AttackEvents& events);

}  // namespace backburn::attack
