// Against PyTorch as tools/make_loss_goldens.py writes it out.
#include "backburn/train/critic.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backburn/base/json.h"

namespace backburn::train {
namespace {

using testing::DoubleNear;
using testing::Pointwise;

at::Tensor floats(const Json& list) { return at::tensor(list.get<std::vector<float>>()); }

TEST(Critic, AdvantagesReturnsAndLossAreThoseOfTheReference) {
  const Json golden = read_json_file(TEST_DATA_DIR "/policy_loss.json");
  const Json& ppo = golden["ppo"];
  const auto lengths = golden["lengths"].get<std::vector<int64_t>>();
  const auto rewards = ppo["rewards"].get<std::vector<double>>(), values = ppo["values"].get<std::vector<double>>();
  for (const Json& wanted : ppo["cases"]) {
    CriticOptions options{wanted["gamma"], wanted["lam"], 0.1, wanted["cliprange_value"]};
    auto found = generalized_advantages(rewards, values, lengths, options);
    const auto expect = [&](const std::vector<double>& list, const char* key) {
      EXPECT_THAT(list, Pointwise(DoubleNear(1e-9), wanted[key].get<std::vector<double>>())) << key;
    };
    expect(found.advantages, "advantages");
    expect(found.returns, "returns");
    whiten(found.advantages);
    expect(found.advantages, "whitened");

    const auto now = floats(ppo["new_values"]).requires_grad_(true);
    const auto loss = value_loss(now, floats(ppo["values"]), floats(wanted["returns"]), options.cliprange_value);
    loss.backward();
    EXPECT_NEAR(loss.item<double>() / wanted["loss"].get<double>(), 1, 1e-5);
    EXPECT_LT((now.grad() - floats(wanted["gradient"])).abs().max().item<double>(), 1e-5);
  }
}

TEST(Critic, ReadsAHiddenState) {
  const auto hidden = at::tensor({1.0F, 2.0F, 3.0F, -1.0F}).view({2, 2});
  const auto values = values_of(at::tensor({0.5F, -1.0F, 4.0F}), hidden);
  EXPECT_EQ(values[0].item<float>(), 2.5F);
  EXPECT_EQ(values[1].item<float>(), 6.5F);
}

}  // namespace
}  // namespace backburn::train
