// SPDX-License-Identifier: MIT
// Text data as JSON lines: {"prompt": ..., "completion": ..., "task": ...}.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <crayon/core/result.hpp>

namespace crayon::cli {

struct sample {
  std::string prompt;
  std::string completion;
  std::string task;  ///< empty where the line has none
};

/// Empty lines are skipped; a file without samples, or a line that is not such an object, is an
/// error that names file and line.
[[nodiscard]] result<std::vector<sample>> read_samples(const std::string& path);

}  // namespace crayon::cli
