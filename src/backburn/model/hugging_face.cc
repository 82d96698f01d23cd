#include "backburn/model/hugging_face.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/base/json.h"
#include "backburn/model/families.h"
#include "backburn/model/safetensors.h"
#include "backburn/model/staged_folder.h"

namespace backburn::model {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

Json read_object(const fs::path& path) {
  Json json = read_json_file(path);
  if (!json.is_object()) fail("{}: expected a JSON object", path.string());
  return json;
}

// An optional file of the folder; an empty object when it is not there.
Json read_object_if_there(const fs::path& path) { return is_there(path) ? read_object(path) : Json::object(); }

void add_stop(ModelConfig& config, int64_t id, const std::string& origin) {
  if (id < 0 || id >= config.vocab_size) {
    fail("{}: end-of-sequence token {} is outside the vocabulary of {}", origin, id, config.vocab_size);
  }
  auto& stops = config.stop_token_ids;
  if (std::find(stops.begin(), stops.end(), id) == stops.end()) stops.push_back(id);
}

// A token in tokenizer_config.json is a string, or an object whose "content" is one.
std::string token_content(const Json& json, const char* key) {
  auto found = json.find(key);
  if (found == json.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && (*found)["content"].is_string()) {
    return (*found)["content"].get<std::string>();
  }
  return "";
}

std::optional<FoundTemplate> find_template(const fs::path& folder, const Json& tokenizer_config) {
  const fs::path jinja = folder / "chat_template.jinja";
  if (is_there(jinja)) return FoundTemplate{read_file(jinja), jinja.string()};
  const std::string origin = (folder / "tokenizer_config.json").string();
  auto found = tokenizer_config.find("chat_template");
  if (found != tokenizer_config.end() && found->is_string()) return FoundTemplate{found->get<std::string>(), origin};
  if (found != tokenizer_config.end() && found->is_array()) {
    for (const Json& each : *found) {
      if (each.is_object() && each.value("name", Json()) == "default" && each.contains("template") &&
          each["template"].is_string()) {
        return FoundTemplate{each["template"].get<std::string>(), origin};
      }
    }
  }
  return std::nullopt;
}

// A folder without tokenizer.json may still have SentencePiece's own file.
fs::path tokenizer_file(const fs::path& folder) {
  const fs::path own = folder / "tokenizer.model";
  return is_there(folder / "tokenizer.json") || !is_there(own) ? folder / "tokenizer.json" : own;
}

const char* config_dtype(at::ScalarType dtype) {
  if (dtype == at::kFloat) return "float32";
  if (dtype == at::kHalf) return "float16";
  if (dtype == at::kBFloat16) return "bfloat16";
  fail("models are saved as bfloat16, float16 or float32, not as {}", at::toString(dtype));
}

Json stop_ids(const ModelConfig& config) {
  if (config.stop_token_ids.size() == 1) return config.stop_token_ids.front();
  return config.stop_token_ids;
}

}  // namespace

text::Tokenizer tokenizer_of_folder(const fs::path& folder) {
  return text::Tokenizer::from_file(tokenizer_file(folder));
}

std::optional<FoundTemplate> chat_template_of_folder(const fs::path& folder) {
  return find_template(folder, read_object_if_there(folder / "tokenizer_config.json"));
}

void check_tensors(const ModelConfig& config, const Safetensors& stored, const std::string& origin) {
  check_size(config, stored.entries().size(), true, origin);
  Weights places;
  for (const NamedWeight& each : named_weights(config, places)) stored.entry(each.name, each.shape);
}

Model load_hugging_face(const fs::path& folder, at::ScalarType dtype) {
  return read_all(open_hugging_face(folder), dtype);
}

