// SPDX-License-Identifier: MIT
// Files: mapped for reading, replaced as a whole for writing. POSIX.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <crayon/core/result.hpp>

namespace crayon::io {

/// "cannot <action> <path>: <what the operating system said>"; `number` is an errno.
[[nodiscard]] inline error file_error(std::string_view action, std::string_view path, int number) {
  const bool missing = number == ENOENT || number == ENOTDIR;
  std::string text = "cannot ";
  text.append(action).append(" ").append(path).append(": ");
  return {missing ? errc::not_found : errc::io_failed,
          text + std::generic_category().message(number)};
}

/// An open file descriptor, closed at the end of its scope.
class descriptor {
 public:
  descriptor() = default;
  explicit descriptor(int number) noexcept : number_(number) {}
  descriptor(descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~descriptor() {
    if (number_ >= 0) ::close(number_);
  }

  [[nodiscard]] int get() const noexcept { return number_; }
  [[nodiscard]] int release() noexcept { return std::exchange(number_, -1); }

 private:
  int number_ = -1;
};

/// A regular file mapped into memory, read-only. Another process that truncates the file while it
/// is mapped makes a read beyond its new end fail with SIGBUS; `atomic_file` never does that.
class mapped_file {
 public:
  [[nodiscard]] static result<mapped_file> open(std::string path) {
    const descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file.get() < 0) return file_error("open", path, errno);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return file_error("read", path, errno);
    if (!S_ISREG(status.st_mode)) {
      return error{errc::io_failed, "cannot read " + path + ": not a regular file"};
    }
    mapped_file mapped;
    mapped.path_ = std::move(path);
    mapped.size_ = static_cast<std::size_t>(status.st_size);
    if (mapped.size_ == 0) return mapped;  // mmap refuses length 0
    void* memory = ::mmap(nullptr, mapped.size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (memory == MAP_FAILED) return file_error("map", mapped.path_, errno);
    mapped.memory_ = memory;
    return mapped;
  }

  /// Bytes that came from elsewhere, copied: read as if they were a file. `name` stands in errors.
  [[nodiscard]] static result<mapped_file> copy_of(std::string name,
                                                   std::span<const std::byte> bytes) {
    mapped_file copied;
    copied.path_ = std::move(name);
    if (bytes.empty()) return copied;
    void* memory = ::mmap(nullptr, bytes.size(), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return file_error("map", copied.path_, errno);
    std::memcpy(memory, bytes.data(), bytes.size());
    copied.memory_ = memory;
    copied.size_ = bytes.size();
    return copied;
  }

  mapped_file() = default;
  mapped_file(mapped_file&& other) noexcept
      : path_(std::move(other.path_)),
        memory_(std::exchange(other.memory_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  mapped_file& operator=(mapped_file&& other) noexcept {
    path_.swap(other.path_);
    std::swap(memory_, other.memory_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~mapped_file() {
    if (memory_ != nullptr) ::munmap(memory_, size_);
  }

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  /// Starts on a page.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
    return {static_cast<const std::byte*>(memory_), size_};
  }

 private:
  std::string path_;
  void* memory_ = nullptr;
  std::size_t size_ = 0;
};

/// The whole file as text.
[[nodiscard]] inline result<std::string> read_text(const std::string& path) {
  CRAYON_TRY(const mapped_file file, mapped_file::open(path));
  const auto bytes = file.bytes();
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

/// `path` + ".tmp-<process>-<number>": a name beside `path` that nobody else uses.
[[nodiscard]] inline std::string temporary_name(std::string_view path) {
  static std::atomic<unsigned> count{0};
  std::string name(path);
  return name.append(".tmp-")
      .append(std::to_string(::getpid()))
      .append("-")
      .append(std::to_string(count.fetch_add(1, std::memory_order_relaxed)));
}

/// Where a file is that may be a symbolic link: the link stays when the file is replaced. Links of
/// the system to what a process has open are refused, and those that lead nowhere.
[[nodiscard]] inline result<std::string> link_target(std::string path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) return path;
  char name[PATH_MAX];
  const ::ssize_t length = ::readlink(path.c_str(), name, sizeof name);
  if (length < 0) return file_error("write", path, errno);
  if (std::string_view(name, static_cast<std::size_t>(length)).starts_with("/proc/")) {
    return error{errc::io_failed, "cannot write " + path + ": not a regular file"};
  }
  if (::realpath(path.c_str(), name) == nullptr) return file_error("write", path, errno);
  return std::string(name);
}

/// Writes a file under a temporary name in the same directory and renames it on `commit`: a reader
/// sees the old file or the whole new one, whose permissions are those of the old one. Without
/// `commit` nothing is left behind. Of a symbolic link the file it points to is replaced.
class atomic_file {
 public:
  [[nodiscard]] static result<atomic_file> create(std::string path) {
    CRAYON_TRY(path, link_target(path));
    struct stat status {};
    const bool exists = ::stat(path.c_str(), &status) == 0;
    if (exists && !S_ISREG(status.st_mode)) {
      return error{errc::io_failed, "cannot write " + path + ": not a regular file"};
    }
    const auto mode = exists ? static_cast<mode_t>(status.st_mode & 0777U) : mode_t{0666};
    for (;;) {
      std::string temporary = temporary_name(path);
      const int number = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
      if (number >= 0) {
        atomic_file file(std::move(path), std::move(temporary), number);
        if (exists && ::fchmod(number, mode) != 0) return file_error("write", file.path_, errno);
        return file;
      }
      if (errno != EEXIST) return file_error("write", path, errno);
    }
  }

  atomic_file(atomic_file&& other) noexcept
      : path_(std::move(other.path_)),
        temporary_(std::exchange(other.temporary_, {})),
        file_(std::move(other.file_)) {}
  atomic_file& operator=(atomic_file&&) = delete;
  ~atomic_file() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  [[nodiscard]] result<void> write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ::ssize_t count = ::write(file_.get(), bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return file_error("write", path_, errno);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return {};
  }
  [[nodiscard]] result<void> write(std::string_view text) {
    return write(std::as_bytes(std::span(text)));
  }

  /// Overwrites bytes that are there; the next `write` goes on where the last one ended.
  [[nodiscard]] result<void> write_at(std::size_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ::ssize_t count =
          ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<::off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return file_error("write", path_, errno);
      offset += static_cast<std::size_t>(count);
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return {};
  }

  /// The open file, readable and writable.
  [[nodiscard]] int number() const noexcept { return file_.get(); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// Gives the file its name. `sync` waits until the bytes are on the medium, so that a power cut
  /// cannot leave an empty file under the new name.
  [[nodiscard]] result<void> commit(bool sync = false) {
    if (sync && ::fsync(file_.get()) != 0) return file_error("write", path_, errno);
    if (::close(file_.release()) != 0) return file_error("write", path_, errno);
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) return file_error("write", path_, errno);
    temporary_.clear();
    return {};
  }

 private:
  atomic_file(std::string path, std::string temporary, int number) noexcept
      : path_(std::move(path)), temporary_(std::move(temporary)), file_(number) {}

  std::string path_;
  std::string temporary_;
  descriptor file_;
};

/// Replaces the file `path` by `text`, as a whole or not at all.
[[nodiscard]] inline result<void> write_text(const std::string& path, std::string_view text,
                                             bool sync = false) {
  CRAYON_TRY(atomic_file file, atomic_file::create(path));
  CRAYON_CHECK(file.write(text));
  return file.commit(sync);
}

}  // namespace crayon::io
