#include <fmt/format.h>

#include <algorithm>

#include "backburn/base/available_memory.h"
#include "backburn/base/progress.h"
#include "backburn/model/source.h"
#include "backburn/report/table.h"
#include "backburn/run/memory.h"
#include "backburn/text/gguf_pre_tokenizer.h"
#include "commands.h"

namespace backburn::app {
namespace {

constexpr size_t head_length = 200;  // characters of the template

// Cut where a character ends.
std::string head_of(const std::string& text) {
  size_t end = std::min(text.size(), head_length);
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

// "byte-level BPE", "BPE with byte fallback", "Unigram", …
std::string kind_of(const Json& tokenizer_json) {
  const Json& model = tokenizer_json["model"];
  const auto kind = model["type"].get<std::string>();
  if (text::has_step(tokenizer_json["pre_tokenizer"], "ByteLevel")) return "byte-level " + kind;
  return kind + (model.value("byte_fallback", false) ? " with byte fallback" : "");
}

Json described(const RecipeFlags& flags) {
  const auto recipe = recipe_of(flags, "");
  const auto source = model::find_model(recipe.model);
  const auto config = model::config_of(source);
  const auto tokenizer = model::tokenizer_of(source);
  const auto chat_template = model::chat_template_of(source);
  Json json = {{"model", source.name.empty() ? source.path.filename().string() : source.name},
               {"path", source.path.string()},
               {"format", source.is_folder() ? "Hugging Face folder" : "GGUF file"},
               {"architecture", config.architecture},
               {"parameters", model::parameter_count(config)},
               {"layers", config.num_hidden_layers},
               {"hidden_size", config.hidden_size},
               {"context", config.max_position_embeddings}};
  json["stored"] = Json::array();
  for (const auto& [type, tensors, values, bytes] : model::stored_tensors(source)) {
    json["stored"].push_back({{"type", type}, {"tensors", tensors}, {"values", values}, {"bytes", bytes}});
  }
  json["tokenizer"] = {{"kind", kind_of(tokenizer.to_json())}, {"tokens", tokenizer.size()}};
  json["chat_template"] = nullptr;
  if (chat_template) {
    json["chat_template"] = {{"characters", chat_template->size()}, {"head", head_of(*chat_template)}};
  }
  json["computes_in"] = model::dtype_of(run::compute_options(recipe), config) == at::kBFloat16 ? "bfloat16" : "float32";
  for (const char* command : run::commands_with_need) {
    json["memory_gib"][command] = run::memory_need(command, config, recipe).gib();
  }
  json["memory_free_gib"] = available_memory_gib();
  return json;
}

std::string in_words(const Json& json) {
  report::Table about{{"model", json["model"].get<std::string>()}, {}};
  const auto row = [&](const std::string& name, const std::string& value) { about.rows.push_back({name, value}); };
  row("format", json["format"].get<std::string>() + ", " + json["path"].get<std::string>());
  row("architecture",
      fmt::format("{}, {} layers, hidden size {}, context of {} tokens", json["architecture"].get<std::string>(),
                  json["layers"].get<int64_t>(), json["hidden_size"].get<int64_t>(), json["context"].get<int64_t>()));
  row("parameters", fmt::format("{:.1f} million", 1e-6 * json["parameters"].get<double>()));
  std::string stored;
  for (const Json& each : json["stored"]) {
    stored += fmt::format("{}{} {:.2f} GiB in {} tensors", stored.empty() ? "" : ", ", each["type"].get<std::string>(),
                          each["bytes"].get<double>() / (1 << 30), each["tensors"].get<int64_t>());
  }
  row("stored as", stored);
  row("tokenizer", fmt::format("{}, {} tokens", json["tokenizer"]["kind"].get<std::string>(),
                               json["tokenizer"]["tokens"].get<int64_t>()));
  const Json& given = json["chat_template"];
  row("chat template", given.is_null() ? "none: not an instruction-tuned model"
                                       : fmt::format("{} characters", given["characters"].get<int64_t>()));

  report::Table memory{{"command", "GiB, about"}, {}};
  for (const auto& [command, need] : json["memory_gib"].items()) {
    memory.rows.push_back({command, fmt::format("{:.1f}", need.get<double>())});
  }
  return fmt::format("{}\n{}\nComputing in {}; {:.1f} GiB are free. Template: {}\n",
                     report::render_table(about, colors_wanted()), report::render_table(memory, colors_wanted()),
                     json["computes_in"].get<std::string>(), json["memory_free_gib"].get<double>(),
                     given.is_null() ? "none" : given["head"].dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto* command = app.add_subcommand(
      "inspect", "what a model is: architecture, size, tokenizer, template, and the memory that each command needs");
  auto flags = std::make_shared<RecipeFlags>();
  command->add_option("MODEL", flags->model, model_help)->required();
  command->add_option("--recipe", flags->recipes, "whose options the memory is estimated for (default: the defaults)")
      ->allow_extra_args(false);
  command->add_option("--set", flags->sets, "KEY=VALUE: one key of the recipe; may be given again")
      ->allow_extra_args(false);
  command->add_option("--dtype", flags->dtype, "auto, bfloat16 or float32");
  command->add_option("--base-quantization", flags->base_quantization, base_quantization_help);
  command->add_flag("--json", flags->json, "one JSON object");
  command->callback([flags] {
    const Json json = described(*flags);
    fmt::print("{}\n", flags->json ? json.dump(-1, ' ', false, Json::error_handler_t::replace) : in_words(json));
  });
}

}  // namespace backburn::app
