// SPDX-License-Identifier: MIT
// One line of text data.
#pragma once

#include <string>

namespace crayon::io {

struct text_sample {
  std::string prompt;
  std::string completion;
  std::string task;        ///< empty where it is not known
  std::string group = {};  ///< whose it is: of a user, a convention; empty where that is not known
};

}  // namespace crayon::io
