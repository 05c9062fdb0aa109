// SPDX-License-Identifier: MIT
// How a command is added to the program.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include <crayon/core/result.hpp>

#include "cli.hpp"

namespace crayon::cli {

/// The command that the user chose.
struct selection {
  std::function<result<void>(json& report)> run;
  std::string json_file;
};

/// Adds `crayon <name>`. `run(options, report)` prints to stdout and fills the report; an error it
/// returns is printed as one line on stderr, and the exit status is 1.
template <class Options>
CLI::App* add_command(CLI::App& parent, selection& chosen, const std::string& name,
                      const std::string& description, std::shared_ptr<Options> options,
                      result<void> (*run)(const Options&, json&)) {
  CLI::App* command = parent.add_subcommand(name, description);
  command
      ->add_option("--json", chosen.json_file, "Write a machine-readable report (-: to stdout)")
      ->type_name("FILE");
  command->callback([&chosen, options = std::move(options), run] {
    chosen.run = [options, run](json& report) { return run(*options, report); };
  });
  return command;
}

/// All commands but the demo.
void add_commands(CLI::App& parent, selection& chosen);

/// `--model`, `--tokenizer`.
void add_model_options(CLI::App& command, model_options& options, bool with_tokenizer);

/// `--adapter DIR[:scale]`, any number of times.
void add_adapter_option(CLI::App& command, std::vector<std::string>& adapters);

}  // namespace crayon::cli
