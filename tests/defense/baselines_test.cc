#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <numeric>
#include <set>
#include <stdexcept>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/defense/anchored.h"
#include "backburn/defense/booster.h"
#include "backburn/defense/circuit_breakers.h"
#include "backburn/defense/ctrl.h"
#include "backburn/defense/deep_alignment.h"
#include "backburn/defense/extended_refusal.h"
#include "backburn/defense/frpo.h"
#include "backburn/defense/harmful_answers.h"
#include "backburn/defense/hidden.h"
#include "backburn/defense/lisa.h"
#include "backburn/defense/refusal_sft.h"
#include "backburn/defense/rep_noise.h"
#include "backburn/defense/rsn_tune.h"
#include "backburn/defense/sdd.h"
#include "backburn/defense/shadow.h"
#include "backburn/defense/tar.h"
#include "backburn/defense/token_buncher.h"
#include "backburn/defense/vaccine.h"
#include "backburn/generate/rollout.h"
#include "model/tiny_model.h"

namespace backburn::defense {
namespace {

// Every defense on a tiny random model whose "harmful" answers are those that begin with "AB".
class Baselines : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* text : {"ABC", "ACB", "BAC", "BCA", "CAB", "CBA"}) {
      inputs.restricted.push_back({text, text, "train", ""});
    }
    inputs.model = &model;
    inputs.benign = train::taught(model.network(), {{model::chat_prompt(model, "XYZ"), {60, 61, 2}},
                                                    {model::chat_prompt(model, "ZYX"), {50, 51, 52, 2}}});
    inputs.refusals = {"NO", "NEVER"};
    inputs.judge = [](std::string_view, std::string_view answer) {
      if (answer == "NO") return judge::Verdict{0, judge::Kind::refusal, {"test"}};
      const double other = answer.empty() ? 0 : answer.front() % 5;
      return judge::Verdict{answer.starts_with("AB") ? 10.0 : other, judge::Kind::compliance, {"test"}};
    };
    inputs.seed = 1;
    options.harmful.prefix = "AB";
    options.harmful.max_completion_length = 8;
    options.harmful.num_generations = 2;
    options.harmful.batch = 4;
    options.deep_alignment.max_prefix = 4;
    options.token_buncher.warmup_steps = 4;
    options.ctrl.max_completion_length = 12;
    options.rsn_tune.top_share = 0.5;
    options.rsn_tune.consistency = 0.75;
    options.tar.inner_steps = 4;
    options.tar.subsample = 2;
    options.tar.attack_rates = {0.01, 0.02};
    auto& sft = options.refusal_sft;
    sft.max_steps = 24;
    sft.train_batch_size = 4;
    sft.anchor.anchor_batch = 2;
    sft.optimizer.learning_rate = 0.02;
    sft.lora = {.r = 4, .lora_alpha = 8};
    auto& rl = options.neutralization;
    rl.rl_steps = 24;
    rl.rl_max_completion_length = 4;
    rl.sharpen_temperatures = {};
    rl.anchor.anchor_batch = 2;
    rl.optimizer.learning_rate = 0.02;
    rl.lora = sft.lora;
  }

  train::Learner run(const std::string& name, const DefenseEvents& on_step = {}) {
    options.name = name;
    return run_defense(inputs, options, on_step);
  }
  train::Learner untrained() const { return train::make_learner(model, options.refusal_sft.lora, inputs.seed); }
  std::vector<train::Example> harmful() const { return harmful_answers(inputs, options.harmful); }

  // −ln π, nats a token.
  static double loss_of(const train::Learner& learner, std::span<const train::Example> examples) {
    double tokens = 0, sum = 0;
    for (const auto& example : examples) tokens += static_cast<double>(example.answer.size());
    for (const double logprob : train::answer_logprobs(learner.network(), examples)) sum -= logprob;
    return sum / tokens;
  }
  double benign_kl(const train::Learner& learner) const {
    return train::drift(learner.network(), inputs.benign).divergence;
  }

  model::Model model = model::tiny_model("tiny_llama");
  DefenseInputs inputs;
  DefenseOptions options;
};

