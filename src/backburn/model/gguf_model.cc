#include "backburn/model/gguf_model.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <c10/util/BFloat16.h>
#include <c10/util/accumulate.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backburn/base/cancel.h"
#include "backburn/base/error.h"
#include "backburn/model/families.h"
#include "backburn/model/gguf_families.h"
#include "backburn/model/tensor_bytes.h"
#include "backburn/text/vocabulary_of.h"

namespace backburn::model {
namespace {

// How a tensor in a file differs from ours.
struct Storage {
  // Where a family's q and k are interleaved, row 2j + s of a head is our row s · d / 2 + j. 0: rows are as ours.
  int64_t interleaved_head_dim = 0;
  // llama.cpp scales by a norm's weight, Gemma by 1 + weight: the file holds the sum.
  float added = 0;

  int64_t our_row(int64_t row) const {
    if (interleaved_head_dim == 0) return row;
    const int64_t within = row % interleaved_head_dim;
    return row - within + (within % 2) * (interleaved_head_dim / 2) + within / 2;
  }
  bool as_ours() const { return interleaved_head_dim == 0 && added == 0; }
  // A vector whose values are reordered is a column of rows of one value.
  int64_t width(const std::vector<int64_t>& shape) const {
    return shape.size() == 1 && interleaved_head_dim != 0 ? 1 : shape.back();
  }
};

Storage storage_of(const ModelConfig& config, const GgufFamily& family, const std::string& name) {
  const bool rotated = name.find(".q_proj.") != std::string::npos || name.find(".k_proj.") != std::string::npos;
  return {family.interleaved && rotated ? config.head_dim : 0,
          config.norm_adds_one && name.ends_with("norm.weight") ? 1.0f : 0.0f};
}

// Experts lie in one tensor, one after the other.
std::vector<int64_t> stored_shape(const ModelConfig& config, const NamedWeight& weight, int64_t expert) {
  std::vector<int64_t> shape = weight.shape;
  if (expert >= 0) shape.insert(shape.begin(), config.mixture.num_experts);
  return shape;
}

// Where a weight lies: its tensor, and the bytes of it that are its own.
struct Stored {
  const GgufTensor* tensor = nullptr;
  std::span<const std::byte> bytes;
};

Stored find_stored(const GgufFile& file, const ModelConfig& config, const NamedWeight& wanted) {
  const std::string origin = file.path().string();
  const auto [name, expert] = gguf_place(config, wanted.name);
  const GgufTensor* stored = file.find_tensor(name);
  if (stored == nullptr) fail("{}: tensor \"{}\" is missing", origin, name);
  const auto shape = stored_shape(config, wanted, expert);
  if (stored->shape != shape) {
    fail("{}: tensor \"{}\" has shape [{}], expected [{}]", origin, name, fmt::join(stored->shape, ", "),
         fmt::join(shape, ", "));
  }
  auto bytes = file.bytes(*stored);
  if (expert >= 0) {
    const size_t slice = bytes.size() / static_cast<size_t>(config.mixture.num_experts);
    bytes = bytes.subspan(static_cast<size_t>(expert) * slice, slice);
  }
  return {stored, bytes};
}

at::Tensor read_tensor(const GgufFile& file, const ModelConfig& config, const NamedWeight& wanted, Storage storage,
                       at::ScalarType dtype) {
  const std::string origin = file.path().string();
  const Stored found = find_stored(file, config, wanted);
  const GgufTensor& stored = *found.tensor;
  const std::span<const std::byte> bytes = found.bytes;
  const bool same_type = (stored.type == GgmlType::f32 && dtype == at::kFloat) ||
                         (stored.type == GgmlType::bf16 && dtype == at::kBFloat16);
  if (same_type && storage.as_ours()) {
    at::Tensor view = view_bytes(file.mapping(stored), bytes, wanted.shape, dtype);
    check_finite(view, stored.name, origin);
    return view;
  }

  const int64_t width = storage.width(wanted.shape);
  const int64_t rows = c10::multiply_integers(wanted.shape) / width;
  if (width % static_cast<int64_t>(ggml_block_values(stored.type)) != 0) {
    fail("{}: tensor \"{}\" is a bias stored as {}, expected F32", origin, stored.name, ggml_type_name(stored.type));
  }
  const size_t row_bytes = bytes.size() / static_cast<size_t>(rows);
  const auto row_size = static_cast<size_t>(width);
  at::Tensor tensor = at::empty(wanted.shape, dtype);
  at::parallel_for(0, rows, std::max<int64_t>(1, (1 << 16) / width), [&](int64_t begin, int64_t end) {
    std::vector<float> values(row_size);
    for (int64_t row = begin; row < end; ++row) {
      const auto blocks = bytes.subspan(static_cast<size_t>(row) * row_bytes, row_bytes);
      const int64_t target = storage.our_row(row) * width;
      const auto convert = [&](auto* out) {
        dequantize(stored.type, blocks, values);
        for (size_t i = 0; i < row_size; ++i) out[i] = values[i] - storage.added;
      };
      if (dtype == at::kFloat) {
        convert(tensor.mutable_data_ptr<float>() + target);
      } else {
        convert(tensor.mutable_data_ptr<c10::BFloat16>() + target);
      }
    }
  });
  release_pages(bytes);
  check_finite(tensor, stored.name, origin);
  return tensor;
}

// A matrix of Q8_0 or Q4_0 blocks as they are; the rows in our order.
std::optional<QuantizedRows> read_rows(const GgufFile& file, const ModelConfig& config, const NamedWeight& wanted,
                                       Storage storage) {
  const auto [tensor, bytes] = find_stored(file, config, wanted);
  const GgufTensor& stored = *tensor;
  const bool blocks = stored.type == GgmlType::q8_0 || stored.type == GgmlType::q4_0;
  if (!blocks || wanted.shape.size() != 2 || storage.added != 0) return std::nullopt;
  const int64_t rows = wanted.shape[0];
  const auto row_bytes = static_cast<int64_t>(bytes.size()) / rows;
  const at::Tensor result = at::empty({rows, row_bytes}, at::kByte);
  auto* out = reinterpret_cast<std::byte*>(result.data_ptr());
  for (int64_t row = 0; row < rows; ++row) {
    std::memcpy(out + storage.our_row(row) * row_bytes, bytes.data() + row * row_bytes, static_cast<size_t>(row_bytes));
  }
  release_pages(bytes);
  const auto scales = result.view({-1, static_cast<int64_t>(ggml_block_bytes(stored.type))}).narrow(1, 0, 2);
  check_finite(scales.contiguous().view(at::kHalf), stored.name, file.path().string());
  return QuantizedRows{stored.type, result};
}

// The model without its weights.
Model model_of(const GgufFile& file) {
  const std::string origin = file.path().string();
  ModelConfig config = config_from_gguf(file);
  text::Tokenizer tokenizer = text::Tokenizer::from_vocabulary(vocabulary(file), origin);
  if (tokenizer.size() > config.vocab_size) {
    fail("{}: the tokenizer has {} tokens, the embedding only {}", origin, tokenizer.size(), config.vocab_size);
  }
  const auto source = chat_template(file);
  if (!source)
    fail("{}: the file has no chat template (tokenizer.chat_template); an instruction-tuned model is needed", origin);
  return {std::move(config),
          {},
          std::move(tokenizer),
          text::ChatTemplate::parse(*source, origin),
          file.path().stem().string()};
}

// llama.cpp's `enum llama_ftype`.
int64_t file_type(GgmlType type) {
  switch (type) {
    case GgmlType::f32: return 0;
    case GgmlType::f16: return 1;
    case GgmlType::q8_0: return 7;
    case GgmlType::bf16: return 32;
    default: fail("GGUF files are written in F32, F16, BF16 or Q8_0, not in {}", ggml_type_name(type));
  }
}

void tokenizer_to_gguf(const Model& model, GgufMetadata& metadata) {
  const ModelConfig& config = model.config;
  const text::Vocabulary words = text::vocabulary_of(model.tokenizer, static_cast<size_t>(config.vocab_size));
  const std::string at = "tokenizer.ggml.";
  metadata.text(at + "model", words.model);
  metadata.text(at + "pre", words.model == "gpt2" ? words.pre : "default");
  metadata.texts(at + "tokens", words.tokens);
  metadata.integers(at + "token_type", words.token_types);
  if (words.model == "gpt2") {
    metadata.texts(at + "merges", words.merges);
  } else {
    metadata.numbers(at + "scores", words.scores);
    metadata.flag(at + "add_space_prefix", words.add_space_prefix);
  }
  const auto token = [&](const char* key, int64_t id) {
    if (id >= 0) metadata.integer(at + key, id);
  };
  token("bos_token_id", config.bos_token_id);
  token("padding_token_id", config.pad_token_id);
  if (!config.stop_token_ids.empty()) token("eos_token_id", config.stop_token_ids[0]);
  if (config.stop_token_ids.size() > 1) token("eot_token_id", config.stop_token_ids[1]);
  if (config.bos_token_id >= 0) {
    const auto around = model.tokenizer.with_special_tokens({});
    metadata.flag(at + "add_bos_token", !around.empty() && around.front() == config.bos_token_id);
  }
  metadata.text("tokenizer.chat_template", model.chat_template.source());
}

// F16's range is narrow, and Q8_0's scales are F16 as well.
void check_range(std::span<const float> values, const GgufEntry& entry) {
  if (entry.type != GgmlType::f16 && entry.type != GgmlType::q8_0) return;
  const float most = entry.type == GgmlType::f16 ? 65504.0f : 127 * 65504.0f;
  for (const float value : values) {
    if (std::abs(value) > most) {
      fail("tensor \"{}\" holds {}, beyond the range of {}; choose bf16 or f32", entry.name, value,
           ggml_type_name(entry.type));
    }
  }
}

// The tensor's rows in the file's order and encoding, some at a time.
void write_rows(const at::Tensor& tensor, const GgufEntry& entry, Storage storage, AtomicFile& file) {
  constexpr int64_t at_once = 1 << 20;  // values
  const at::NoGradGuard no_grad;
  const int64_t width = storage.width(entry.shape);
  const at::Tensor matrix = tensor.detach().reshape({-1, width});
  const int64_t rows = matrix.size(0);
  const int64_t step = std::max<int64_t>(1, at_once / width);
  for (int64_t begin = 0; begin < rows; begin += step) {
    throw_if_stopped();
    std::vector<int64_t> places;
    for (int64_t row = begin; row < std::min(rows, begin + step); ++row) places.push_back(storage.our_row(row));
    at::Tensor part = matrix.index_select(0, at::tensor(places, at::kLong)).to(at::kFloat);
    if (storage.added != 0) part = part + storage.added;
    const std::span<const float> values(part.const_data_ptr<float>(), static_cast<size_t>(part.numel()));
    check_finite(part, entry.name, "GGUF export");
    check_range(values, entry);
    std::vector<std::byte> blocks(values.size() / ggml_block_values(entry.type) * ggml_block_bytes(entry.type));
    quantize(entry.type, values, blocks);
    file.write(blocks);
  }
}

}  // namespace

void check_tensors(const ModelConfig& config, const GgufFile& file) {
  check_size(config, file.tensors().size(), false, file.path().string());
  Weights places;
  for (const NamedWeight& each : named_weights(config, places)) find_stored(file, config, each);
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

StoredModel open_gguf(const std::filesystem::path& path) {
  const auto file = std::make_shared<const GgufFile>(GgufFile::open(path));
  Model model = model_of(*file);
  const ModelConfig config = model.config;
  check_tensors(config, *file);
  const GgufFamily& family = gguf_family_of(config.architecture);
  const auto storage = [config, &family](const NamedWeight& wanted) { return storage_of(config, family, wanted.name); };
  return {std::move(model),
          [=](const NamedWeight& wanted, at::ScalarType dtype) {
            return read_tensor(*file, config, wanted, storage(wanted), dtype);
          },
          [=](const NamedWeight& wanted) { return read_rows(*file, config, wanted, storage(wanted)); },
          [=](const NamedWeight& wanted) { release_pages(find_stored(*file, config, wanted).bytes); }};
}

Model load_gguf(const std::filesystem::path& path, at::ScalarType dtype) { return read_all(open_gguf(path), dtype); }

void save_gguf(const Model& model, const std::filesystem::path& path, GgmlType type) {
  save_gguf(model, path, type, reader_of(model));
}

void save_gguf(const Model& model, const std::filesystem::path& path, GgmlType type, const WeightReader& read) {
  const ModelConfig& config = model.config;
  const GgufFamily& family = gguf_family_of(config.architecture);
  GgufMetadata metadata;
  metadata.text("general.architecture", family.architecture);
  metadata.text("general.type", "model");
  metadata.text("general.name", model.name);
  metadata.integer("general.file_type", file_type(type));
  metadata.integer("general.quantization_version", 2);
  config_to_gguf(config, metadata);
  tokenizer_to_gguf(model, metadata);

  std::vector<GgufEntry> entries;
  std::vector<std::vector<std::function<at::Tensor()>>> parts;  // of an entry, one after the other
  std::vector<Storage> storages;
  const auto add = [&](const GgufPlace& place, std::vector<int64_t> shape, std::function<at::Tensor()> tensor,
                       Storage storage) {
    if (place.expert > 0) {  // named_weights tells a layer's experts one by one, in order
      const auto first =
          std::find_if(entries.rbegin(), entries.rend(), [&](const auto& e) { return e.name == place.name; });
      parts[static_cast<size_t>(entries.rend() - first) - 1].push_back(std::move(tensor));
      return;
    }
    // As llama.cpp's converter does: routers too.
    GgmlType stored = shape.size() == 1 || place.name.ends_with("ffn_gate_inp.weight") ? GgmlType::f32 : type;
    if (stored == GgmlType::q8_0 && shape.back() % 32 != 0) stored = GgmlType::f16;
    entries.push_back({place.name, stored, std::move(shape)});
    parts.push_back({std::move(tensor)});
    storages.push_back(storage);
  };
  for (const auto& [name, factors] : rope_factor_tensors(config)) {
    add({name}, {std::ssize(factors)}, [factors = factors] { return at::tensor(factors); }, {});
  }
  Weights places;
  for (const NamedWeight& each : named_weights(config, places)) {
    const GgufPlace place = gguf_place(config, each.name);
    add(
        place, stored_shape(config, each, place.expert), [&read, each] { return read(each); },
        storage_of(config, family, each.name));
  }
  write_gguf(path, metadata, entries, [&](size_t index, AtomicFile& file) {
    for (const auto& part : parts[index]) write_rows(part(), entries[index], storages[index], file);
  });
}

}  // namespace backburn::model
