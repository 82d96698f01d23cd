// The tokenizers of the two default models against Hugging Face `tokenizers`
// (tools/make_tokenizer_goldens.py), and their chat templates against Jinja2
// (tools/make_template_goldens.py).
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "backburn/model/gguf_model.h"
#include "text/tokenizer_goldens.h"

namespace backburn::model {
namespace {

namespace fs = std::filesystem;

// The folder that `backburn pull` fills, or what BACKBURN_MODELS names.
fs::path models_folder() {
  if (const char* folder = std::getenv("BACKBURN_MODELS")) return folder;
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0') {
    return fs::path(cache) / "backburn/models";
  }
  const char* home = std::getenv("HOME");
  return fs::path(home == nullptr ? "" : home) / ".cache/backburn/models";
}

void expect_parity(const std::string& file, const std::string& golden) {
  const fs::path path = models_folder() / file;
  if (!fs::exists(path)) GTEST_SKIP() << path << " is not there; fetch it with `backburn pull`";
  const GgufFile gguf = GgufFile::open(path);
  const text::Tokenizer tokenizer = text::Tokenizer::from_vocabulary(vocabulary(gguf), path.string());
  const Json expected = read_json_file(std::string(TEST_DATA_DIR "/") + golden);
  text::expect_goldens(tokenizer, expected);

  // Through the tokenizer.json that an exported model carries.
  const text::Tokenizer exported = text::Tokenizer::from_json_text(tokenizer.to_json().dump(), "exported");
  text::expect_goldens(exported, expected);
}

TEST(TokenizerParity, SmolLM2) { expect_parity("smollm2-135m-instruct.gguf", "tokenizer_smollm2.json"); }

TEST(TokenizerParity, QwenCoder) { expect_parity("qwen2.5-coder-0.5b-instruct.gguf", "tokenizer_qwen.json"); }

}  // namespace
}  // namespace backburn::model