TEST_F(Baselines, EveryDefenseGoesOnToTheSameBitsWhereItWasStopped) {
  const auto folder = std::filesystem::temp_directory_path() / "backburn_baselines_test";
  std::filesystem::create_directories(folder);
  for (const auto& entry : known_defenses()) {
    SCOPED_TRACE(entry.name);
    inputs.checkpoint.clear();
    int64_t steps = 0;
    const auto whole = run(entry.name, [&](const DefenseStep& step) {
      EXPECT_EQ(step.step, ++steps);
      EXPECT_GT(step.max_steps, 0);
    });
    EXPECT_EQ(steps, 24);
    inputs.checkpoint = folder / "checkpoint.safetensors";
    std::filesystem::remove(inputs.checkpoint);
    EXPECT_THROW(run(entry.name,
                     [](const DefenseStep& step) {
                       if (step.step == 17) throw std::runtime_error("stopped");
                     }),
                 std::runtime_error);
    const auto resumed = run(entry.name);
    const auto wanted = whole.adapter.parameters(), found = resumed.adapter.parameters();
    for (size_t i = 0; i < wanted.size(); ++i) ASSERT_TRUE(at::equal(found[i], wanted[i])) << "parameter " << i;
    EXPECT_GT((wanted[1] - untrained().adapter.parameters()[1]).abs().max().item<double>(), 0) << "nothing learnt";
  }
  std::filesystem::remove_all(folder);
}

TEST_F(Baselines, EveryDefenseTrainsAllWeightsToo) {
  auto& rl = options.neutralization;
  options.refusal_sft.max_steps = rl.rl_steps = 2;
  options.refusal_sft.lora = rl.lora = {.use_peft = false};
  options.token_buncher.warmup_steps = 1;
  rl.simulated_attack_steps = 2;
  rl.simulated_attack_interval = 1;
  const auto before = model::tiny_model("tiny_llama").weights;
  for (const auto& entry : known_defenses()) {
    if (entry.name == "rsn-tune") continue;
    SCOPED_TRACE(entry.name);
    const bool sharpens = entry.name == "reward-neutralization";
    rl.sharpen_temperatures = sharpens ? std::vector<double>{2} : std::vector<double>{};
    rl.sharpen_steps = 2;
    int64_t steps = 0;
    const auto learner = run(entry.name, [&](const DefenseStep& step) {
      ++steps;
      EXPECT_TRUE(std::isfinite(step.loss));
      EXPECT_TRUE(std::isfinite(step.kl));
    });
    EXPECT_EQ(steps, sharpens ? 4 : 2);
    ASSERT_NE(learner.full, nullptr);
    EXPECT_TRUE(learner.adapter.parameters().empty());
    const auto made = train::trained_weights(learner);
    for (const at::Tensor& each : {made.embedding, made.final_norm, made.layers[0].q, made.layers[1].down}) {
      EXPECT_TRUE(at::isfinite(each).all().item<bool>());
    }
    EXPECT_FALSE(at::equal(made.embedding, model.weights.embedding)) << "nothing learnt";
    EXPECT_FALSE(at::equal(made.layers[0].q, model.weights.layers[0].q)) << "nothing learnt";
    EXPECT_TRUE(at::equal(model.weights.embedding, before.embedding)) << "the original was changed";
    EXPECT_TRUE(at::equal(model.weights.layers[0].q, before.layers[0].q)) << "the original was changed";
  }
}

TEST_F(Baselines, NeuronsAreOnlyTunedByAnAdapter) {
  options.refusal_sft.lora = {.use_peft = false};
  EXPECT_THROW(run("rsn-tune"), Error);
}

TEST_F(Baselines, HarmfulAnswersBeginAsForcedAndAreHarmfulByTheJudge) {
  const auto answers = harmful();
  EXPECT_EQ(answers.size(), 12);
  const auto prefix = model.tokenizer.encode("AB", false);
  for (const auto& each : answers) {
    EXPECT_TRUE(std::equal(prefix.begin(), prefix.end(), each.answer.begin()));
    EXPECT_LE(each.answer.size(), 8);
  }
  options.harmful.prefix = "XY";
  EXPECT_THROW(harmful(), Error);
}

TEST_F(Baselines, HarmfulAnswersMayComeFromAFile) {
  const auto path = std::filesystem::temp_directory_path() / "backburn_harmful_answers.jsonl";
  options.harmful.file = path.string();
  write_file(path, "{\"prompt\": \"ABC\", \"answer\": \"XYZ\"}\n\n{\"prompt\": \"D\", \"answer\": \"QQQQQQQQQQQQ\"}\n");
  const auto answers = harmful();
  ASSERT_EQ(answers.size(), 2);
  EXPECT_EQ(answers[0].prompt, model::chat_prompt(model, "ABC"));
  EXPECT_EQ(answers[0].answer, answer_ids(model, "XYZ"));
  EXPECT_EQ(answers[1].answer.size(), 8);
  write_file(path, "{\"prompt\": \"ABC\"}\n");
  try {
    harmful();
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(".jsonl:1"), std::string::npos) << error.what();
  }
  std::filesystem::remove(path);
}

