// Against TRL's GRPOTrainer and RLOOTrainer: tools/make_loss_goldens.py makes the goldens.
#include "backburn/train/policy_loss.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "backburn/base/error.h"
#include "backburn/base/json.h"

namespace backburn::train {
namespace {

using testing::HasSubstr;

class PolicyLossGolden : public testing::Test {
 protected:
  at::Tensor tensor(const char* key) const { return at::tensor(golden_[key].get<std::vector<float>>()); }

  // Answers [first, last) of the golden, as a part of the step may hold them.
  PolicyBatch batch(const Json& wanted, size_t first, size_t last) const {
    const auto lengths = golden_["lengths"].get<std::vector<int64_t>>();
    const auto advantages = golden_["advantages"].get<std::vector<double>>();
    const auto begin = std::accumulate(lengths.begin(), lengths.begin() + first, int64_t{0});
    const auto size = std::accumulate(lengths.begin() + first, lengths.begin() + last, int64_t{0});
    auto part = [&](const char* key) { return tensor(key).narrow(0, begin, size).clone(); };
    PolicyBatch batch{part("logprobs").requires_grad_(true), {}, {}, {}, {}, {}};
    if (wanted["old"] == "different") batch.old_logprobs = part("old_logprobs");
    if (wanted["beta"] != 0.0) batch.reference_logprobs = part("reference_logprobs");
    if (wanted.contains("importance_sampling_mode")) batch.sampling_logprobs = part("sampling_logprobs");
    if (wanted.contains("entropy_coef")) batch.entropies = part("entropies").requires_grad_(true);
    batch.lengths.assign(lengths.begin() + first, lengths.begin() + last);
    batch.advantages.assign(advantages.begin() + first, advantages.begin() + last);
    return batch;
  }

  PolicyLossOptions options(const Json& wanted) const {
    PolicyLossOptions options;
    options.loss_type = wanted["loss_type"];
    options.importance_sampling_level = wanted["importance_sampling_level"];
    options.epsilon = wanted["epsilon"];
    options.epsilon_high = wanted["epsilon_high"];
    options.delta = wanted["delta"];
    options.beta = wanted["beta"];
    options.entropy_coef = wanted.value("entropy_coef", 0.0);
    options.max_completion_length = golden_["max_completion_length"];
    options.importance_sampling_mode = wanted.value("importance_sampling_mode", "token_truncate");
    options.importance_sampling_clip_min = wanted.value("importance_sampling_clip_min", 0.0);
    options.importance_sampling_clip_max = wanted.value("importance_sampling_clip_max", 3.0);
    return options;
  }

