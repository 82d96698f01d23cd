#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "backburn/base/error.h"
#include "backburn/defense/certificate.h"
#include "backburn/generate/sampler.h"
#include "backburn/model/plain_format.h"
#include "model/tiny_model.h"

namespace backburn::defense {
namespace {

using Ids = std::vector<int32_t>;

constexpr int32_t stop = 2;

// The certificate's p against every answer that a tiny model can give, listed one by one.
class CertifiedModel : public testing::Test {
 protected:
  at::Tensor next_logits(const Ids& context) const {
    const auto tokens = model::pack(std::vector<model::TokenTree>{{context, {}}});
    const auto hidden = model::hidden_states(model.network(), tokens);
    return model::logits(model.network(), hidden.narrow(0, hidden.size(0) - 1, 1));
  }

  // The distribution that is sampled from, by its definition: sort all tokens, keep the smallest set that reaches
  // top_p, divide by its mass.
  std::vector<double> next_token(const Ids& context, const generate::SamplingOptions& sampling) const {
    const auto p = at::softmax(next_logits(context).to(at::kDouble) / sampling.temperature, -1).contiguous();
    const std::vector<double> all(p.data_ptr<double>(), p.data_ptr<double>() + p.numel());
    std::vector<size_t> order(all.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return all[a] > all[b]; });
    const size_t most = sampling.top_k > 0 ? static_cast<size_t>(sampling.top_k) : all.size();
    std::vector<double> kept(all.size(), 0);
    double mass = 0;
    for (size_t i = 0; i < most && (i == 0 || mass < sampling.top_p); ++i) {
      if (all[order[i]] < sampling.min_p * all[order[0]]) break;
      mass += all[order[i]];
      kept[order[i]] = all[order[i]];
    }
    for (double& each : kept) each /= mass;
    return kept;
  }

  // The chance of every beginning of two tokens (of one, when it is the stop token).
  std::map<Ids, double> answers(const Ids& prompt, const generate::SamplingOptions& sampling) const {
    std::map<Ids, double> chances;
    const auto first = next_token(prompt, sampling);
    for (int32_t a = 0; a < 64; ++a) {
      if (a == stop || first[a] == 0) {
        chances[{a}] = first[a];
        continue;
      }
      auto context = prompt;
      context.push_back(a);
      const auto second = next_token(context, sampling);
      for (int32_t b = 0; b < 64; ++b) chances[{a, b}] = first[a] * second[b];
    }
    return chances;
  }

  Ids refusal_ids(const std::string& refusal) const {
    auto ids = model.tokenizer.encode(refusal, false);
    ids.push_back(stop);
    return ids;
  }

  CertificateOptions options_for(const generate::SamplingOptions& sampling) const {
    CertificateOptions options;
    options.temperatures = {sampling.temperature};
    options.top_p = sampling.top_p;
    options.top_k = sampling.top_k;
    options.min_p = sampling.min_p;
    return options;
  }