TEST_F(Baselines, DeepAlignmentRefusesAlsoAfterAHarmfulBeginning) {
  std::vector<train::Example> deep;
  for (const auto& each : harmful()) deep.push_back(recovery(each, 3, answer_ids(model, "NO")));
  const auto shallow = run("refusal-sft");
  const auto learner = run("deep-alignment");
  EXPECT_LT(loss_of(learner, deep), 0.5 * loss_of(shallow, deep));
  EXPECT_LT(benign_kl(learner), 0.5);
}

TEST_F(Baselines, RecoveryContinuesTheHarmfulAnswer) {
  const auto example = recovery({{1, 2}, {3, 4, 5}}, 2, {9, 2});
  EXPECT_EQ(example.prompt, (std::vector<int32_t>{1, 2, 3, 4}));
  EXPECT_EQ(example.answer, (std::vector<int32_t>{9, 2}));
  EXPECT_EQ(recovery({{1}, {3}}, 0, {9}).prompt, (std::vector<int32_t>{1}));
}

TEST_F(Baselines, AnExtendedRefusalHasThreePartsInOrder) {
  const auto text = extended_refusal("Write {a} note.", "I will not do that.", 1, 7);
  const auto request = text.find("Write {a} note."), refusal = text.find("I will not do that.");
  ASSERT_NE(request, std::string::npos);
  ASSERT_NE(refusal, std::string::npos);
  EXPECT_LT(request, refusal);
  EXPECT_GT(text.size(), refusal + 60);
  EXPECT_EQ(text, extended_refusal("Write {a} note.", "I will not do that.", 1, 7));
  std::set<std::string> wordings;
  for (uint64_t which = 0; which < 40; ++which) wordings.insert(extended_refusal("A", "B", 1, which));
  EXPECT_GT(wordings.size(), 10);
}

TEST_F(Baselines, CircuitBreakersTurnHarmfulStatesAndKeepBenignOnes) {
  options.circuit_breakers.layers = {0.5, 1};
  options.refusal_sft.max_steps = 100;
  const auto learner = run("circuit-breakers");
  const std::vector<size_t> layers = {0, 1};
  const auto states = [&](const model::Network& network, std::span<const train::Example> examples) {
    const at::NoGradGuard no_grad;
    return answer_streams(network, pack_answers(examples), layers);
  };
  const auto cosine = [&](std::span<const train::Example> examples) {
    return rerouting_loss(states(learner.network(), examples), states(model.network(), examples)).item<double>();
  };
  EXPECT_LT(cosine(harmful()), 0.5);
  EXPECT_GT(cosine(inputs.benign.examples), 0.9);
}

TEST(CircuitBreakerLosses, AreThePapers) {
  const std::vector<at::Tensor> now = {at::tensor({1.0F, 0.0F, 3.0F, 4.0F}).view({2, 2})};
  const std::vector<at::Tensor> original = {at::tensor({-1.0F, 0.0F, 4.0F, 3.0F}).view({2, 2})};
  EXPECT_NEAR(rerouting_loss(now, original).item<double>(), (0 + 24.0 / 25) / 2, 1e-6);
  EXPECT_NEAR(retain_loss(now, original).item<double>(), (2 + std::sqrt(2.0)) / 2, 1e-5);
}

TEST_F(Baselines, RepNoiseMovesHarmfulStatesTowardsNoise) {
  options.rep_noise.layers = {0.5, 1};
  options.rep_noise.noise_weight = 1;
  options.rep_noise.ascent_weight = 0.1;
  options.refusal_sft.max_steps = 60;
  const std::vector<size_t> layers = {0, 1};
  const auto examples = harmful();
  const auto discrepancy = [&](const train::Learner& learner) {
    const at::NoGradGuard no_grad;
    double sum = 0;
    for (const auto& stream : answer_streams(learner.network(), pack_answers(examples), layers)) {
      auto generator = at::detail::createCPUGenerator(5);
      sum += maximum_mean_discrepancy(stream, at::randn(stream.sizes(), generator, at::kFloat)).item<double>();
    }
    return sum;
  };
  const auto learner = run("rep-noise");
  EXPECT_LT(discrepancy(learner), 0.8 * discrepancy(untrained()));
  EXPECT_GT(loss_of(learner, examples), loss_of(untrained(), examples));
  EXPECT_LT(benign_kl(learner), 0.5);
}

