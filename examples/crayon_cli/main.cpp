// SPDX-License-Identifier: MIT
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include <crayon/io/file.hpp>
#include <crayon/version.hpp>

#include "add_command.hpp"
#if __has_include("demo/demo.hpp")
#include "demo/demo.hpp"
#define CRAYON_CLI_HAS_DEMO 1
#endif

namespace {

using namespace crayon;

/// One line on stderr, whatever the text holds.
void complain(std::string text) {
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  while (!text.empty() && text.back() == ' ') text.pop_back();
  std::fprintf(stderr, "crayon: %s\n", text.c_str());
}

result<void> run(const cli::selection& chosen) {
  cli::json report;
  CRAYON_CHECK(chosen.run(report));
  if (!chosen.json_file.empty()) {
    // A model may end its text within a character.
    const auto text = report.dump(2, ' ', false, cli::json::error_handler_t::replace);
    CRAYON_CHECK(io::write_text(chosen.json_file, text + "\n"));
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
      complain(std::string(e.what()) + " (crayon --help shows the commands and their options)");
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
