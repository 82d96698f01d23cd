#include "backburn/defense/hidden.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "backburn/model/residual_stream.h"

namespace backburn::defense {

AnswerBatch pack_answers(std::span<const train::Example> examples) {
  std::vector<model::TokenTree> trees;
  for (const auto& example : examples) trees.push_back({example.prompt, {example.answer}});
  auto tokens = model::pack(trees);
  auto predictions = train::branch_predictions(tokens);
  return {std::move(tokens), std::move(predictions)};
}

std::vector<size_t> layers_at(std::span<const double> depths, size_t layers) {
  std::set<size_t> chosen;
  for (const double depth : depths) {
    const auto place = std::llround(depth * static_cast<double>(layers));
    chosen.insert(static_cast<size_t>(std::max<long long>(1, place)) - 1);
  }
  return {chosen.begin(), chosen.end()};
}

std::vector<at::Tensor> answer_streams(const model::Network& network, const AnswerBatch& batch,
                                       std::span<const size_t> layers) {
  std::vector<at::Tensor> streams;
  model::visited_hidden_states(network, batch.tokens, [&](size_t layer, const at::Tensor& stream) {
    if (std::find(layers.begin(), layers.end(), layer) != layers.end()) {
      streams.push_back(train::states_at(stream, batch.predictions).to(at::kFloat));
    }
    return stream;
  });
  return streams;
}

}  // namespace backburn::defense