TEST(MaximumMeanDiscrepancy, IsZeroForOneDistributionAndNotForTwo) {
  auto generator = at::detail::createCPUGenerator(1);
  const auto a = at::randn({400, 8}, generator, at::kFloat), b = at::randn({400, 8}, generator, at::kFloat);
  EXPECT_NEAR(maximum_mean_discrepancy(a, a).item<double>(), 0, 1e-5);
  const double same = maximum_mean_discrepancy(a, b).item<double>();
  EXPECT_LT(same, 0.05);
  EXPECT_GT(maximum_mean_discrepancy(a, b + 1.0).item<double>(), 5 * same);
  EXPECT_GT(maximum_mean_discrepancy(a, b * 3.0).item<double>(), 5 * same);
}

TEST_F(Baselines, VaccinesPerturbationHasItsNormAndRaisesTheLoss) {
  const auto learner = untrained();
  const auto batch = pack_answers(refusal_examples(inputs));
  const double rho = 0.5;
  const auto perturbation = worst_perturbation(learner.network(), batch, rho);
  ASSERT_EQ(perturbation.size(), 2);
  double square = 0;
  for (const auto& layer : perturbation) square += layer.square().sum().item<double>();
  EXPECT_NEAR(std::sqrt(square), rho, 1e-4);
  for (const auto& parameter : learner.adapter.parameters()) EXPECT_FALSE(parameter.grad().defined());
  const auto loss = [&](std::span<const at::Tensor> given) {
    return perturbed_loss(learner.network(), batch, given).item<double>();
  };
  const double clean = loss({});
  EXPECT_GT(loss(perturbation), clean);
  // No other direction of that norm does as much.
  auto generator = at::detail::createCPUGenerator(3);
  for (int i = 0; i < 5; ++i) {
    std::vector<at::Tensor> other;
    double norm = 0;
    for (const auto& layer : perturbation) {
      other.push_back(at::randn(layer.sizes(), generator, at::kFloat));
      norm += other.back().square().sum().item<double>();
    }
    for (auto& layer : other) layer = layer * (rho / std::sqrt(norm));
    EXPECT_LT(loss(other), loss(perturbation));
  }
}

TEST_F(Baselines, VaccinatedRefusalsStandPerturbation) {
  const auto batch = pack_answers(refusal_examples(inputs));
  const auto hurt = [&](const train::Learner& learner) {
    return perturbed_loss(learner.network(), batch, worst_perturbation(learner.network(), batch, 2)).item<double>();
  };
  options.vaccine.rho = 2;
  options.refusal_sft.max_steps = 60;
  EXPECT_LT(hurt(run("vaccine")), hurt(run("refusal-sft")));
}

TEST_F(Baselines, BoostersGradientIsTheDifferenceOfTwo) {
  auto learner = untrained();
  const auto examples = harmful();
  const auto parameters = learner.adapter.parameters();
  const auto gradient = [&](const train::Learner& at) {
    train::add_supervised_gradient(at.network(), examples, 1.0, 1.0);
    std::vector<at::Tensor> found;
    for (const auto& parameter : at.adapter.parameters()) {
      found.push_back(parameter.grad().clone());
      parameter.mutable_grad().reset();
    }
    return found;
  };
  const auto here = gradient(learner);
  double square = 0;
  for (const auto& each : here) square += each.square().sum().item<double>();
  auto moved = untrained();
  for (size_t i = 0; i < here.size(); ++i) {
    at::Tensor parameter = moved.adapter.parameters()[i].detach();
    parameter.sub_(here[i] * (0.1 / std::sqrt(square)));
  }
  const auto there = gradient(moved);

  const auto before = parameters[3].detach().clone();
  for (const auto& parameter : parameters) parameter.mutable_grad() = at::ones_like(parameter);
  const double gain = add_attenuation_gradient(learner, examples, 0.1, 5);
  EXPECT_NEAR(gain, loss_of(untrained(), examples) - loss_of(moved, examples), 1e-4);
  EXPECT_GT(gain, 0);
  EXPECT_TRUE(at::equal(parameters[3].detach(), before));
  for (size_t i = 0; i < here.size(); ++i) {
    EXPECT_TRUE(at::allclose(parameters[i].grad(), (here[i] - there[i]) * 5 + 1, 1e-4, 1e-5)) << "parameter " << i;
  }
}

TEST_F(Baselines, BoostedHarmfulStepsGainLess) {
  options.refusal_sft.max_steps = 60;
  const auto examples = harmful();
  const auto gain = [&](const train::Learner& learner) { return add_attenuation_gradient(learner, examples, 0.1, 0); };
  EXPECT_LT(gain(run("booster")), gain(run("refusal-sft")));
}

