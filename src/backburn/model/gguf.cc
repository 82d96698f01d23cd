#include "backburn/model/gguf.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string_view>

#include "backburn/base/error.h"
#include "backburn/text/tokenizer.h"

namespace backburn::model {
namespace {

constexpr size_t max_name = 1 << 16;

enum ValueType : uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string_type,
  array,
  u64,
  i64,
  f64,
};

// Fewest bytes that one value of a type takes; 0: no such type.
size_t least_bytes(uint32_t type) {
  constexpr std::array<size_t, 13> sizes = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
  return type < sizes.size() ? sizes[type] : 0;
}

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::string origin) : bytes_(bytes), origin_(std::move(origin)) {}

  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }

  template <typename... Args>
  [[noreturn]] void fail_here(fmt::format_string<Args...> format, Args&&... args) const {
    fail("{}: byte {}: {}; the file is damaged or cut short, fetch it again", origin_, position_,
         fmt::format(format, std::forward<Args>(args)...));
  }

  template <typename T>
  T read(const char* what) {
    if (left() < sizeof(T)) fail_here("the file ends inside {}", what);
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  std::string read_string(size_t limit, const char* what) {
    const auto length = read<uint64_t>(what);
    if (length > left()) fail_here("{} claims {} bytes, {} are left", what, length, left());
    if (length > limit) fail_here("{} claims {} bytes, at most {} make sense", what, length, limit);
    std::string text(reinterpret_cast<const char*>(bytes_.data() + position_), length);
    position_ += length;
    return text;
  }

  // A number of items of which each takes at least `least` bytes.
  size_t read_count(size_t least, const char* what) {
    const auto count = read<uint64_t>(what);
    if (count > left() / least) fail_here("{} is {}, more than the {} bytes left can hold", what, count, left());
    return count;
  }

 private:
  std::span<const std::byte> bytes_;
  std::string origin_;
  size_t position_ = 0;
};

bool is_integer(uint32_t type) { return type <= i32 || type == u64 || type == i64; }

int64_t read_integer(Reader& reader, uint32_t type) {
  const char* what = "an integer value";
  switch (type) {
    case u8: return reader.read<uint8_t>(what);
    case i8: return reader.read<int8_t>(what);
    case u16: return reader.read<uint16_t>(what);
    case i16: return reader.read<int16_t>(what);
    case u32: return reader.read<uint32_t>(what);
    case i32: return reader.read<int32_t>(what);
    case i64: return reader.read<int64_t>(what);
    default: break;
  }
  const auto value = reader.read<uint64_t>(what);
  if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    reader.fail_here("the integer {} is too large", value);
  }
  return static_cast<int64_t>(value);
}

double read_number(Reader& reader, uint32_t type) {
  return type == f32 ? reader.read<float>("a number") : reader.read<double>("a number");
}

bool read_bool(Reader& reader) {
  const auto value = reader.read<uint8_t>("a boolean value");
  if (value > 1) reader.fail_here("a boolean is {}, expected 0 or 1", value);
  return value == 1;
}

template <typename T, typename Read>
std::vector<T> read_array(size_t count, Read read) {
  std::vector<T> values;
  values.reserve(count);
  for (size_t i = 0; i < count; ++i) values.push_back(read());
  return values;
}

constexpr size_t any_length = std::numeric_limits<size_t>::max();

GgufValue read_value(Reader& reader, const std::string& key) {
  auto type = reader.read<uint32_t>("a value's type");
  if (type != array) {
    if (is_integer(type)) return read_integer(reader, type);
    if (type == f32 || type == f64) return read_number(reader, type);
    if (type == boolean) return read_bool(reader);
    if (type == string_type) return reader.read_string(any_length, "a string value");
    reader.fail_here("key \"{}\" has the unknown type {}", key, type);
  }
  type = reader.read<uint32_t>("an array's type");
  if (type == array) reader.fail_here("key \"{}\" is an array of arrays, which no model needs", key);
  const size_t least = least_bytes(type);
  if (least == 0) reader.fail_here("key \"{}\" is an array of the unknown type {}", key, type);
  const size_t count = reader.read_count(least, "an array's length");
  if (is_integer(type)) return read_array<int64_t>(count, [&] { return read_integer(reader, type); });
  if (type == boolean) return read_array<bool>(count, [&] { return read_bool(reader); });
  if (type == string_type) {
    return read_array<std::string>(count, [&] { return reader.read_string(max_name, "a string of an array"); });
  }
  return read_array<double>(count, [&] { return read_number(reader, type); });
}

