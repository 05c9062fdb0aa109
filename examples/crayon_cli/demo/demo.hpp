// SPDX-License-Identifier: MIT
// `crayon demo`: one user's story, from samples to hybrid inference.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../add_command.hpp"

namespace crayon::demo {

struct options {
  std::string assets = CRAYON_SOURCE_DIR "/examples/crayon_cli/demo/assets";
  std::string out = "crayon-demo";  ///< the customized adapter goes here
  std::size_t questions = 600;      ///< held-out ones, of the user's mix; as many again for routing
  std::uint64_t seed = 1;
  bool remake = false;
  std::vector<std::string> only;  ///< assets to make again; none: all
};

[[nodiscard]] result<void> run(const options& o, cli::json& report);

}  // namespace crayon::demo

namespace crayon::cli {

void add_demo(CLI::App& parent, selection& chosen);

}  // namespace crayon::cli