TEST_F(Baselines, LisaTakesTurns) {
  options.lisa.rho = 0;
  options.lisa.alignment_steps = 3;
  std::string turns;
  run("lisa", [&](const DefenseStep& step) { turns += step.loss > 0 && step.kl == 0 ? 'r' : 'b'; });
  EXPECT_EQ(turns, "rrrbbbbbbbrrrbbbbbbbrrrb");
}

TEST_F(Baselines, LisasProximalGradientIsThatOfTheSquaredDistance) {
  const auto learner = untrained();
  std::vector<at::Tensor> point;
  double square = 0;
  for (const auto& parameter : learner.parameters()) {
    point.push_back(parameter.detach() - 0.5);
    square += 0.25 * static_cast<double>(parameter.numel());
    parameter.mutable_grad() = at::ones_like(parameter);
  }
  EXPECT_NEAR(add_proximal_gradient(learner, point, 3), 1.5 * square, 1e-3 * square);
  for (const auto& parameter : learner.parameters()) {
    EXPECT_TRUE(at::allclose(parameter.grad(), at::full_like(parameter, 2.5), 1e-4, 1e-5));
  }
}

TEST_F(Baselines, LisasStatesStayTogether) {
  const auto way = [&](double rho) {
    options.lisa.rho = rho;
    const auto learner = run("lisa");
    double square = 0;
    const auto start = untrained().parameters(), end = learner.parameters();
    for (size_t i = 0; i < start.size(); ++i) square += (end[i] - start[i]).square().sum().item<double>();
    return std::sqrt(square);
  };
  EXPECT_LT(way(10), 0.8 * way(0));
}

TEST_F(Baselines, LisaRefusesAndKeepsBenignAnswers) {
  options.refusal_sft.max_steps = 60;
  options.lisa.rho = 0.1;
  const auto learner = run("lisa");
  const auto refusals = refusal_examples(inputs);
  EXPECT_LT(loss_of(learner, refusals), 0.6 * loss_of(untrained(), refusals));
  EXPECT_LT(benign_kl(learner), 0.5);
}

TEST_F(Baselines, CuratedAnswersAreLikelierRefusals) {
  inputs.judge = [](std::string_view, std::string_view answer) {
    const bool refuses = answer.size() % 2 == 0;
    return judge::Verdict{0, refuses ? judge::Kind::refusal : judge::Kind::compliance, {"test"}};
  };
  inputs.refusals = {"NOPE", "NONE"};
  options.ctrl.num_generations = 32;
  options.ctrl.rounds = 0;
  const auto given = curated_answers(inputs, options.ctrl);
  options.ctrl.rounds = 1;
  const auto once = curated_answers(inputs, options.ctrl);
  options.ctrl.rounds = 3;
  const auto often = curated_answers(inputs, options.ctrl);
  ASSERT_EQ(often.size(), inputs.restricted.size());
  size_t better = 0, better_still = 0;
  for (size_t i = 0; i < often.size(); ++i) {
    EXPECT_EQ(often[i].prompt, i);
    EXPECT_EQ(often[i].text.size() % 2, 0) << often[i].text;
    EXPECT_LE(once[i].perplexity, given[i].perplexity);
    EXPECT_LE(often[i].perplexity, once[i].perplexity);
    better += once[i].perplexity < given[i].perplexity ? 1 : 0;
    better_still += often[i].perplexity < once[i].perplexity ? 1 : 0;
    const std::vector<train::Example> one = {
        {model::chat_prompt(model, inputs.restricted[i].text), answer_ids(model, often[i].text)}};
    EXPECT_NEAR(std::log(often[i].perplexity), loss_of(untrained(), one), 1e-4);
  }
  EXPECT_GT(better, 2);
  EXPECT_GT(better_still, 0);
}

TEST_F(Baselines, CtrlLearnsTheCuratedRefusals) {
  inputs.judge = [](std::string_view, std::string_view) { return judge::Verdict{0, judge::Kind::refusal, {"test"}}; };
  options.ctrl.num_generations = 8;
  std::vector<train::Example> curated;
  for (const auto& [prompt, text, perplexity] : curated_answers(inputs, options.ctrl)) {
    curated.push_back({model::chat_prompt(model, inputs.restricted[prompt].text), answer_ids(model, text)});
  }
  EXPECT_LT(loss_of(run("ctrl"), curated), 0.7 * loss_of(run("refusal-sft"), curated));
}