  const Json golden_ = read_json_file(TEST_DATA_DIR "/policy_loss.json");
  const LossNormalizer whole_{static_cast<int64_t>(golden_["lengths"].size()), tensor("logprobs").size(0)};
};

TEST_F(PolicyLossGolden, LossAndGradientAreTrls) {
  for (const Json& wanted : golden_["cases"]) {
    const PolicyBatch all = batch(wanted, 0, 6);
    const PolicyLoss found = policy_loss(options(wanted), all, whole_);
    found.loss.backward();
    SCOPED_TRACE(wanted["loss_type"].get<std::string>() + " " + wanted["importance_sampling_level"].get<std::string>() +
                 " beta " + wanted["beta"].dump() + " old " + wanted["old"].dump());
    EXPECT_NEAR(found.loss.item<double>(), wanted["loss"].get<double>(), 2e-6);
    const auto gradient = at::tensor(wanted["gradient"].get<std::vector<float>>());
    EXPECT_LT((all.logprobs.grad() - gradient).abs().max().item<double>(), 2e-6);
    if (!all.entropies.defined()) continue;
    const auto of_entropies = at::tensor(wanted["entropy_gradient"].get<std::vector<float>>());
    EXPECT_LT((all.entropies.grad() - of_entropies).abs().max().item<double>(), 2e-7);
  }
}

TEST_F(PolicyLossGolden, MetricsAreTrls) {
  for (const Json& wanted : golden_["cases"]) {
    const PolicyLoss found = policy_loss(options(wanted), batch(wanted, 0, 6), whole_);
    const auto counted = static_cast<double>(found.counted);
    auto expect = [&](const char* key, double value) {
      if (!wanted.contains(key)) return;
      EXPECT_NEAR(value, wanted[key].get<double>(), 1e-6) << wanted["loss_type"] << key;
    };
    expect("kl_mean", found.kl_sum / static_cast<double>(whole_.tokens));
    expect("clip_low_mean", static_cast<double>(found.clipped_low) / counted);
    expect("clip_high_mean", static_cast<double>(found.clipped_high) / counted);
    expect("importance_mean", found.importance_sum / static_cast<double>(whole_.tokens));
    expect("cispo_clip_ratio", static_cast<double>(found.clipped_high) / counted);
  }
}

TEST_F(PolicyLossGolden, PartsAddUpToTheStep) {
  for (const Json& wanted : golden_["cases"]) {
    double loss = 0, kl = 0;
    for (const auto& [first, last] : {std::pair{0, 2}, {2, 3}, {3, 6}}) {
      const PolicyLoss part = policy_loss(options(wanted), batch(wanted, first, last), whole_);
      loss += part.loss.item<double>();
      kl += part.kl_sum;
    }
    EXPECT_NEAR(loss, wanted["loss"].get<double>(), 2e-6) << wanted["loss_type"];
    EXPECT_NEAR(kl / 26, wanted.value("kl_mean", 0.0), 1e-6);
  }
}

TEST_F(PolicyLossGolden, EveryKlEstimatorIsThatOfItsDefinition) {
  for (const Json& wanted : golden_["kl_estimates"]) {
    PolicyLossOptions options;
    options.loss_type = "dapo";
    options.beta = 1;
    options.kl_estimator = wanted["kl_estimator"];
    PolicyBatch all{tensor("logprobs").requires_grad_(true), {}, tensor("reference_logprobs"), {}, {26}, {0.0}};
    const PolicyLoss found = policy_loss(options, all, whole_);
    found.loss.backward();
    EXPECT_NEAR(found.loss.item<double>(), wanted["loss"].get<double>(), 2e-6) << options.kl_estimator;
    EXPECT_NEAR(found.kl_sum / 26, wanted["loss"].get<double>(), 2e-6) << options.kl_estimator;
    const auto gradient = at::tensor(wanted["gradient"].get<std::vector<float>>());
    EXPECT_LT((all.logprobs.grad() - gradient).abs().max().item<double>(), 2e-6) << options.kl_estimator;
  }
}

TEST_F(PolicyLossGolden, AnAdvantageATokenIsAnAdvantageAnAnswerSpreadOut) {
  for (const Json& wanted : golden_["cases"]) {
    if (wanted["importance_sampling_level"] != "token") continue;
    PolicyBatch spread = batch(wanted, 0, 6);
    std::vector<double> each;
    for (size_t i = 0; i < 6; ++i) each.insert(each.end(), spread.lengths[i], spread.advantages[i]);
    spread.advantages = each;
    EXPECT_NEAR(policy_loss(options(wanted), spread, whole_).loss.item<double>(), wanted["loss"].get<double>(), 2e-6);
  }
}

TEST_F(PolicyLossGolden, WithoutACorrectionOlderAnswersCountAsTheyAre) {
  PolicyLossOptions options;
  const PolicyBatch plain = batch(golden_["cases"][0], 0, 6);
  PolicyBatch older = plain;
  older.sampling_logprobs = tensor("sampling_logprobs");
  const auto loss = [&](const PolicyBatch& all) { return policy_loss(options, all, whole_).loss.item<double>(); };
  EXPECT_NE(loss(older), loss(plain));
  options.importance_sampling_mode = "none";
  EXPECT_EQ(loss(older), loss(plain));
}

TEST(PolicyLoss, SaysWhatIsWrong) {
  const PolicyBatch batch{at::zeros({2}), {}, {}, {}, {2}, {1.0}};
  auto error_of = [&](const PolicyLossOptions& options) -> std::string {
    try {
      policy_loss(options, batch, {1, 2});
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  PolicyLossOptions options;
  options.loss_type = "gppo";
  EXPECT_THAT(error_of(options), HasSubstr("loss_type \"gppo\" is unknown"));
  options = {};
  options.importance_sampling_level = "word";
  EXPECT_THAT(error_of(options), HasSubstr("\"word\" is unknown"));
  options = {};
  options.beta = 0.1;
  EXPECT_THAT(error_of(options), HasSubstr("reference model"));
  options = {};
  options.entropy_coef = 0.1;
  EXPECT_THAT(error_of(options), HasSubstr("needs the entropies"));
  options = {};
  options.importance_sampling_mode = "token_clip";
  EXPECT_EQ(error_of(options), "no error");  // nothing to correct
  PolicyBatch older = batch;
  older.sampling_logprobs = at::zeros({2});
  EXPECT_THROW(policy_loss(options, older, {1, 2}), Error);
  options = {};
  options.kl_estimator = "k4";
  const PolicyBatch held{at::zeros({2}), {}, at::zeros({2}), {}, {2}, {1.0}};
  EXPECT_THROW(policy_loss(options, held, {1, 2}), Error);
}

}  // namespace
}  // namespace backburn::train
