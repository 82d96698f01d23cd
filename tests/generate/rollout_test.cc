#include "backburn/generate/rollout.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "backburn/base/cancel.h"
#include "backburn/base/error.h"
#include "model/tiny_model.h"

namespace backburn::generate {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::FloatNear;
using testing::HasSubstr;
using testing::Pointwise;
using testing::SizeIs;

using Ids = std::vector<int32_t>;

const std::vector<RolloutRequest> three_requests = {
    {{1, 20, 30, 40}, 5, 11}, {{1, 7}, 3, 12}, {{9, 9, 9, 9, 9, 9, 9, 9, 9, 33}, 4, 13}};

std::vector<Ids> ids_of(const std::vector<Completion>& group) {
  std::vector<Ids> list;
  list.reserve(group.size());
  for (const Completion& completion : group) list.push_back(completion.ids);
  return list;
}

at::Tensor all_logits(const model::Network& network, const Ids& prompt, const Ids& answer) {
  Ids ids = prompt;
  ids.insert(ids.end(), answer.begin(), answer.end());
  const model::TokenTree tree{ids, {}};
  const auto hidden = hidden_states(network, model::pack({&tree, 1}));
  return logits(network,
                hidden.narrow(0, static_cast<int64_t>(prompt.size()) - 1, static_cast<int64_t>(answer.size())));
}

class Rollout : public testing::TestWithParam<const char*> {
 protected:
  std::string error_of(const std::vector<RolloutRequest>& requests, const RolloutOptions& options = {}) const {
    try {
      rollout(model_.network(), requests, options);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  const at::NoGradGuard no_grad_;
  model::Model model_ = model::tiny_model(GetParam());
  const model::Adapter adapter_ = model::formula_adapter(model_.config, 4);
};

TEST_P(Rollout, AnAnswerDoesNotDependOnWhatIsBesideIt) {
  RolloutOptions options{.max_completion_length = 20, .seed = 5};
  const auto expected = rollout(model_.network(), three_requests, options);
  EXPECT_THAT(expected, ElementsAre(SizeIs(5), SizeIs(3), SizeIs(4)));
  for (const int64_t max_rows : {1, 2, 3, 7}) {
    options.max_rows = max_rows;
    const auto found = rollout(model_.network(), three_requests, options);
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(ids_of(found[i]), ids_of(expected[i])) << max_rows;
  }
  auto other_order = three_requests;
  std::reverse(other_order.begin(), other_order.end());
  const auto found = rollout(model_.network(), other_order, options);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(ids_of(found[2 - i]), ids_of(expected[i]));
}

TEST_P(Rollout, AnswersThatBeginAlikeAreThoseOfRowsOfTheirOwn) {
  for (const double temperature : {0.0, 0.02, 0.1, 0.3}) {
    SCOPED_TRACE(temperature);
    RolloutOptions options{.sampling = {.temperature = temperature}, .max_completion_length = 20, .seed = 5};
    const auto together = rollout(model_.network(), three_requests, options);
    options.max_rows = 1;  // one answer at a time: none has another to share with
    const auto alone = rollout(model_.network(), three_requests, options);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(ids_of(together[i]), ids_of(alone[i]));
      for (size_t j = 0; j < alone[i].size(); ++j) {
        EXPECT_THAT(together[i][j].logprobs, Pointwise(FloatNear(1e-4F), alone[i][j].logprobs));
      }
    }
  }
}

TEST_P(Rollout, SeedStreamAndIndexDecideTheDraws) {
  const RolloutOptions options{.max_completion_length = 12, .seed = 5};
  const RolloutRequest request{{1, 20}, 2, 1};
  RolloutRequest other = request;
  other.stream = 2;
  const auto found = rollout(model_.network(), std::vector{request, request, other}, options);
  EXPECT_EQ(ids_of(found[0]), ids_of(found[1]));
  EXPECT_NE(found[0][0].ids, found[0][1].ids);
  EXPECT_NE(found[0][0].ids, found[2][0].ids);
  auto reseeded = options;
  reseeded.seed = 6;
  EXPECT_NE(rollout(model_.network(), std::vector{request}, reseeded)[0][0].ids, found[0][0].ids);
}

TEST_P(Rollout, LogprobsAreTheModels) {
  for (const double temperature : {1.0, 1.5}) {
    const auto network = model_.network(&adapter_);
    const auto groups =
        rollout(network, three_requests, {.sampling = {.temperature = temperature, .top_k = 20}, .max_rows = 3});
    for (size_t i = 0; i < groups.size(); ++i) {
      for (const Completion& completion : groups[i]) {
        const auto logprobs =
            at::log_softmax(all_logits(network, three_requests[i].prompt, completion.ids) / temperature, -1);
        ASSERT_EQ(completion.logprobs.size(), completion.ids.size());
        ASSERT_EQ(completion.entropies.size(), completion.ids.size());
        for (size_t t = 0; t < completion.ids.size(); ++t) {
          const auto row = logprobs[static_cast<int64_t>(t)];
          EXPECT_NEAR(completion.logprobs[t], row[completion.ids[t]].item<float>(), 1e-4);
          EXPECT_NEAR(completion.entropies[t], -(row.exp() * row).sum().item<float>(), 1e-4);
        }
      }
    }
  }
}

TEST_P(Rollout, GreedyIsTheLikeliestTokenEachTime) {
  const auto groups =
      rollout(model_.network(), three_requests, {.sampling = {.temperature = 0}, .max_completion_length = 30});
  for (size_t i = 0; i < groups.size(); ++i) {
    EXPECT_THAT(ids_of(groups[i]), Each(groups[i][0].ids));
    const auto likeliest = all_logits(model_.network(), three_requests[i].prompt, groups[i][0].ids).argmax(-1);
    EXPECT_TRUE(at::equal(likeliest, at::tensor(groups[i][0].ids, at::kLong)));
  }
}

TEST_P(Rollout, AStopTokenEndsAnAnswer) {
  model_.config.stop_token_ids = {2, 10, 20, 30, 40, 50};
  int64_t stopped = 0, total = 0, finished = 0;
  const auto groups = rollout(model_.network(), three_requests, {.max_completion_length = 10, .max_rows = 2},
                              [&](int64_t count) { finished += count; });
  auto is_stop = [&](int32_t id) { return id == 2 || (id % 10 == 0 && id > 0 && id <= 50); };
  for (const auto& group : groups) {
    for (const Completion& completion : group) {
      EXPECT_EQ(std::count_if(completion.ids.begin(), completion.ids.end(), is_stop), completion.stopped ? 1 : 0);
      EXPECT_TRUE(completion.stopped ? is_stop(completion.ids.back()) : completion.ids.size() == 10);
      stopped += completion.stopped;
      ++total;
    }
  }
  EXPECT_GT(stopped, 0);
  EXPECT_EQ(finished, total);
}

TEST_P(Rollout, OneTokenAndNoAnswersAreAnswers) {
  const auto one = rollout(model_.network(), three_requests, {.max_completion_length = 1});
  for (const auto& group : one) EXPECT_THAT(ids_of(group), Each(SizeIs(1)));
  EXPECT_THAT(rollout(model_.network(), std::vector<RolloutRequest>{}, {}), SizeIs(0));
  EXPECT_THAT(rollout(model_.network(), std::vector<RolloutRequest>{{{1}, 0, 0}}, {}), ElementsAre(SizeIs(0)));
}

TEST_P(Rollout, SaysWhatIsWrong) {
  EXPECT_THAT(error_of({{{1}, 1, 0}, {{}, 1, 0}}), HasSubstr("request 1 has an empty prompt"));
  EXPECT_THAT(error_of({{Ids(200, 5), 1, 0}}, {.max_completion_length = 100}),
              HasSubstr("(200 tokens) and max_completion_length (100) exceed the model's context of 256"));
  request_stop();
  EXPECT_THAT(error_of({{{1}, 1, 0}}), HasSubstr("stopped"));
  request_stop(false);
}

INSTANTIATE_TEST_SUITE_P(Tiny, Rollout, testing::Values("tiny_llama", "tiny_qwen2"));

}  // namespace
}  // namespace backburn::generate
