// SPDX-License-Identifier: MIT
// Spaces of domains as the commands load them.
#pragma once

#include <string>

#include <crayon/match/domain_file.hpp>

namespace crayon::cli {

/// Errors: one that was made for another model than that of this hash.
[[nodiscard]] inline result<match::domain_file> open_domains(const std::string& path,
                                                             const std::string& base_hash) {
  CRAYON_TRY(auto file, match::load_domains(path));
  if (file.base_hash == base_hash) return file;
  return error{errc::mismatch, path + ": its space of domains is for the model " + file.base_hash +
                                   ", not for " + base_hash};
}

}  // namespace crayon::cli
