// SPDX-License-Identifier: MIT
// Directories that appear as a whole.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>

namespace crayon::io {

/// Collects files in a temporary directory and moves them into place on `commit`. A directory that
/// does not exist yet appears complete, by one rename. In one that exists, files of other names
/// stay as they are; the last of the named files is removed first and moved last, so that a crash
/// in between leaves a set that is visibly incomplete, never old and new files mixed.
class directory_writer {
 public:
  [[nodiscard]] static result<directory_writer> create(std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    struct stat status {};
    const bool exists = ::stat(path.c_str(), &status) == 0;
    if (exists && !S_ISDIR(status.st_mode)) {
      return error{errc::io_failed, "cannot write " + path + ": not a directory"};
    }
    std::string staging = temporary_name(exists ? path + "/" : path);
    if (::mkdir(staging.c_str(), mode_t{0777}) != 0) return file_error("write", path, errno);
    return directory_writer(std::move(path), std::move(staging), exists);
  }

  directory_writer(directory_writer&& other) noexcept
      : path_(std::move(other.path_)),
        staging_(std::exchange(other.staging_, {})),
        exists_(other.exists_),
        files_(std::move(other.files_)) {}
  directory_writer& operator=(directory_writer&&) = delete;
  ~directory_writer() {
    if (staging_.empty()) return;
    for (const auto& name : files_) ::unlink((staging_ + "/" + name).c_str());
    ::rmdir(staging_.c_str());
  }

  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// Where to write the file `name` before `commit`.
  [[nodiscard]] std::string stage(std::string_view name) {
    files_.emplace_back(name);
    return staging_ + "/" + files_.back();
  }

  /// Moves the staged files, in the order in which they were staged.
  [[nodiscard]] result<void> commit() {
    if (!exists_) {
      if (::rename(staging_.c_str(), path_.c_str()) != 0) return file_error("write", path_, errno);
      staging_.clear();
      return {};
    }
    if (!files_.empty()) {
      const std::string last = path_ + "/" + files_.back();
      if (::unlink(last.c_str()) != 0 && errno != ENOENT) return file_error("replace", last, errno);
    }
    for (const auto& name : files_) {
      const std::string target = path_ + "/" + name;
      if (::rename((staging_ + "/" + name).c_str(), target.c_str()) != 0) {
        return file_error("write", target, errno);
      }
    }
    files_.clear();
    return {};
  }

 private:
  directory_writer(std::string path, std::string staging, bool exists) noexcept
      : path_(std::move(path)), staging_(std::move(staging)), exists_(exists) {}

  std::string path_;
  std::string staging_;
  bool exists_ = false;
  std::vector<std::string> files_;
};

}  // namespace crayon::io