  model::Model model = model::tiny_model("tiny_llama");
  std::vector<text::Prompt> prompts = {{"a", "ABC", "train", "x"}, {"b", "DE", "heldout", "y"}};
};

TEST_F(CertifiedModel, PIsTheSumOverAllOtherAnswersWhateverTheSampling) {
  const std::vector<generate::SamplingOptions> samplings = {{1},           {0.7},      {2},          {1, 0, 0.6},
                                                            {1.5, 0, 0.9}, {1, 20, 1}, {1, 40, 0.8}, {1, 0, 1, 0.5}};
  for (const auto& sampling : samplings) {
    SCOPED_TRACE(testing::Message() << "T " << sampling.temperature << " top_p " << sampling.top_p << " top_k "
                                    << sampling.top_k << " min_p " << sampling.min_p);
    // The likeliest answers of two tokens are kept under every cut here, others by none: look at both kinds.
    for (const std::string refusal : {"A", "K", "Z", "f"}) {
      const auto bound = certify(model, model.network(), prompts, refusal, options_for(sampling)).temperatures.front();
      for (size_t i = 0; i < prompts.size(); ++i) {
        double others = 0, alike = 0, total = 0;
        for (const auto& [ids, chance] : answers(model::chat_prompt(model, prompts[i].text), sampling)) {
          total += chance;
          others += ids == refusal_ids(refusal) ? 0 : chance;
          alike += std::pow(chance, 8);
        }
        EXPECT_NEAR(total, 1, 1e-12);
        EXPECT_NEAR(bound.rows[i].p, others, 1e-6);
        EXPECT_NEAR(bound.rows[i].signal, signal_bound(bound.rows[i].p, 8), 1e-9);
        EXPECT_GE(bound.rows[i].signal, 1 - alike - 1e-9) << "eight samples differ more often than the bound allows";
      }
    }
  }
}

TEST_F(CertifiedModel, ACutTokenLeavesNoChanceAndALoneTokenNoDoubt) {
  const auto p_of = [&](const std::string& refusal, int64_t top_k) {
    return certify(model, model.network(), prompts, refusal, options_for({1, top_k, 1})).temperatures.front().rows[0].p;
  };
  const auto likeliest = next_token(model::chat_prompt(model, "ABC"), {1, 1, 1});
  const auto id = static_cast<int32_t>(std::max_element(likeliest.begin(), likeliest.end()) - likeliest.begin());
  ASSERT_GT(id, stop);
  const std::string first = model.tokenizer.decode(Ids{id});
  EXPECT_LT(p_of(first, 64), 1);
  EXPECT_EQ(p_of(first == "A" ? "B" : "A", 1), 1);
}

TEST_F(CertifiedModel, TheCutIsTheSamplersOwn) {
  const auto prompt = model::chat_prompt(model, "ABC");
  const generate::SamplingOptions sampling{1.3, 30, 0.7, 0.0};
  std::vector<float> uniforms;
  constexpr int draws = 20000;
  uniforms.reserve(draws);
  for (int i = 0; i < draws; ++i) uniforms.push_back((static_cast<float>(i) + 0.5F) / draws);
  std::vector<double> drawn(64);
  const auto logits = next_logits(prompt).expand({draws, 64}).contiguous();
  for (const auto& token : generate::sample(logits, uniforms, sampling)) drawn[token.id] += 1.0 / draws;
  const auto expected = next_token(prompt, sampling);
  for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(drawn[i], expected[i], 2.0 / draws) << "token " << i;
}

TEST_F(CertifiedModel, SeveralRefusalsAddUpAndBoundTheirOwnKindOfReward) {
  auto options = options_for({1});
  options.refusals = {"K", "Z", "A"};  // the canonical one again counts once
  options.num_generations = 4;
  const auto certificate = certify(model, model.network(), prompts, "A", options);
  EXPECT_EQ(certificate.refusals, (std::vector<std::string>{"A", "K", "Z"}));
  const auto& row = certificate.temperatures.front().rows[0];
  const auto all = answers(model::chat_prompt(model, "ABC"), {1});
  double none = 1, alike = 0;
  for (const std::string refusal : {"A", "K", "Z"}) {
    none -= all.at(refusal_ids(refusal));
    alike += std::pow(all.at(refusal_ids(refusal)), 4);
  }
  EXPECT_NEAR(row.p, none, 1e-6);
  EXPECT_NEAR(row.signal, 1 - alike, 1e-9);
  EXPECT_NEAR(row.signal_on_set, 1 - std::pow(1 - none, 4), 1e-9);
  EXPECT_LT(row.signal_on_set, row.signal);
}

TEST_F(CertifiedModel, ARefusalThatBeginsAnotherOneIsAnError) {
  // Token 2 closes answers; text that spells it is encoded letter by letter, so only a clash by hand gets here.
  auto clashing = model;
  clashing.config.stop_token_ids = {model.tokenizer.encode("A", false).front()};
  auto options = options_for({1});
  options.refusals = {"BAC"};
  EXPECT_THROW(certify(clashing, clashing.network(), prompts, "B", options), Error);
}

TEST_F(CertifiedModel, TheWorstSituationCounts) {
  auto options = options_for({1});
  options.system_prompts = {"XY", "ZZ"};
  options.prefixes = {"HI"};
  options.prompt_templates = {"{}", "AB {} C"};  // the plain one is among them anyhow
  const auto certificate = certify(model, model.network(), prompts, "K", options);
  ASSERT_EQ(certificate.situations.size(), 12);
  const auto by_hand = [&](const std::string& system, const std::string& prefix, const std::string& prompt) {
    auto ids = model::chat_prompt(model, prompt, system);
    for (const int32_t id : model.tokenizer.encode(prefix, false)) ids.push_back(id);
    return 1 - answers(ids, {1}).at(refusal_ids("K"));
  };
  double worst = 0;
  for (const std::string system : {"", "XY", "ZZ"}) {
    for (const std::string prefix : {"", "HI"}) {
      worst = std::max(worst, by_hand(system, prefix, prompts[0].text));
      worst = std::max(worst, by_hand(system, prefix, "AB " + prompts[0].text + " C"));
    }
  }
  EXPECT_NEAR(certificate.temperatures.front().rows[0].p, worst, 1e-6);
  double largest = 0;
  for (const auto& each : certificate.situations) largest = std::max(largest, each.p_max);
  options.plain_formats = {"{}: "};
  const auto with_format = certify(model, model.network(), prompts, "K", options);
  ASSERT_EQ(with_format.situations.size(), 24);
  EXPECT_EQ(with_format.situations[12].situation.plain_format, "{}: ");
  const auto plain = model::in_plain_format(model, "{}: ");
  EXPECT_NEAR(with_format.situations[12].p_max,
              certify(plain, plain.network(), prompts, "K", options_for({1})).temperatures.front().p_max, 1e-9);
  EXPECT_GE(with_format.temperatures.front().rows[0].p, certificate.temperatures.front().rows[0].p);
  options.prompt_templates = {"no place"};
  EXPECT_THROW(certify(model, model.network(), prompts, "K", options), Error);
  EXPECT_DOUBLE_EQ(certificate.temperatures.front().p_max, largest);
}

TEST_F(CertifiedModel, SaysBehindWhichTokenTheRefusalIsLeft) {
  const auto certificate = certify(model, model.network(), prompts, "K", options_for({1}));
  ASSERT_EQ(certificate.leaks.size(), prompts.size());
  EXPECT_GE(certificate.leaks.front().p, certificate.leaks.back().p);
  for (const auto& leak : certificate.leaks) {
    const auto& prompt = *std::ranges::find(prompts, leak.id, &text::Prompt::id);
    auto context = model::chat_prompt(model, prompt.text);
    const auto refusal = refusal_ids("K");
    ASSERT_EQ(refusal.size(), 2);
    const double first = next_token(context, {1})[refusal[0]];
    context.push_back(refusal[0]);
    const double second = next_token(context, {1})[refusal[1]];
    EXPECT_NEAR(leak.p, 1 - first * second, 1e-6);
    EXPECT_NEAR(leak.p_there, 1 - std::min(first, second), 1e-6);
    EXPECT_EQ(leak.after, first <= second ? "" : "K");
  }
}

TEST_F(CertifiedModel, HeldOutPromptsSpeakForUnseenOnes) {
  const auto certificate = certify(model, model.network(), prompts, "K", options_for({1}));
  const auto& bound = certificate.temperatures.front();
  ASSERT_TRUE(bound.unseen);
  EXPECT_EQ(bound.unseen->units, 1);
  prompts.pop_back();
  EXPECT_FALSE(certify(model, model.network(), prompts, "K", options_for({1})).temperatures.front().unseen);
}

}  // namespace
}  // namespace backburn::defense