// Reads one entry of the tensor table; `offset` is still counted from the data's beginning.
GgufTensor read_tensor(Reader& reader) {
  GgufTensor tensor;
  tensor.name = reader.read_string(max_name, "a tensor's name");
  const auto dimensions = reader.read<uint32_t>("a tensor's number of dimensions");
  if (dimensions < 1 || dimensions > 4) {
    reader.fail_here("tensor \"{}\" has {} dimensions, expected 1 to 4", tensor.name, dimensions);
  }
  int64_t values = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = reader.read<uint64_t>("a tensor's shape");
    // 2^56 values take more bytes than any file; the limit keeps every product of them below 2^63.
    if (size < 1 || size > (uint64_t{1} << 56) || __builtin_mul_overflow(values, static_cast<int64_t>(size), &values) ||
        values > (int64_t{1} << 56)) {
      reader.fail_here("tensor \"{}\" has an impossible dimension of {}", tensor.name, size);
    }
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(size));
  }
  const auto type_number = reader.read<uint32_t>("a tensor's type");
  const auto type = ggml_type(type_number);
  if (!type) {
    reader.fail_here(
        "tensor \"{}\" has ggml type {}, supported are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, "
        "Q5_K "
        "and Q6_K",
        tensor.name, type_number);
  }
  tensor.type = *type;
  const size_t block = ggml_block_values(tensor.type);
  if (static_cast<size_t>(tensor.shape.back()) % block != 0) {
    reader.fail_here("tensor \"{}\" has rows of {} values, {} needs a multiple of {}", tensor.name, tensor.shape.back(),
                     ggml_type_name(tensor.type), block);
  }
  tensor.size = static_cast<size_t>(values) / block * ggml_block_bytes(tensor.type);
  tensor.offset = reader.read<uint64_t>("a tensor's offset");
  return tensor;
}

size_t read_alignment(const GgufFile& file) {
  if (file.find("general.alignment") == nullptr) return 32;
  const int64_t alignment = file.integer("general.alignment");
  if (alignment < 8 || alignment > (1 << 20) || (alignment & (alignment - 1)) != 0) {
    fail("{}: general.alignment is {}, expected a power of two from 8 to 1048576", file.path().string(), alignment);
  }
  return static_cast<size_t>(alignment);
}

template <typename T>
const T& typed(const GgufFile& file, const std::string& key, const char* type) {
  const GgufValue* value = file.find(key);
  if (value == nullptr) fail("{}: metadata key \"{}\" is missing", file.path().string(), key);
  const T* result = std::get_if<T>(value);
  if (result == nullptr) fail("{}: metadata key \"{}\" is not {}", file.path().string(), key, type);
  return *result;
}

}  // namespace

int64_t GgufTensor::values() const {
  int64_t product = 1;
  for (int64_t length : shape) product *= length;
  return product;
}

