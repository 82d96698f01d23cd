// Whole models with damaged files: an Error or a model that computes, never anything else.
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <random>

#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/model/gguf_model.h"
#include "backburn/model/hugging_face.h"
#include "backburn/model/source.h"
#include "backburn/model/transformer.h"

namespace backburn::model {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string tiny = TEST_DATA_DIR "/gguf/llama_q8_0.gguf";

// `good` cut short, or with a few bytes changed, dropped, doubled or replaced by a number.
std::string damaged(const std::string& good, std::mt19937& random) {
  std::string bad = good;
  if (random() % 8 == 0) return bad.substr(0, random() % bad.size());
  for (unsigned i = 0; i <= random() % 4 && !bad.empty(); ++i) {
    const size_t at = random() % bad.size();
    switch (random() % 5) {
      case 0: bad[at] = static_cast<char>(random() % 256); break;
      case 1: bad[at] = static_cast<char>(bad[at] ^ (1 << random() % 8)); break;
      case 2: bad.erase(at, 1 + random() % 20); break;
      case 3: bad.insert(at, bad.substr(random() % bad.size(), random() % 30)); break;
      default: bad.replace(at, std::min<size_t>(bad.size() - at, random() % 3), std::to_string(random() - (1u << 31)));
    }
  }
  return bad;
}

// Whether it loads. Then it must describe itself, encode and compute.
bool survives(const fs::path& path) {
  try {
    const ModelSource source = find_model(path.string());
    config_of(source);
    stored_tensors(source);
    const Model model = load_model(path.string(), at::kFloat);
    const at::NoGradGuard no_grad;
    auto ids = chat_prompt(model, "Hi THERE");
    ids.resize(8, 3);
    for (auto& id : ids) id = static_cast<int32_t>(id % model.config.vocab_size);
    const TokenTree tree{ids, {}};
    logits(model.network(), hidden_states(model.network(), pack({&tree, 1})));
    return true;
  } catch (const Error&) {
    return false;
  }
}

TEST(Damage, OfAGgufFile) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "bad.gguf";
  const std::string good = read_file(tiny);
  const size_t header = good.find("output_norm.weight") + 64;  // the table of tensors ends about there
  std::mt19937 random(5);
  int loaded = 0;
  for (int round = 0; round < 500; ++round) {
    std::string bad = good;
    if (round % 2 == 0) {
      bad[random() % header] = static_cast<char>(random() % 256);
    } else {
      bad = damaged(good, random);
    }
    write_file(path, bad);
    loaded += survives(path) ? 1 : 0;
  }
  EXPECT_GT(loaded, 20);
  EXPECT_LT(loaded, 480);
}

// What sets a family apart: experts, factors of RoPE, parts.
TEST(Damage, OfTheHeadersOfOtherFamilies) {
  const TemporaryFolder folder;
  std::mt19937 random(7);
  for (const char* name : {"mixtral_q8_0", "qwen3moe", "phi4", "yarn", "gemma3", "llama_split-00001-of-00003",
                           "llama_split-00002-of-00003"}) {
    for (int part = 2; part <= 3; ++part) {
      const std::string other = fmt::format("llama_split-{:05}-of-00003.gguf", part);
      fs::copy(TEST_DATA_DIR "/gguf/" + other, folder.path() / other, fs::copy_options::overwrite_existing);
    }
    const std::string file = std::string(name) + ".gguf";
    const std::string good = read_file(TEST_DATA_DIR "/gguf/" + file);
    const size_t header = good.rfind(".weight") + 64;
    // A part is looked at from the first.
    const bool later = is_later_part(file);
    const fs::path opened = later ? folder.path() / "llama_split-00001-of-00003.gguf" : folder.path() / file;
    write_file(opened, later ? read_file(TEST_DATA_DIR "/gguf/llama_split-00001-of-00003.gguf") : good);
    ASSERT_TRUE(survives(opened)) << name;
    int loaded = 0;
    for (int round = 0; round < 100; ++round) {
      std::string bad = good;
      for (unsigned i = 0; i <= random() % 3; ++i) bad[random() % header] = static_cast<char>(random() % 256);
      write_file(folder.path() / file, bad);
      loaded += survives(opened) ? 1 : 0;
    }
    EXPECT_LT(loaded, 95) << name;
  }
}

