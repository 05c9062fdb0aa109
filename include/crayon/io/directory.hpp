// SPDX-License-Identifier: MIT
// Directories that appear as a whole.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
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
/// stay as they are; the last of the named files is taken away first and moved in last, so that a
/// crash in between leaves a set that is visibly incomplete, never old and new files mixed. After
/// an error the old files are where they were.
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
    std::size_t aside = files_.size(), placed = 0;  // of files_: from `aside` on, up to `placed`
    const auto moved = replace(aside, placed);
    if (!moved) {
      while (placed > 0) ::unlink(target(--placed).c_str());
      for (; aside < files_.size(); ++aside) ::rename(old(aside).c_str(), target(aside).c_str());
      return moved;
    }
    for (std::size_t i = 0; i < files_.size(); ++i) ::unlink(old(i).c_str());
    files_.clear();
    return {};
  }

 private:
  directory_writer(std::string path, std::string staging, bool exists) noexcept
      : path_(std::move(path)), staging_(std::move(staging)), exists_(exists) {}

  [[nodiscard]] std::string target(std::size_t i) const { return path_ + "/" + files_[i]; }
  [[nodiscard]] std::string old(std::size_t i) const { return staging_ + "/" + files_[i] + ".old"; }

  /// Old files out of the way, the last one first; then the new ones in.
  [[nodiscard]] result<void> replace(std::size_t& aside, std::size_t& placed) const {
    for (const auto& name : files_) {
      struct stat status {};
      const std::string path = path_ + "/" + name;
      if (::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
        return error{errc::io_failed, "cannot replace " + path + ": a directory"};
      }
    }
    for (; aside > 0; --aside) {
      const std::string path = target(aside - 1);
      if (::rename(path.c_str(), old(aside - 1).c_str()) != 0 && errno != ENOENT) {
        return file_error("replace", path, errno);
      }
    }
    for (; placed < files_.size(); ++placed) {
      const std::string path = target(placed);
      if (::rename((staging_ + "/" + files_[placed]).c_str(), path.c_str()) != 0) {
        return file_error("write", path, errno);
      }
    }
    return {};
  }

  std::string path_;
  std::string staging_;
  bool exists_ = false;
  std::vector<std::string> files_;
};

}  // namespace crayon::io
