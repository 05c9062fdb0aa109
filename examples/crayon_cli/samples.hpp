// SPDX-License-Identifier: MIT
// Text data as JSON lines: a file, or a folder of them.
#pragma once

#include <crayon/io/json_lines.hpp>

namespace crayon::cli {

using io::read_samples;
using sample = io::text_sample;

}  // namespace crayon::cli
