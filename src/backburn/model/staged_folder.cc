#include "backburn/model/staged_folder.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "backburn/base/error.h"
#include "backburn/base/files.h"

namespace backburn::model {
namespace {

namespace fs = std::filesystem;

void check_replaceable(const fs::path& target) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(target, error))) return;
  if (!fs::is_directory(target, error)) fail("{}: exists and is not a folder; choose another name", target.string());
  for (const auto& entry : fs::directory_iterator(target)) {
    const std::string extension = entry.path().extension().string();
    const bool ours = extension == ".json" || extension == ".safetensors" || extension == ".jinja" ||
                      entry.path().filename() == "README.md";
    if (!ours || !entry.is_regular_file()) {
      fail("{}: exists and holds \"{}\", which no model folder has; choose another name or delete it", target.string(),
           entry.path().filename().string());
    }
  }
}

}  // namespace

StagedFolder::StagedFolder(const fs::path& target) : target_(fs::absolute(target).lexically_normal()) {
  if (!target_.has_filename()) target_ = target_.parent_path();
  check_replaceable(target_);
  make_folder(target_.parent_path());
  std::string name = target_.string() + ".tmp-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) {
    fail("{}: cannot create a folder beside: {}", target_.string(), std::strerror(errno));
  }
  path_ = name;
  ::chmod(path_.c_str(), 0755);
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

void StagedFolder::commit() {
  check_replaceable(target_);
  // Exchanging keeps a whole folder under the name at every moment; what was there is deleted with this
  // object.
  if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0) return;
  if (::rename(path_.c_str(), target_.c_str()) != 0) {
    fail("{}: cannot rename the finished folder: {}", target_.string(), std::strerror(errno));
  }
  path_.clear();
}

}  // namespace backburn::model
