#include "backburn/text/gguf_pre_tokenizer.h"

#include <algorithm>
#include <initializer_list>

#include "backburn/base/error.h"

namespace backburn::text {
namespace {

// The expressions are those that the models' own tokenizer.json files carry.
const char* const qwen2_regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const llama3_regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const tekken_regex =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const gpt_4o_regex =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

const char* const gpt2_regex = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))";
const char* const deepseek_script_regex = R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)";
const char* const deepseek_regex =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json split_step(const char* regex) {
  const Json pattern = {{"Regex", regex}};
  return {{"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}, {"invert", false}};
}

Json digits_step(bool individual) { return {{"type", "Digits"}, {"individual_digits", individual}}; }

Json sequence_of(std::initializer_list<Json> steps) {
  Json list = Json::array();
  for (const Json& step : steps) list.push_back(step);
  return {{"type", "Sequence"}, {"pretokenizers", std::move(list)}};
}

Json split_by(const char* regex) { return sequence_of({split_step(regex), byte_level(false)}); }

}  // namespace

NamedPreTokenizer named_pre_tokenizer(const std::string& name, const std::string& origin) {
  auto is_one_of = [&](std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (is_one_of({"gpt-2", "gpt2", "phi-2", "olmo", "mpt"})) return {nullptr, byte_level(true)};
  if (is_one_of({"smollm", "starcoder", "refact", "command-r", "codeshell"})) {
    return {nullptr, sequence_of({digits_step(true), byte_level(true)})};
  }
  if (is_one_of({"qwen2", "stablelm2", "deepseek-r1-qwen"})) return {Json{{"type", "NFC"}}, split_by(qwen2_regex)};
  if (is_one_of({"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"})) {
    return {nullptr, split_by(llama3_regex), true};
  }
  if (is_one_of({"smaug-bpe", "dbrx"})) return {nullptr, split_by(llama3_regex)};
  if (is_one_of({"tekken"})) return {nullptr, split_by(tekken_regex), true};
  if (is_one_of({"gpt-4o", "llama4"})) return {nullptr, split_by(gpt_4o_regex)};
  if (is_one_of({"deepseek-v3"})) {
    return {nullptr, sequence_of({split_step(R"(\p{N}{1,3})"), split_step(deepseek_script_regex),
                                  split_step(deepseek_regex), byte_level(false)})};
  }
  if (is_one_of({"default", "falcon"})) {  // as llama.cpp does it; published tokenizers have no such sequence
    const Json symbols = split_step(name == "falcon" ? R"([\p{P}\$\+<=>\^~\|`]+)" : R"([\p{P}\$\+<=>\^~\|]+)");
    const Json threes = split_step("[0-9][0-9][0-9]");
    if (name == "falcon") return {nullptr, sequence_of({symbols, split_step(gpt2_regex), threes, byte_level(false)})};
    return {nullptr,
            sequence_of({symbols, split_step(gpt2_regex), split_step(R"(\p{N}+)"), threes, byte_level(false)})};
  }
  fail(
      "{}: pre-tokenizer \"{}\" (tokenizer.ggml.pre) is not known; known are gpt-2, phi-2, olmo, mpt, smollm, "
      "starcoder, "
      "refact, command-r, codeshell, qwen2, stablelm2, deepseek-r1-qwen, llama-bpe, llama-v3, falcon3, pixtral, "
      "smaug-bpe, dbrx, tekken, gpt-4o, llama4, deepseek-v3, falcon and default; use the model's Hugging Face folder "
      "instead.",
      origin, name);
}

Json byte_level_decoder() { return byte_level(true); }

std::vector<nlohmann::json> steps_of(const Json& part) {
  if (part.is_null()) return {};
  const char* list = part.contains("pretokenizers") ? "pretokenizers" : "normalizers";
  if (part.contains(list)) {
    std::vector<nlohmann::json> steps;
    for (const Json& each : part[list]) {
      for (auto& step : steps_of(each)) steps.push_back(std::move(step));
    }
    return steps;
  }
  nlohmann::json step(part);
  step.erase("trim_offsets");
  if (step.value("type", "") == "ByteLevel" && !step.contains("use_regex")) step["use_regex"] = true;
  if (step.value("type", "") == "Split" && !step.contains("invert")) step["invert"] = false;
  return {step};
}

std::string name_of_pre_tokenizer(const TokenizerParts& parts) {
  for (const char* name :
       {"gpt-2", "smollm", "qwen2", "llama-bpe", "dbrx", "tekken", "gpt-4o", "deepseek-v3", "default", "falcon"}) {
    const NamedPreTokenizer known = named_pre_tokenizer(name, name);
    if (steps_of(parts.normalizer) == steps_of(known.normalizer) &&
        steps_of(parts.pre_tokenizer) == steps_of(known.pre_tokenizer) &&
        parts.model.ignore_merges == known.ignore_merges) {
      return name;
    }
  }
  fail("GGUF files have no name for this tokenizer's pre-tokenizer here; export safetensors instead");
}

bool has_step(const Json& part, const char* type) {
  const auto steps = steps_of(part);
  return std::any_of(steps.begin(), steps.end(), [&](const auto& step) { return step.value("type", "") == type; });
}

}  // namespace backburn::text
