#pragma once

#include <filesystem>

namespace backburn::model {

/// A folder that appears under its name whole or not at all: files are written to path(), a temporary folder
/// beside it; commit() renames. Destroyed without commit(), it leaves nothing. An existing folder is replaced
/// when it holds nothing but what a model or adapter folder holds (.json, .safetensors, .jinja, README.md);
/// any other is an Error, so that nobody's files are deleted.
class StagedFolder {
 public:
  explicit StagedFolder(const std::filesystem::path& target);
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;
  ~StagedFolder();

  const std::filesystem::path& path() const { return path_; }
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path path_;
};

}  // namespace backburn::model