StoredModel open_hugging_face(const fs::path& folder) {
  const fs::path config_path = folder / "config.json";
  ModelConfig config = config_from_hugging_face(read_object(config_path), config_path.string());
  const fs::path tokenizer_path = tokenizer_file(folder);
  text::Tokenizer tokenizer = text::Tokenizer::from_file(tokenizer_path);
  if (static_cast<int64_t>(tokenizer.size()) > config.vocab_size) {
    fail("{}: the tokenizer has {} tokens, the embedding only {}", tokenizer_path.string(), tokenizer.size(),
         config.vocab_size);
  }
  for (const int64_t id : {config.bos_token_id, config.pad_token_id}) {
    if (id >= config.vocab_size) {
      fail("{}: special token {} is outside the vocabulary of {}", config_path.string(), id, config.vocab_size);
    }
  }

  // The tokenizer's own end token comes first: chat templates know it as eos_token.
  const fs::path tokenizer_config_path = folder / "tokenizer_config.json";
  const Json tokenizer_config = read_object_if_there(tokenizer_config_path);
  const std::vector<int64_t> from_config = std::move(config.stop_token_ids);
  config.stop_token_ids.clear();
  const std::string eos = token_content(tokenizer_config, "eos_token");
  if (const auto id = eos.empty() ? std::nullopt : tokenizer.id_of(eos))
    add_stop(config, *id, tokenizer_config_path.string());
  for (const int64_t id : from_config) add_stop(config, id, config_path.string());
  const fs::path generation_path = folder / "generation_config.json";
  const Json generation = read_object_if_there(generation_path);
  if (auto found = generation.find("eos_token_id"); found != generation.end() && !found->is_null()) {
    const Json list = found->is_array() ? *found : Json::array({*found});
    for (const Json& id : list) {
      if (!id.is_number_integer())
        fail("{}: eos_token_id must be a token id or a list of them", generation_path.string());
      add_stop(config, id.get<int64_t>(), generation_path.string());
    }
  }

  const auto found_template = find_template(folder, tokenizer_config);
  if (!found_template) {
    fail(
        "{}: no chat template (chat_template.jinja, or \"chat_template\" in tokenizer_config.json); an "
        "instruction-tuned model is needed",
        folder.string());
  }
  fs::path name = fs::absolute(folder).lexically_normal();
  if (!name.has_filename()) name = name.parent_path();
  Model model{std::move(config),
              {},
              std::move(tokenizer),
              text::ChatTemplate::parse(found_template->source, found_template->origin),
              name.filename().string()};
  const auto stored = std::make_shared<const Safetensors>(Safetensors::open_folder(folder));
  check_tensors(model.config, *stored, config_path.string());
  return {std::move(model),
          [stored](const NamedWeight& wanted, at::ScalarType dtype) {
            return stored->tensor(wanted.name, wanted.shape, dtype);
          },
          [](const NamedWeight&) { return std::nullopt; },
          [stored](const NamedWeight& wanted) { stored->release(wanted.name); }};
}

void save_hugging_face(const Model& model, const fs::path& folder, at::ScalarType dtype) {
  save_hugging_face(model, folder, dtype, reader_of(model));
}

void save_hugging_face(const Model& model, const fs::path& folder, at::ScalarType dtype, const WeightReader& read) {
  const ModelConfig& config = model.config;
  Json config_json = config_to_hugging_face(config, config_dtype(dtype));
  Json generation;
  Json tokenizer_config;
  tokenizer_config["tokenizer_class"] = "PreTrainedTokenizerFast";
  tokenizer_config["add_bos_token"] = false;
  tokenizer_config["clean_up_tokenization_spaces"] = false;
  tokenizer_config["model_max_length"] = config.max_position_embeddings;
  auto add_token = [&](const char* key, int64_t id) {
    if (id < 0) return;
    generation[std::string(key) + "_id"] = id;
    tokenizer_config[key] = std::string(model.tokenizer.token(static_cast<int32_t>(id)));
  };
  add_token("bos_token", config.bos_token_id);
  add_token("pad_token", config.pad_token_id);
  if (!config.stop_token_ids.empty()) {
    add_token("eos_token", config.stop_token_ids.front());
    generation["eos_token_id"] = stop_ids(config);
  }
  tokenizer_config["chat_template"] = model.chat_template.source();

  Weights places;
  std::vector<TensorToWrite> tensors;
  for (const NamedWeight& each : named_weights(config, places)) {
    tensors.push_back({each.name, each.shape, [&read, each] { return read(each); }});
  }

  StagedFolder staged(folder);
  write_file(staged.path() / "config.json", config_json.dump(2) + "\n");
  write_file(staged.path() / "generation_config.json", generation.dump(2) + "\n");
  write_file(staged.path() / "tokenizer.json", model.tokenizer.to_json().dump(2) + "\n");
  write_file(staged.path() / "tokenizer_config.json", tokenizer_config.dump(2) + "\n");
  write_safetensors_folder(staged.path(), tensors, dtype);
  staged.commit();
}

}  // namespace backburn::model