TEST_F(Baselines, ANeuronsImportanceIsWhatItsLossWouldChangeBy) {
  const std::vector<train::Example> examples = {refusal_examples(inputs).front(), inputs.benign.examples.front()};
  const auto importances = neuron_importances(model, examples);
  ASSERT_EQ(importances.size(), 2);
  constexpr double shrunk = 1e-2;
  for (const auto which : {model::Projection::q, model::Projection::k, model::Projection::v, model::Projection::up,
                           model::Projection::down}) {
    for (size_t layer = 0; layer < 2; ++layer) {
      const auto& importance = importances[1][layer][static_cast<size_t>(which)];
      const auto neuron = importance.argmax().item<int64_t>();
      const auto loss_with = [&](double factor) {
        auto weights = model.weights;
        at::Tensor& weight = model::projection(weights.layers[layer], which);
        weight = weight.clone();
        weight.select(which == model::Projection::down ? 1 : 0, neuron).mul_(factor);
        const model::Network network{&model.config, &weights, nullptr};
        return -train::answer_logprobs(network, std::span(examples).subspan(1)).front() /
               static_cast<double>(examples[1].answer.size());
      };
      const double change = (loss_with(1 + shrunk) - loss_with(1 - shrunk)) / (2 * shrunk);
      EXPECT_NEAR(importance[neuron].item<double>(), std::abs(change), 0.03 * std::abs(change) + 1e-4);
    }
  }
  EXPECT_FALSE(importances[0][0][static_cast<size_t>(model::Projection::o)].defined());
}

TEST_F(Baselines, ImportantNeuronsMatterToEnoughExamples) {
  const auto refusals = refusal_examples(inputs);
  const auto count = [&](const PerNeuron& neurons) {
    return neurons[1][static_cast<size_t>(model::Projection::up)].sum().item<int64_t>();
  };
  const std::span<const train::Example> one = std::span(refusals).first(1);
  EXPECT_EQ(count(important_neurons(model, one, 0.25, 1)), 16);  // of 64
  const auto all = important_neurons(model, refusals, 0.25, 1), some = important_neurons(model, refusals, 0.25, 0.3);
  EXPECT_LT(count(all), 16);
  EXPECT_GT(count(some), count(all));
  EXPECT_EQ(count(without(some, all)), count(some) - count(all));
  EXPECT_EQ(count(without(all, some)), 0);
  EXPECT_EQ(count(important_neurons(model, {}, 0.25, 1)), 0);
}

TEST_F(Baselines, RsnTuneChangesTheChosenNeuronsAlone) {
  options.refusal_sft.max_steps = 60;
  const auto& own = options.rsn_tune;
  const auto refusals = refusal_examples(inputs);
  const auto neurons = without(important_neurons(model, refusals, own.top_share, own.consistency),
                               important_neurons(model, inputs.benign.examples, own.top_share, own.consistency));
  const auto learner = run("rsn-tune");
  const auto tuned = model::merge(model.weights, learner.adapter);
  int64_t changed = 0;
  for (size_t layer = 0; layer < neurons.size(); ++layer) {
    for (size_t target = 0; target < 7; ++target) {
      const auto which = static_cast<model::Projection>(target);
      const auto differs =
          model::projection(tuned.layers[layer], which) != model::projection(model.weights.layers[layer], which);
      const auto by_neuron = differs.any(which == model::Projection::down ? 0 : 1);
      const auto& chosen = neurons[layer][target];
      const auto stray = chosen.defined() ? by_neuron.logical_and(chosen.logical_not()) : by_neuron;
      EXPECT_FALSE(stray.any().item<bool>()) << "layer " << layer << ", " << model::projection_names[target];
      changed += by_neuron.sum().item<int64_t>();
    }
  }
  EXPECT_GT(changed, 20);
  EXPECT_LT(loss_of(learner, refusals), 0.8 * loss_of(untrained(), refusals));
}

TEST_F(Baselines, RsnTuneSaysWhenNoNeuronIsLeft) {
  inputs.benign = train::taught(model.network(), refusal_examples(inputs));
  EXPECT_THROW(run("rsn-tune"), Error);
}

TEST(TokenOverlap, IsTheShareOfDistinctTokens) {
  EXPECT_DOUBLE_EQ(token_overlap(std::vector<int32_t>{5, 6, 5, 7, 8}, std::vector<int32_t>{9, 5, 5, 7}), 0.5);
  EXPECT_EQ(token_overlap(std::vector<int32_t>{}, std::vector<int32_t>{9}), 0);
}

