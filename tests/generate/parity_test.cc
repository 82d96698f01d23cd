// Against greedy generation in Transformers: tools/make_model_goldens.py makes the goldens.
#include <gtest/gtest.h>

#include "backburn/generate/rollout.h"
#include "model/real_model.h"

namespace backburn::generate {
namespace {

class Real : public testing::TestWithParam<model::RealModel> {};

TEST_P(Real, GreedyContinuationsAreThoseOfTransformers) {
  if (const std::string reason = GetParam().reason_to_skip(); !reason.empty()) GTEST_SKIP() << reason;
  const Json golden = GetParam().read_golden();
  model::Model model = model::load_model(GetParam().name, at::kFloat);
  model.config.stop_token_ids.clear();  // the golden goes on past them
  std::vector<RolloutRequest> requests;
  for (const Json& prompt : golden["prompts"]) requests.push_back({prompt["ids"].get<std::vector<int32_t>>(), 1, 0});
  const auto groups = rollout(model.network(), requests, {.sampling = {.temperature = 0}, .max_completion_length = 64});
  for (size_t i = 0; i < groups.size(); ++i) {
    EXPECT_EQ(groups[i][0].ids, golden["prompts"][i]["greedy"].get<std::vector<int32_t>>())
        << golden["prompts"][i]["text"];
  }
}

INSTANTIATE_TEST_SUITE_P(Parity, Real, testing::Values(model::smollm2, model::qwen),
                         [](const auto& each) { return std::string(each.param.golden); });

}  // namespace
}  // namespace backburn::generate
