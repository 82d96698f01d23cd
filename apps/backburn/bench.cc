#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <thread>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/base/peak_memory.h"
#include "backburn/base/stopwatch.h"
#include "backburn/generate/rollout.h"
#include "backburn/model/products.h"
#include "backburn/text/prompt_set.h"
#include "backburn/train/grpo.h"
#include "commands.h"

namespace backburn::app {
namespace {

constexpr int best_of = 5;

struct BenchFlags {
  std::string model, measure = "grpo-step", prompts, dtype = "auto", device = "auto";
  int64_t repeats = 3;
  double judge_seconds = 0;
  int64_t rows = 32, prompt_length = 32;
  bool full_length = false;
  bool json = false;
  train::GrpoOptions grpo;
};

// Before it is written to: packed weights are in huge pages too (kernels/huge_pages.h), and are read the faster for it.
void in_huge_pages(const at::Tensor& memory) {
  constexpr size_t page = 4096;
  auto* begin = static_cast<char*>(memory.data_ptr());
  madvise(begin - reinterpret_cast<size_t>(begin) % page, memory.nbytes() / page * page, MADV_HUGEPAGE);
}

// What this machine can do at best: LibTorch's largest products (bf16 where it has them, f32 elsewhere), and reading
// memory once, in huge pages. A number of each result is looked at, since a GPU answers before it is done.
Json machine(const at::TensorOptions& compute) {
  const at::NoGradGuard no_grad;
  constexpr int64_t size = 4096;
  double gflops = 0;
  const auto fastest = model::has_bf16_products(compute.device()) ? at::kBFloat16 : at::kFloat;
  const auto matrix = at::ones({size, size}, compute.has_dtype() ? compute : compute.dtype(fastest));
  for (int i = 0; i < best_of; ++i) {
    const Stopwatch watch;
    at::matmul(matrix, matrix)[0][0].item<float>();
    gflops = std::max(gflops, 2e-9 * size * size * size / watch.seconds());
  }
  const auto memory = at::empty({int64_t{1} << 28}, compute.dtype(at::kFloat));
  if (memory.is_cpu()) in_huge_pages(memory);
  memory.fill_(1);
  double bandwidth = 0;
  for (int i = 0; i < best_of; ++i) {
    const Stopwatch watch;
    memory.sum().item<float>();
    bandwidth = std::max(bandwidth, 1e-9 * static_cast<double>(memory.nbytes()) / watch.seconds());
  }
  return {{"gemm_gflops", gflops}, {"read_gb_per_s", bandwidth}, {"threads", at::get_num_threads()}};
}

// Multiplications and additions, as a model's size says: 2 a weight and token forward, as many for the gradient of the
// layer's input. Attention and the low-rank update are left out; the head counts for predicted tokens only.
double update_flops(const model::ModelConfig& config, int64_t tokens, int64_t predicted) {
  const auto head = static_cast<double>(config.vocab_size * config.hidden_size);
  const double layers =
      static_cast<double>(model::parameter_count(config)) - head * (config.tie_word_embeddings ? 1 : 2);
  return 4 * (layers * static_cast<double>(tokens) + head * static_cast<double>(predicted));
}

// The reward of a benchmark: cheap, and different for nearly all answers.
std::vector<double> distinct_characters(const train::Group& group) {
  std::vector<double> rewards;
  for (const auto& text : group.texts) {
    rewards.push_back(static_cast<double>(std::set<char>(text.begin(), text.end()).size()));
  }
  return rewards;
}

Json grpo_steps(const BenchFlags& flags, const model::Model& model) {
  if (flags.prompts.empty()) fail_usage("--measure grpo-step wants --prompts FILE: one prompt a group and line");
  std::vector<std::vector<int32_t>> prompts;
  int64_t prompt_tokens = 0;
  for (const auto& prompt : text::read_prompts(flags.prompts)) {
    prompts.push_back(model::chat_prompt(model, prompt.text));
    prompt_tokens += static_cast<int64_t>(prompts.back().size());
  }
  train::GrpoOptions options = flags.grpo;
  options.prompts_per_step = static_cast<int64_t>(prompts.size());
  options.max_steps = flags.repeats + 2;  // one that is not run: the last one that is may sample ahead for it
  options.kl_steps = 0;
  auto learner = train::make_learner(model, options.lora, 1);
  const auto reward = [&](const train::Group& group) {
    std::this_thread::sleep_for(std::chrono::duration<double>(flags.judge_seconds));
    return distinct_characters(group);
  };
  const auto same_prompts = [&](int64_t) { return prompts; };
  train::Ahead ahead;
  Json steps = Json::array();
  for (int64_t i = 0; i <= flags.repeats; ++i) {
    const Stopwatch watch;
    const auto result = train::grpo_step(learner, same_prompts, options, 1, reward, ahead);
    const double seconds = watch.seconds();
    if (i == 0) continue;  // warms up
    const auto& metrics = result.metrics;
    steps.push_back(
        {{"seconds", seconds},
         {"generate", metrics.seconds_generate},
         {"score", metrics.seconds_score},
         {"update", metrics.seconds_update},
         {"tokens", metrics.tokens},
         {"prompt_tokens", prompt_tokens},
         {"sampling_logp_difference", metrics.sampling_logp_difference},
         {"differential_groups", std::count_if(result.groups.begin(), result.groups.end(),
                                               [](const auto& group) { return group.has_differential(); })},
         {"update_gflop", 1e-9 * update_flops(model.config, prompt_tokens + metrics.tokens, metrics.tokens)}});
  }
  return {{"steps", steps}};
}

// Sampled tokens a second, the prompts' prefill included; prefill_seconds: what an answer of one token takes.
Json rollouts(const BenchFlags& flags, const model::Model& model) {
  std::vector<generate::RolloutRequest> requests(1);
  for (int64_t i = 0; i < flags.prompt_length; ++i) requests[0].prompt.push_back(static_cast<int32_t>(100 + i));
  requests[0].num_generations = flags.rows;
  generate::RolloutOptions options;
  options.max_rows = flags.rows;
  const auto timed = [&](int64_t length) {
    options.max_completion_length = length;
    const Stopwatch watch;
    const auto groups = generate::rollout(model.network(), requests, options);
    const double seconds = watch.seconds();
    int64_t tokens = 0;
    for (const auto& completion : groups[0]) tokens += static_cast<int64_t>(completion.ids.size());
    return std::pair{seconds, tokens};
  };
  Json steps = Json::array();
  for (int64_t i = 0; i <= flags.repeats; ++i) {
    options.seed = static_cast<uint64_t>(i);
    const double prefill = timed(1).first;
    const auto [seconds, tokens] = timed(flags.grpo.max_completion_length);
    if (i == 0) continue;  // warms up
    steps.push_back({{"seconds", seconds}, {"prefill_seconds", prefill}, {"tokens", tokens}});
  }
  return {{"steps", steps}, {"weight_gb", 2e-9 * static_cast<double>(model::parameter_count(model.config))}};
}

Json tokenizing(const BenchFlags& flags, const model::Model& model) {
  if (flags.prompts.empty()) fail_usage("--measure tokenizer wants --prompts FILE: any text");
  const std::string text = read_file(flags.prompts);
  Json steps = Json::array();
  for (int64_t i = 0; i < flags.repeats; ++i) {
    const Stopwatch watch;
    const size_t tokens = model.tokenizer.encode(text, false).size();
    steps.push_back(
        {{"seconds", watch.seconds()}, {"tokens", tokens}, {"mb", 1e-6 * static_cast<double>(text.size())}});
  }
  return {{"steps", steps}};
}

void bench(const BenchFlags& flags) {
  Json result;
  run::Recipe recipe;
  recipe.dtype = flags.dtype;
  recipe.device = flags.device;
  const auto compute = run::compute_options(recipe);
  if (flags.measure == "machine") {
    result = machine(compute);
  } else {
    auto model = model::load_model(flags.model, compute);
    if (flags.full_length) model.config.stop_token_ids.clear();
    if (flags.measure == "grpo-step") result = grpo_steps(flags, model);
    if (flags.measure == "rollout") result = rollouts(flags, model);
    if (flags.measure == "tokenizer") result = tokenizing(flags, model);
  }
  result["peak_rss_gib"] = peak_rss_gib();
  fmt::print("{}\n", result.dump(flags.json ? -1 : 2));
}

}  // namespace

void add_bench(CLI::App& app) {
  auto* command = app.add_subcommand("bench", "how fast this machine is, and backburn on it (`make bench` compares)");
  auto flags = std::make_shared<BenchFlags>();
  flags->model = "smollm2-135m-instruct";
  command
      ->add_option("MODEL", flags->model, "a name that `backburn pull` knows, a .gguf file, or a Hugging Face folder")
      ->capture_default_str();
  command
      ->add_option("--measure", flags->measure,
                   "machine: bf16 products and memory; grpo-step: sample, score, update; rollout: sampling alone; "
                   "tokenizer: text to ids")
      ->capture_default_str()
      ->check(CLI::IsMember({"machine", "grpo-step", "rollout", "tokenizer"}));
  command->add_option("--prompts", flags->prompts,
                      "grpo-step: a prompt a group (.txt, .jsonl, .csv); tokenizer: a text");
  command->add_option("--repeats", flags->repeats, "after a first one that warms up")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_option("--num-generations", flags->grpo.num_generations, "grpo-step: answers in a group")
      ->capture_default_str()
      ->check(CLI::Range(2, 4096));
  command->add_option("--max-completion-length", flags->grpo.max_completion_length, "tokens")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--kept-activations-gib", flags->grpo.kept_activations_gib,
                   "grpo-step: memory for activations that generation leaves to the update; 0: compute them again")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--max-staleness", flags->grpo.max_staleness, "grpo-step: 1 samples a step's answers ahead")
      ->capture_default_str()
      ->check(CLI::Range(0, 1));
  command->add_option("--judge-seconds", flags->judge_seconds, "grpo-step: what a slow judge takes for a group")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--rows", flags->rows, "rollout: answers")->capture_default_str()->check(CLI::PositiveNumber);
  command->add_option("--prompt-length", flags->prompt_length, "rollout: tokens of the one prompt")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command->add_flag("--full-length", flags->full_length, "no token ends an answer");
  command->add_option("--dtype", flags->dtype, "auto, bfloat16 or float32")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "bfloat16", "float32"}));
  command->add_option("--device", flags->device, "auto, cpu or cuda")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  command->add_flag("--json", flags->json, "on one line");
  command->callback([flags] { bench(*flags); });
}

}  // namespace backburn::app
