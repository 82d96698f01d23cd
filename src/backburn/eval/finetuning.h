#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "backburn/base/json.h"
#include "backburn/base/options.h"
#include "backburn/eval/benign_task.h"
#include "backburn/eval/evaluation.h"
#include "backburn/train/grpo.h"

/// Fine-tunability: whether a hardened model still learns a benign task as the original does (TokenBuncher,
/// arXiv 2508.20697, and FRPO measure it so).
namespace backburn::eval {

struct FinetuneOptions {
  std::string method = "sft";     ///< sft (supervised) or grpo (RL; the reward is an exact match)
  std::string task;               ///< JSON lines of {"question", "answer"}; empty: generated arithmetic
  int64_t train_questions = 800;  ///< at most
  int64_t test_questions = 200;   ///< at most
  int64_t eval_steps = 10;        ///< steps between two measurements of accuracy
  int64_t train_batch_size = 16;  ///< sft: answers in a step
  train::GrpoOptions grpo;        ///< steps, optimizer, adapter and length of answers; sampling and loss of RL
};

/// Binds the fields as "PREFIX.max_steps" and so on.
void bind(Options& options, const std::string& prefix, FinetuneOptions& finetune);

/// The task that the options name.
BenignTask task_of(const FinetuneOptions& options, uint64_t seed);

/// Whether the network's greedy answer to each question in the model's chat template is an exact match.
std::vector<bool> answered_correctly(const model::Model& model, const model::Network& network,
                                     std::span<const TaskQuestion> questions, int64_t max_completion_length);

/// Told after each step; `figures` are the step's own (loss, reward, …).
using FinetuneStep = std::function<void(const train::Learner& learner, const Json& figures)>;

/// Trains a fresh adapter on the questions, from the checkpoint if there is one (empty path: none). Same seed, same
/// bits. Errors: options that don't fit together (usage).
train::Learner finetune(const model::Model& model, std::span<const TaskQuestion> questions,
                        const FinetuneOptions& options, uint64_t seed, const std::filesystem::path& checkpoint,
                        const FinetuneStep& on_step);

}  // namespace backburn::eval
