#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "backburn/base/error.h"
#include "backburn/model/gguf_model.h"
#include "backburn/model/hugging_face.h"
#include "backburn/model/peft.h"
#include "backburn/model/stored.h"
#include "commands.h"

namespace backburn::app {
namespace {

struct ExportFlags {
  std::string model, adapter, out, format, dtype = "bf16";
};

struct StoredAs {
  model::GgmlType ggml;
  at::ScalarType tensor;  // Undefined: GGUF files alone
};
const std::map<std::string, StoredAs> dtypes = {{"f32", {model::GgmlType::f32, at::kFloat}},
                                                {"f16", {model::GgmlType::f16, at::kHalf}},
                                                {"bf16", {model::GgmlType::bf16, at::kBFloat16}},
                                                {"q8_0", {model::GgmlType::q8_0, at::ScalarType::Undefined}}};

void write(const ExportFlags& flags) {
  if (std::filesystem::exists(flags.out)) fail_usage("--out {}: exists already; choose another name", flags.out);
  const bool gguf = flags.format.empty() ? flags.out.ends_with(".gguf") : flags.format == "gguf";
  const StoredAs stored = dtypes.at(flags.dtype);
  if (!gguf && stored.tensor == at::ScalarType::Undefined) {
    fail_usage("--dtype {}: for --format gguf alone; safetensors take bf16, f16 or f32", flags.dtype);
  }
  // Weights go from file to file one by one: a model need not fit into memory.
  const auto from = model::open_model(flags.model);
  const model::Model& model = from.model;
  // GGUF files keep vectors in f32, whatever the matrices are.
  auto read = from.reader(flags.dtype == "bf16" && !gguf ? at::kBFloat16 : at::kFloat);
  if (!flags.adapter.empty()) {
    read = model::merged(model.config, read, model::load_adapter(flags.adapter, model.config));
  }
  if (gguf) {
    model::save_gguf(model, flags.out, stored.ggml, read);
  } else {
    model::save_hugging_face(model, flags.out, stored.tensor, read);
  }
  fmt::print("{}\n", flags.out);
}

}  // namespace

void add_export(CLI::App& app) {
  auto* command = app.add_subcommand("export", "a Hugging Face folder or a GGUF file out of any model");
  auto flags = std::make_shared<ExportFlags>();
  command->add_option("MODEL", flags->model, model_help)->required();
  command->add_option("--adapter", flags->adapter, "a PEFT adapter's folder, to be merged into the weights");
  command->add_option("--out", flags->out, "the new folder, or the new .gguf file")->required();
  command
      ->add_option("--format", flags->format,
                   "safetensors (a Hugging Face folder) or gguf (default: as the name in --out says)")
      ->check(CLI::IsMember({"safetensors", "gguf"}));
  command
      ->add_option("--dtype", flags->dtype,
                   "what weights are stored as: bf16, f16, f32, or for GGUF q8_0 (vectors stay f32 there)")
      ->capture_default_str()
      ->check(CLI::IsMember({"bf16", "f16", "f32", "q8_0"}));
  command->callback([flags] { write(*flags); });
}

}  // namespace backburn::app