GgufFile GgufFile::open(const std::filesystem::path& path) {
  GgufFile file;
  file.file_ = std::make_shared<MappedFile>(MappedFile::open(path));
  const std::string origin = path.string();
  const auto bytes = file.file_->bytes();
  if (bytes.size() < 4 || std::memcmp(bytes.data(), "GGUF", 4) != 0) {
    fail("{}: byte 0: not a GGUF file (it must begin with the letters GGUF)", origin);
  }
  Reader reader(bytes, origin);
  reader.read<uint32_t>("the magic");
  const auto version = reader.read<uint32_t>("the version");
  if (version == 0x02000000 || version == 0x03000000) {
    fail("{}: byte 4: the file is big-endian, only little-endian GGUF is read", origin);
  }
  if (version != 2 && version != 3) {
    fail("{}: byte 4: GGUF version {} is not supported (supported: 2 and 3)", origin, version);
  }
  const size_t tensor_count = reader.read_count(8 + 4 + 8 + 4 + 8, "the number of tensors");
  const size_t value_count = reader.read_count(8 + 4 + 1, "the number of metadata values");

  for (size_t i = 0; i < value_count; ++i) {
    std::string key = reader.read_string(max_name, "a metadata key");
    GgufValue value = read_value(reader, key);
    const bool added = file.metadata_.emplace(key, std::move(value)).second;
    if (!added) reader.fail_here("metadata key \"{}\" comes twice", key);
  }
  for (size_t i = 0; i < tensor_count; ++i) {
    GgufTensor tensor = read_tensor(reader);
    const bool added = file.tensor_index_.emplace(tensor.name, i).second;
    if (!added) reader.fail_here("tensor \"{}\" comes twice", tensor.name);
    file.tensors_.push_back(std::move(tensor));
  }

  const size_t alignment = read_alignment(file);
  const size_t data = (reader.position() + alignment - 1) / alignment * alignment;
  for (GgufTensor& tensor : file.tensors_) {
    const size_t room = bytes.size() > data ? bytes.size() - data : 0;
    if (tensor.offset % alignment != 0) {
      fail("{}: tensor \"{}\" lies at offset {}, which is no multiple of the alignment {}", origin, tensor.name,
           tensor.offset, alignment);
    }
    if (tensor.offset > room || tensor.size > room - tensor.offset) {
      fail(
          "{}: tensor \"{}\" ({} bytes at offset {} of the data, which begins at byte {}) reaches beyond the "
          "file's "
          "{} bytes; the file is cut short, fetch it again",
          origin, tensor.name, tensor.size, tensor.offset, data, bytes.size());
    }
    tensor.offset += data;
  }
  return file;
}