TEST(Damage, OfEachFileOfAFolder) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "model";
  save_hugging_face(load_gguf(tiny, at::kFloat), path, at::kFloat);
  ASSERT_TRUE(survives(path));
  std::mt19937 random(6);
  for (const char* name :
       {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}) {
    const std::string good = read_file(path / name);
    int loaded = 0;
    for (int round = 0; round < 150; ++round) {
      write_file(path / name, damaged(good, random));
      loaded += survives(path) ? 1 : 0;
    }
    EXPECT_LT(loaded, 150) << name;
    write_file(path / name, good);
  }
}

// Every number and list of config.json, set to what no model has.
TEST(Damage, OfEachValueOfAConfig) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "model";
  save_hugging_face(load_gguf(tiny, at::kFloat), path, at::kFloat);
  Json good = read_json_file(path / "config.json");
  for (const char* other : {"rope_scaling", "rope_parameters", "layer_types", "no_rope_layers"}) good[other] = nullptr;
  for (const auto& [key, value] : good.items()) {
    for (const Json& lie : {Json(0), Json(-1), Json(1), Json(int64_t{1} << 40), Json(INT64_MIN), Json(1e300),
                            Json(-0.5), Json("x"), Json::array({1, "x"}), Json::object(), Json(true), Json()}) {
      Json bad = good;
      bad[key] = lie;
      write_file(path / "config.json", bad.dump());
      survives(path);
    }
  }
}

// Bytes in memory, now ("VmRSS") or at most since the last reset ("VmHWM").
size_t memory(const std::string& key) {
  const std::string status = read_file("/proc/self/status");
  return std::stoul(status.substr(status.find(key) + key.size() + 1)) << 10;
}

// What a file says that claims sizes which no memory holds; "no error" where it opens all the same.
std::string claimed(const fs::path& path) {
  std::ofstream("/proc/self/clear_refs") << "5";  // VmHWM begins anew
  const size_t before = memory("VmRSS");
  std::string found = "no error";
  try {
    const ModelSource source = find_model(path.string());
    try {
      config_of(source);
      stored_tensors(source);
    } catch (const Error&) {
    }
    load_model(path.string(), at::kFloat);
  } catch (const Error& error) {
    found = error.what();
    EXPECT_EQ(found.find('\n'), std::string::npos) << found;
    EXPECT_LT(found.size(), 400U) << found;
  }
  EXPECT_LT(memory("VmHWM"), before + (64U << 20)) << found;
  return found;
}

// A number of the file's head, of four or eight bytes, that stands so many bytes behind a text.
std::string with_number(std::string bytes, const std::string& text, size_t behind, uint64_t value, size_t size) {
  const size_t found = bytes.find(text);
  EXPECT_NE(found, std::string::npos) << text;
  std::memcpy(bytes.data() + found + text.size() + behind, &value, size);
  return bytes;
}

constexpr uint64_t absurd[] = {1023, 4096,       65'536,           1 << 20,    (1U << 31) - 1,
                               ~0U,  1ULL << 40, (1ULL << 53) + 1, 1ULL << 62, ~0ULL};

TEST(Claims, OfAGgufFileCostNoMemory) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "m.gguf";
  for (const auto& [name, prefix] :
       {std::pair{"mixtral_q8_0", "llama."}, {"qwen3moe", "qwen3moe."}, {"phi4", "phi3."}}) {
    const std::string good = read_file(TEST_DATA_DIR "/gguf/" + std::string(name) + ".gguf");
    for (const std::string key :
         {"block_count", "embedding_length", "feed_forward_length", "attention.head_count", "attention.head_count_kv",
          "attention.key_length", "expert_count", "expert_used_count", "context_length", "rope.dimension_count"}) {
      const std::string whole = prefix + key + std::string("\4\0\0\0", 4);  // a u32
      if (good.find(whole) == std::string::npos) continue;
      for (const uint64_t value : absurd) {
        if (value > ~uint32_t{0}) break;
        write_file(path, with_number(good, whole, 0, value, 4));
        const std::string found = claimed(path);
        const bool only_a_limit = key == "context_length" && value < 1U << 26;
        const bool unused = key == "feed_forward_length" && prefix == std::string("qwen3moe.") && value < 1U << 19;
        EXPECT_EQ(found == "no error", only_a_limit || unused) << name << " " << key << " " << value << ": " << found;
      }
    }
    if (good.find(prefix + std::string("expert_count")) != std::string::npos) {  // each within its limit
      const std::string layers = with_number(good, prefix + std::string("block_count"), 4, 1024, 4);
      write_file(path, with_number(layers, prefix + std::string("expert_count"), 4, 4096, 4));
      EXPECT_THAT(claimed(path), HasSubstr("1024 layers of 4096 experts: at most 65536 experts"));
    }
    // Numbers of tokens, of tensors and of metadata values, and a tensor's shape.
    for (const uint64_t value : absurd) {
      const std::string tokens = std::string("tokenizer.ggml.tokens\x09\0\0\0\x08\0\0\0", 29);
      for (const std::string& bad :
           {with_number(good, tokens, 0, value, 8), with_number(good, "GGUF", 4, value, 8),
            with_number(good, "GGUF", 12, value, 8), with_number(good, "token_embd.weight", 4, value, 8),
            with_number(good, "token_embd.weight", 12, value, 8)}) {
        write_file(path, bad);
        EXPECT_NE(claimed(path), "no error") << name << " " << value;
      }
    }
  }
}