TEST_F(Baselines, SddPairsPromptsWithIrrelevantAnswers) {
  // "ABC" is 3, 4, 5 in some order everywhere; one of three answers has all of them, one a third.
  inputs.benign = train::taught(model.network(), {{{1, 10}, {3, 4, 5, 2}}, {{1, 11}, {20, 3, 2}}, {{1, 12}, {30, 2}}});
  const auto answers = [&](double max_overlap) {
    options.sdd.max_overlap = max_overlap;
    std::set<std::vector<int32_t>> found;
    for (const auto& example : irrelevant_examples(inputs, options.sdd)) {
      EXPECT_EQ(example.prompt.size(), 4);  // the restricted prompts', not the benign ones'
      found.insert(example.answer);
    }
    return found;
  };
  using Answers = std::set<std::vector<int32_t>>;
  EXPECT_EQ(answers(0.25), (Answers{{30, 2}}));
  EXPECT_EQ(answers(0.5), (Answers{{30, 2}, {20, 3, 2}}));
  EXPECT_EQ(answers(1).size(), 3);
  EXPECT_EQ(irrelevant_examples(inputs, options.sdd).size(), 18);
  options.sdd.pairs_per_prompt = 1;
  EXPECT_EQ(irrelevant_examples(inputs, options.sdd).size(), 6);
  inputs.benign = train::taught(model.network(), {{{1, 10}, {3, 4, 5, 2}}});
  EXPECT_EQ(answers(0.25), (Answers{{3, 4, 5, 2}})) << "the least overlap where there is no other";
  inputs.benign = {};
  EXPECT_THROW(irrelevant_examples(inputs, options.sdd), Error);
}

TEST_F(Baselines, SddTeachesIrrelevantAnswers) {
  const auto pairs = irrelevant_examples(inputs, options.sdd);
  const auto learner = run("sdd");
  EXPECT_LT(loss_of(learner, pairs), 0.5 * loss_of(run("refusal-sft"), pairs));
  EXPECT_LT(benign_kl(learner), 0.5);
}

TEST_F(Baselines, TamperResistanceIsTheGradientOfTheAttackedModelsEntropy) {
  const auto learner = untrained();
  const auto examples = harmful();
  const std::span<const train::Example> all = examples;
  TarOptions tar = options.tar;
  tar.inner_steps = 3;
  tar.subsample = 2;  // one learnt from: after the second step, with weight exp(−schedule)
  tar.weight = 2;
  tar.schedule = 0.5;
  const auto before = learner.adapter.parameters()[3].detach().clone();
  const double entropy = add_tamper_resistance_gradient(learner, all.first(4), all.subspan(4), tar, 2, 0.01, 9);
  EXPECT_TRUE(at::equal(learner.adapter.parameters()[3].detach(), before)) << "the learner itself was attacked";

  auto attacked = copy_of(learner);
  for (const int64_t step : {1, 2}) {
    train::add_supervised_gradient(attacked.network(), train::examples_of_step(all.first(4), 2, step, 9), 1.0, 1.0);
    train::optimizer_step({}, 0.01, attacked.parameters(), attacked.optimizer);
  }
  const auto batch = pack_answers(all.subspan(4));
  const auto network = attacked.network();
  const auto states = train::predicting_states(network, batch.tokens, batch.predictions);
  const auto logprobs = at::log_softmax(model::logits(network, states), -1);
  const auto expected = -(logprobs.exp() * logprobs).sum(-1).mean();
  (expected * (-2 * std::exp(-0.5))).backward();
  EXPECT_NEAR(entropy, expected.item<double>(), 1e-4);
  const auto found = learner.parameters(), wanted = attacked.parameters();
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_TRUE(at::allclose(found[i].grad(), wanted[i].grad(), 1e-3, 1e-5)) << "parameter " << i;
  }
}

TEST_F(Baselines, TarsHarmfulLossStaysHigherUnderAttack) {
  options.refusal_sft.max_steps = 60;
  options.tar.inner_steps = 8;
  const auto examples = harmful();
  const auto attacked_loss = [&](const train::Learner& learner) {
    auto attacker = copy_of(learner);
    for (int step = 0; step < 8; ++step) {
      train::add_supervised_gradient(attacker.network(), examples, 1.0, 1.0);
      train::optimizer_step({}, 0.01, attacker.parameters(), attacker.optimizer);
    }
    return loss_of(attacker, examples);
  };
  const auto learner = run("tar");
  EXPECT_GT(attacked_loss(learner), attacked_loss(run("refusal-sft")) + 0.1);
  EXPECT_LT(loss_of(learner, refusal_examples(inputs)), 0.7 * loss_of(untrained(), refusal_examples(inputs)));
}