const GgufValue* GgufFile::find(const std::string& key) const {
  auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

const GgufTensor* GgufFile::find_tensor(const std::string& name) const {
  auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

int64_t GgufFile::integer(const std::string& key) const { return typed<int64_t>(*this, key, "an integer"); }
double GgufFile::number(const std::string& key) const { return typed<double>(*this, key, "a number"); }
const std::string& GgufFile::string(const std::string& key) const { return typed<std::string>(*this, key, "a string"); }
const std::vector<std::string>& GgufFile::strings(const std::string& key) const {
  return typed<std::vector<std::string>>(*this, key, "an array of strings");
}
const std::vector<int64_t>& GgufFile::integers(const std::string& key) const {
  return typed<std::vector<int64_t>>(*this, key, "an array of integers");
}
const std::vector<double>& GgufFile::numbers(const std::string& key) const {
  return typed<std::vector<double>>(*this, key, "an array of numbers");
}
bool GgufFile::flag(const std::string& key, bool fallback) const {
  return find(key) == nullptr ? fallback : typed<bool>(*this, key, "true or false");
}

std::span<const std::byte> GgufFile::bytes(const GgufTensor& tensor) const {
  return file_->bytes().subspan(tensor.offset, tensor.size);
}

namespace {

constexpr int64_t control_token = 3;  // llama.cpp's LLAMA_TOKEN_TYPE_CONTROL

// The token under `key`, or -1; an Error when it lies outside the vocabulary.
int64_t special_token(const GgufFile& file, const std::string& key, int64_t vocab_size) {
  if (file.find(key) == nullptr) return -1;
  const int64_t id = file.integer(key);
  if (id < 0 || id >= vocab_size) {
    fail("{}: {} is {}, outside the vocabulary of {}", file.path().string(), key, id, vocab_size);
  }
  return id;
}

std::vector<int64_t> stop_tokens(const GgufFile& file, int64_t vocab_size) {
  std::vector<int64_t> stops;
  auto add = [&](int64_t id) {
    if (id >= 0 && std::find(stops.begin(), stops.end(), id) == stops.end()) stops.push_back(id);
  };
  add(special_token(file, "tokenizer.ggml.eos_token_id", vocab_size));
  add(special_token(file, "tokenizer.ggml.eot_token_id", vocab_size));
  if (file.find("tokenizer.ggml.tokens") == nullptr || file.find("tokenizer.ggml.token_type") == nullptr) return stops;
  const auto& tokens = file.strings("tokenizer.ggml.tokens");
  const auto& types = file.integers("tokenizer.ggml.token_type");
  for (size_t id = 0; id < std::min(tokens.size(), types.size()); ++id) {
    if (types[id] != control_token) continue;
    for (const char* end : {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<end_of_turn>"}) {
      if (tokens[id] == end) add(static_cast<int64_t>(id));
    }
  }
  return stops;
}

void refuse_uncomputed(const GgufFile& file, const std::string& prefix, const ModelConfig& config) {
  const std::string origin = file.path().string();
  const std::string scaling = prefix + "rope.scaling.type";
  if (file.find(scaling) != nullptr && file.string(scaling) != "none") {
    fail("{}: RoPE scaling \"{}\" is not supported yet", origin, file.string(scaling));
  }
  if (file.find_tensor("rope_freqs.weight") != nullptr)
    fail("{}: scaled RoPE (rope_freqs) is not supported yet", origin);
  const std::string experts = prefix + "expert_count";
  if (file.find(experts) != nullptr && file.integer(experts) > 0) {
    fail("{}: mixtures of experts are not supported yet", origin);
  }
  const std::string rotated = prefix + "rope.dimension_count";
  if (file.find(rotated) != nullptr && file.integer(rotated) != config.head_dim) {
    fail("{}: {} is {}, expected the whole head of {}", origin, rotated, file.integer(rotated), config.head_dim);
  }
}

}  // namespace

ModelConfig config_from_gguf(const GgufFile& file) {
  const std::string origin = file.path().string();
  ModelConfig config;
  config.architecture = file.string("general.architecture");
  if (config.architecture != "llama" && config.architecture != "qwen2" && config.architecture != "qwen3") {
    fail("{}: architecture \"{}\" is unknown (supported: llama, qwen2, qwen3)", origin, config.architecture);
  }
  const std::string prefix = config.architecture + ".";
  auto integer_or = [&](const std::string& key, int64_t fallback) {
    return file.find(prefix + key) == nullptr ? fallback : file.integer(prefix + key);
  };
  const GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr) fail("{}: tensor \"token_embd.weight\" is missing", origin);
  config.vocab_size = embedding->shape.front();
  config.hidden_size = file.integer(prefix + "embedding_length");
  config.intermediate_size = file.integer(prefix + "feed_forward_length");
  config.num_hidden_layers = file.integer(prefix + "block_count");
  config.num_attention_heads = file.integer(prefix + "attention.head_count");
  config.num_key_value_heads = integer_or("attention.head_count_kv", config.num_attention_heads);
  if (config.num_attention_heads < 1) {
    fail("{}: {}attention.head_count is {}, expected at least 1", origin, prefix, config.num_attention_heads);
  }
  config.head_dim = integer_or("attention.key_length", config.hidden_size / config.num_attention_heads);
  config.max_position_embeddings = file.integer(prefix + "context_length");
  config.rms_norm_eps = file.number(prefix + "attention.layer_norm_rms_epsilon");
  if (file.find(prefix + "rope.freq_base") != nullptr) config.rope_theta = file.number(prefix + "rope.freq_base");
  if (config.architecture == "qwen3") config.query_key_norm = QueryKeyNorm::per_head;
  config.attention_bias = config.architecture == "qwen2" || file.find_tensor("blk.0.attn_q.bias") != nullptr;
  config.attention_output_bias = file.find_tensor("blk.0.attn_output.bias") != nullptr;
  config.tie_word_embeddings = file.find_tensor("output.weight") == nullptr;
  config.bos_token_id = special_token(file, "tokenizer.ggml.bos_token_id", config.vocab_size);
  config.pad_token_id = special_token(file, "tokenizer.ggml.padding_token_id", config.vocab_size);
  config.stop_token_ids = stop_tokens(file, config.vocab_size);
  check_config(config, origin);
  refuse_uncomputed(file, prefix, config);
  return config;
}

text::Vocabulary vocabulary(const GgufFile& file) {
  const std::string origin = file.path().string();
  text::Vocabulary vocabulary;
  vocabulary.model = file.string("tokenizer.ggml.model");
  vocabulary.tokens = file.strings("tokenizer.ggml.tokens");
  const auto& types = file.integers("tokenizer.ggml.token_type");
  if (types.size() != vocabulary.tokens.size()) {
    fail("{}: {} token types for {} tokens", origin, types.size(), vocabulary.tokens.size());
  }
  for (int64_t type : types) {
    if (type < 0 || type > 6) fail("{}: a token has type {}, expected 0 to 6", origin, type);
    vocabulary.token_types.push_back(static_cast<int32_t>(type));
  }
  if (vocabulary.model == "gpt2") {
    vocabulary.pre = file.string("tokenizer.ggml.pre");
    vocabulary.merges = file.strings("tokenizer.ggml.merges");
    return vocabulary;
  }
  if (vocabulary.model != "llama" && vocabulary.model != "t5") {
    fail("{}: tokenizer \"{}\" (tokenizer.ggml.model) is unknown (supported: gpt2, llama, t5)", origin,
         vocabulary.model);
  }
  vocabulary.scores = file.numbers("tokenizer.ggml.scores");
  vocabulary.add_space_prefix = file.flag("tokenizer.ggml.add_space_prefix", true);
  vocabulary.remove_extra_whitespaces = file.flag("tokenizer.ggml.remove_extra_whitespaces", false);
  if (file.find("tokenizer.ggml.precompiled_charsmap") != nullptr) {
    for (const int64_t byte : file.integers("tokenizer.ggml.precompiled_charsmap")) {
      vocabulary.charsmap.push_back(static_cast<char>(static_cast<unsigned char>(byte & 0xFF)));
    }
  }
  return vocabulary;
}

std::optional<std::string> chat_template(const GgufFile& file) {
  if (file.find("tokenizer.chat_template") == nullptr) return std::nullopt;
  return file.string("tokenizer.chat_template");
}

std::string gguf_tensor_name(const std::string& name) {
  constexpr std::pair<std::string_view, std::string_view> outer[] = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {"lm_head.weight", "output.weight"},
  };
  constexpr std::pair<std::string_view, std::string_view> inner[] = {
      {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"},      {"self_attn.q_norm", "attn_q_norm"},
      {"self_attn.k_norm", "attn_k_norm"}, {"self_attn.v_proj", "attn_v"},
      {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
      {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"},
  };
  for (const auto& [hugging_face, gguf] : outer) {
    if (name == hugging_face) return std::string(gguf);
  }
  constexpr std::string_view layers = "model.layers.";
  const size_t dot = name.find('.', layers.size());
  const size_t last = name.rfind('.');
  if (name.starts_with(layers) && dot != std::string::npos && last > dot) {
    const std::string middle = name.substr(dot + 1, last - dot - 1);
    for (const auto& [hugging_face, gguf] : inner) {
      if (middle == hugging_face) {
        return fmt::format("blk.{}.{}{}", name.substr(layers.size(), dot - layers.size()), gguf, name.substr(last));
      }
    }
  }
  fail("tensor \"{}\" has no name in GGUF files", name);
}

}  // namespace backburn::model