TEST(Claims, OfAFolderCostNoMemory) {
  const TemporaryFolder folder;
  for (const char* name : {"mixtral_q8_0", "qwen3moe", "phi4", "gemma3"}) {
    const fs::path path = folder.path() / name;
    save_hugging_face(load_gguf(TEST_DATA_DIR "/gguf/" + std::string(name) + ".gguf", at::kFloat), path, at::kFloat);
    const Json good = read_json_file(path / "config.json");
    for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                            "num_attention_heads", "num_key_value_heads", "head_dim", "num_local_experts",
                            "num_experts", "num_experts_per_tok", "moe_intermediate_size", "max_position_embeddings"}) {
      if (!good.contains(key)) continue;
      for (const uint64_t value : absurd) {
        Json bad = good;
        bad[key] = value;
        write_file(path / "config.json", bad.dump());
        const std::string found = claimed(path);
        const bool only_a_limit = std::string(key) == "max_position_embeddings" && value < 1U << 26;
        const bool unused = std::string(key) == "intermediate_size" && std::string(name) == "qwen3moe";
        EXPECT_EQ(found == "no error", only_a_limit || (unused && value < 1U << 19))
            << name << " " << key << " " << value << ": " << found;
      }
    }
    Json layers = good;
    layers["num_hidden_layers"] = 1024;
    if (layers.contains("layer_types")) layers.erase("layer_types");
    write_file(path / "config.json", layers.dump());
    EXPECT_THAT(claimed(path), HasSubstr("1024 layers"));
    write_file(path / "config.json", good.dump());
    const Json tokenizer = read_json_file(path / "tokenizer.json");
    for (const uint64_t value : absurd) {
      Json bad = tokenizer;
      bad["added_tokens"][0]["id"] = value;
      write_file(path / "tokenizer.json", bad.dump());
      EXPECT_NE(claimed(path), "no error") << value;
      bad = tokenizer;
      bad["model"]["vocab"]["A"] = value;
      write_file(path / "tokenizer.json", bad.dump());
      EXPECT_NE(claimed(path), "no error") << value;
    }
  }
}

class Shards : public testing::Test {
 protected:
  void SetUp() override {
    save_hugging_face(load_gguf(tiny, at::kFloat), path(), at::kFloat);
    fs::rename(path() / "model.safetensors", path() / "model-00001-of-00002.safetensors");
  }
  fs::path path() const { return folder_.path() / "model"; }
  std::string error_of(const std::string& index) {
    write_file(path() / "model.safetensors.index.json", index);
    try {
      load_model(path().string(), at::kFloat);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  const TemporaryFolder folder_;
};

TEST_F(Shards, ThatAreMissingAreNamed) {
  EXPECT_THAT(error_of(R"({"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}})"),
              HasSubstr("model-00002-of-00002.safetensors: cannot open"));
  EXPECT_THAT(error_of(R"({"weight_map": {"x": "model-00001-of-00002.safetensors"}})"),
              HasSubstr("tensor \"x\" is not in"));
  EXPECT_THAT(error_of(R"({"weight_map": {}})"), HasSubstr("2 layers are claimed, but the weights are only 0 tensors"));
  EXPECT_THAT(error_of(R"({"weight_map": {"x": ""}})"), HasSubstr("no file name"));
}

TEST_F(Shards, LieAboutShapes) {
  Json config = read_json_file(path() / "config.json");
  config["intermediate_size"] = 96;
  write_file(path() / "config.json", config.dump());
  EXPECT_THAT(error_of(R"({"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}})"),
              HasSubstr("mlp.gate_proj.weight\" has shape [64, 32], expected [96, 32]"));
}

}  // namespace
}  // namespace backburn::model