TEST_F(Baselines, TokenBuncherLowersTheEntropyOfItsAnswers) {
  const auto entropy = [&](const train::Learner& learner) {
    std::vector<generate::RolloutRequest> requests;
    for (const auto& prompt : inputs.restricted) requests.push_back({model::chat_prompt(model, prompt.text), 16, 0});
    generate::RolloutOptions rollout;
    rollout.max_completion_length = 4;
    double sum = 0, tokens = 0;
    for (const auto& group : generate::rollout(learner.network(), requests, rollout)) {
      for (const auto& completion : group) {
        sum += std::accumulate(completion.entropies.begin(), completion.entropies.end(), 0.0);
        tokens += static_cast<double>(completion.entropies.size());
      }
    }
    return sum / tokens;
  };
  // To random weights a benign prompt is like a restricted one: the anchor would hold the entropy of both.
  options.neutralization.anchor.anchor_weight = 0;
  const double before = entropy(untrained());
  std::vector<double> losses;
  EXPECT_LT(entropy(run("token-buncher", [&](const DefenseStep& step) { losses.push_back(step.loss); })), 0.6 * before);
  EXPECT_EQ(losses[3], 0) << "the noiser in the warm-up";
  EXPECT_GT(losses[4], 0);
  options.token_buncher.warmup_steps = 24;
  EXPECT_LT(entropy(run("token-buncher")), 0.6 * before) << "by the reward alone";
}

TEST(TokenNoiser, IsTheCrossEntropyWithNoiseOnOtherTokens) {
  const auto targets = at::tensor({3, 0}, at::kLong);
  const auto noise = token_noise(targets, 6, 0.2, 7);
  EXPECT_TRUE(at::allclose(noise.sum(1), at::full({2}, 0.2)));
  EXPECT_EQ(noise[0][3].item<float>(), 0);
  EXPECT_EQ(noise[1][0].item<float>(), 0);
  EXPECT_GT(noise.std().item<double>(), 0.01) << "every token alike";
  const auto logits = at::arange(12, at::kFloat).view({2, 6}).sin();
  const auto surprise = -at::log_softmax(logits, -1);
  const double expected =
      0.8 * (surprise[0][3] + surprise[1][0]).item<double>() + 0.2 * (noise * surprise).sum().item<double>();
  EXPECT_NEAR(noised_loss(logits, targets, 0.2, 7).item<double>(), expected, 1e-5);
  EXPECT_FALSE(at::equal(noise, token_noise(targets, 6, 0.2, 8)));
}

TEST(Frpo, WeighsTheWorstAnswersMost) {
  const std::vector<double> rewards = {1, 0.2, 0.9, 1};
  constexpr double lambda = 0.25;
  const auto soft = soft_minimum_rewards(rewards, lambda);
  // The policy gradient of −λ ln mean exp(−r / λ): advantages λ (1 − G softmax(−r / λ)).
  double total = 0;
  for (const double reward : rewards) total += std::exp(-reward / lambda);
  const auto advantages = train::group_advantages(soft, 4, "none");
  for (size_t i = 0; i < rewards.size(); ++i) {
    EXPECT_NEAR(advantages[i], lambda * (1 - 4 * std::exp(-rewards[i] / lambda) / total), 1e-12);
  }
  EXPECT_LT(advantages[1], -0.5);
  EXPECT_GT(advantages[2], 0);
}

TEST(Frpo, IsGrpoWithoutScalingForALargeLambda) {
  const std::vector<double> rewards = {1, 0.2, 0.9, 0.4};
  const auto soft = train::group_advantages(soft_minimum_rewards(rewards, 1e5), 4, "none");
  const auto plain = train::group_advantages(rewards, 4, "none");
  for (size_t i = 0; i < rewards.size(); ++i) EXPECT_NEAR(soft[i], plain[i], 1e-5);
}

TEST_F(Baselines, FrpoRaisesTheSafetyOfItsSamples) {
  // Most samples score 2; "refusing" here is any answer that does not begin with A, which scores 0.
  inputs.judge = [](std::string_view, std::string_view answer) {
    return judge::Verdict{answer.find_first_of("ABCDEFGHIJKLMNOPQ") == 0 ? 10.0 : 0.0, judge::Kind::compliance, {"t"}};
  };
  std::vector<double> rewards;
  run("frpo", [&](const DefenseStep& step) { rewards.push_back(*step.reward); });
  const double first = std::accumulate(rewards.begin(), rewards.begin() + 4, 0.0);
  const double last = std::accumulate(rewards.end() - 4, rewards.end(), 0.0);
  EXPECT_GT(last, first + 0.5);
}

}  // namespace
}  // namespace backburn::defense
