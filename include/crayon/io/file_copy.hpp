// SPDX-License-Identifier: MIT
// A file's content as another file's, without reading it where the file system can share it.
#pragma once

#include <sys/ioctl.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/fs.h>
#endif

#include <cerrno>
#include <cstddef>
#include <span>
#include <string>

#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>

namespace crayon::io {

/// Fills the new, empty file `to` with what `from` holds. Btrfs, XFS and others share the blocks
/// until one of the two is changed; elsewhere the kernel copies, and where it cannot, `write` does.
[[nodiscard]] inline result<void> copy_contents(const std::string& from, atomic_file& to) {
#ifdef __linux__
  const descriptor source(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
  if (source.get() < 0) return file_error("open", from, errno);
  if (::ioctl(to.number(), FICLONE, source.get()) == 0) return {};
  for (bool any = false;; any = true) {
    const ::ssize_t count =
        ::copy_file_range(source.get(), nullptr, to.number(), nullptr, std::size_t{1} << 30, 0);
    if (count == 0) return {};
    if (count > 0 || errno == EINTR) continue;
    if (any) return file_error("write", to.path(), errno);
    break;  // not between these file systems
  }
#endif
  CRAYON_TRY(const mapped_file whole, mapped_file::open(from));
  return to.write(whole.bytes());
}

}  // namespace crayon::io
