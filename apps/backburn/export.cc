#include <fmt/format.h>

#include <filesystem>

#include "backburn/base/error.h"
#include "backburn/model/hugging_face.h"
#include "backburn/model/load.h"
#include "backburn/model/peft.h"
#include "commands.h"

namespace backburn::app {
namespace {

struct ExportFlags {
  std::string model, adapter, out;
};

void write(const ExportFlags& flags) {
  if (std::filesystem::exists(flags.out)) fail_usage("--out {}: exists already; name a new folder", flags.out);
  auto model = model::load_model(flags.model, at::kBFloat16);
  if (!flags.adapter.empty()) {
    model.weights = model::merge(model.weights, model::load_adapter(flags.adapter, model.config));
  }
  model::save_hugging_face(model, flags.out, at::kBFloat16);
  fmt::print("{}\n", flags.out);
}

}  // namespace

void add_export(CLI::App& app) {
  auto* command = app.add_subcommand("export", "a Hugging Face folder (bf16 safetensors) out of any model");
  auto flags = std::make_shared<ExportFlags>();
  command
      ->add_option("MODEL", flags->model, "a name that `backburn pull` knows, a .gguf file, or a Hugging Face folder")
      ->required();
  command->add_option("--adapter", flags->adapter, "a PEFT adapter's folder, to be merged into the weights");
  command->add_option("--out", flags->out, "the new folder")->required();
  command->callback([flags] { write(*flags); });
}

}  // namespace backburn::app
