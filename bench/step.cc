// The two halves of a GRPO step (4 prompts × 8 answers × 48 tokens, LoRA r = 16, SmolLM2-135M), with the kernels and
// with LibTorch's layers, by turns in one run: `cmake --build build/release --target bench_step &&
// build/release/bench/bench_step`.
#include <ATen/TensorOperators.h>
#include <ATen/ops/sum.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "backburn/base/stopwatch.h"
#include "backburn/generate/rollout.h"
#include "backburn/model/load.h"
#include "backburn/model/packed.h"
#include "backburn/train/logprobs.h"

namespace {

using namespace backburn;

constexpr int turns = 5;
constexpr int64_t groups = 4, answers = 8, length = 48, prompt_length = 40;

std::vector<model::TokenTree> some_trees() {
  std::vector<model::TokenTree> trees(groups);
  for (int32_t group = 0; group < groups; ++group) {
    for (int32_t i = 0; i < prompt_length; ++i) trees[group].prefix.push_back(100 + i + group);
    for (int32_t answer = 0; answer < answers; ++answer) {
      auto& branch = trees[group].branches.emplace_back();
      for (int32_t i = 0; i < length; ++i) branch.push_back(500 + 7 * i + answer);
    }
  }
  return trees;
}

double update_seconds(const model::Network& network, const model::PackedTokens& tokens) {
  const Stopwatch watch;
  const auto predictions = train::branch_predictions(tokens);
  const auto states = train::predicting_states(network, tokens, predictions);
  train::token_logprobs(network, states, predictions.targets, 1.0).logprobs.sum().backward();
  const double seconds = watch.seconds();
  for (auto& parameter : network.adapter->parameters()) parameter.mutable_grad().reset();
  return seconds;
}

double rollout_seconds(const model::Network& network, const std::vector<model::TokenTree>& trees) {
  std::vector<generate::RolloutRequest> requests;
  for (size_t i = 0; i < trees.size(); ++i) requests.push_back({trees[i].prefix, answers, i});
  generate::RolloutOptions options;
  options.max_completion_length = length;
  const Stopwatch watch;
  generate::rollout(network, requests, options);
  return watch.seconds();
}

void print(const char* what, std::vector<double> ours, std::vector<double> theirs) {
  std::vector<double> ratios;
  for (size_t i = 0; i < ours.size(); ++i) ratios.push_back(theirs[i] / ours[i]);
  for (auto* each : {&ours, &theirs, &ratios}) std::sort(each->begin(), each->end());
  fmt::print("{}: kernels {:.2f} s, LibTorch's layers {:.2f} s, ratio {:.2f} (min {:.2f}, max {:.2f})\n", what,
             ours[turns / 2], theirs[turns / 2], ratios[turns / 2], ratios.front(), ratios.back());
}

}  // namespace

int main() {
  auto fast = model::load_model("smollm2-135m-instruct", at::kBFloat16);
  if (!fast.weights.packed) {
    fmt::print("this CPU has neither AVX-512 BF16 nor AVX2: nothing to compare\n");
    return 0;
  }
  fast.config.stop_token_ids.clear();  // all answers of full length
  auto slow = fast;
  slow.weights.packed.reset();
  const auto adapter = model::make_adapter(fast.config, {}, 1);
  const auto trees = some_trees();
  const auto tokens = model::pack(trees);
  std::vector<double> update[2], rollout[2];
  for (int turn = -1; turn < turns; ++turn) {  // the first warms up
    for (const bool with_kernels : {true, false}) {
      const auto network = (with_kernels ? fast : slow).network(&adapter);
      const double seconds[2] = {update_seconds(network, tokens), rollout_seconds(network, trees)};
      if (turn < 0) continue;
      update[with_kernels].push_back(seconds[0]);
      rollout[with_kernels].push_back(seconds[1]);
    }
  }
  print("update (forward and backward)", update[1], update[0]);
  print("rollout", rollout[1], rollout[0]);
  return 0;
}
