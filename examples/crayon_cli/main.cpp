// SPDX-License-Identifier: MIT
#include <cerrno>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <crayon/io/file.hpp>
#include <crayon/version.hpp>

#include "add_command.hpp"
#if __has_include("demo/demo.hpp")
#include "demo/demo.hpp"
#define CRAYON_CLI_HAS_DEMO 1
#endif

namespace {

using namespace crayon;

/// One line on stderr, whatever the text holds: names in files may have control characters.
void complain(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7F') c = ' ';
  }
  while (!text.empty() && text.back() == ' ') text.pop_back();
  std::fprintf(stderr, "crayon: %s\n", text.c_str());
}

/// The command that the user chose.
const CLI::App& command_of(const CLI::App& app) {
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  return *command;
}

/// A count or a seed below zero, which CLI11 takes for one near 2^64; "" if there is none.
std::string negative_in(const CLI::App& command) {
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_type_name().starts_with("UINT")) continue;
    for (const std::string& value : option->results()) {
      if (value.starts_with('-')) return option->get_name() + ": " + value + " is negative";
    }
  }
  return {};
}

/// An output that would replace what the command reads, or another output; "" if there is none.
std::string clash_of(const CLI::App& command) {
  const auto paths_of = [&](const char* name) {
    const auto* option = command.get_option_no_throw(name);
    return option == nullptr ? std::vector<std::string>() : option->results();
  };
  // A pool may be replaced by what was made of it.
  std::vector<const char*> names{"--out", "--json", "--svg"};
  const std::size_t outputs = names.size();
  for (const char* input : {"--model", "--tokenizer", "--data", "--samples", "--scores", "--router",
                            "--adapter", "--text", "--pool"}) {
    names.push_back(input);
  }
  std::error_code ignored;
  for (std::size_t i = 0; i < outputs; ++i) {
    for (const std::string& out : paths_of(names[i])) {
      for (std::size_t j = i + 1; j < names.size(); ++j) {
        if (i == 0 && std::string_view(names[j]) == "--pool") continue;
        for (const std::string& other : paths_of(names[j])) {
          if (other == out || std::filesystem::equivalent(other, out, ignored)) {
            return std::string(names[i]) + " and " + names[j] + " are both " + out;
          }
        }
      }
    }
  }
  return {};
}

result<void> run(const cli::selection& chosen) {
  cli::json report;
  const bool wanted = !chosen.json_file.empty(), to_stdout = chosen.json_file == "-";
  std::optional<io::atomic_file> file;  // before the work: a report that cannot be written is known
  if (wanted && !to_stdout) {
    CRAYON_TRY(io::atomic_file created, io::atomic_file::create(chosen.json_file));
    file.emplace(std::move(created));
  }
  CRAYON_CHECK(chosen.run(report));
  if (wanted) {
    // A model may end its text within a character.
    const auto text = report.dump(2, ' ', false, cli::json::error_handler_t::replace) + "\n";
    if (to_stdout) std::fputs(text.c_str(), stdout);
    if (file) {
      CRAYON_CHECK(file->write(text));
      CRAYON_CHECK(file->commit());
    }
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    return io::file_error("write", "standard output", errno);
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int failed = 1, bad_usage = 2;
  try {
    CLI::App app{"Pool, blend, run and route small customized language models"};
    app.name("crayon");
    app.require_subcommand(1);
    app.set_version_flag("--version", std::to_string(version.major) + "." +
                                          std::to_string(version.minor) + "." +
                                          std::to_string(version.patch));
    cli::selection chosen;
#ifdef CRAYON_CLI_HAS_DEMO
    cli::add_demo(app, chosen);
#endif
    cli::add_commands(app, chosen);
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
      if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
      const auto unknown = app.remaining(true);  // named first: what is missing may be mistyped
      complain((unknown.empty() ? std::string(e.what()) : "not understood: " + unknown.front()) +
               " (crayon --help shows the commands and their options)");
      return bad_usage;
    }
    const CLI::App& command = command_of(app);
    for (const std::string& wrong : {negative_in(command), clash_of(command)}) {
      if (wrong.empty()) continue;
      complain(wrong);
      return bad_usage;
    }
    if (const auto done = run(chosen); !done) {
      complain(done.error().text);
      return failed;
    }
    return 0;
  } catch (const std::bad_alloc&) {
    complain("not enough memory");
  } catch (const std::exception& e) {
    complain(e.what());
  }
  return failed;
}
