// SPDX-License-Identifier: MIT
// expect: private_prompt
// expect: string_view
#include <crayon/engine/private_prompt.hpp>

#include <crayon/serve/hedged.hpp>

// Two servers are no way out for a prompt that one server must not see.
struct server {
  static crayon::remote_answer complete(std::string_view prompt, const crayon::generation_options&,
                                        crayon::piece_sink) {
    crayon::remote_answer echo;
    echo.text = prompt;
    return echo;
  }
};

void send(crayon::serve::hedged<server, server>& two, std::string_view text) {
  const auto drop = [](std::string_view) { return true; };
#ifdef CRAYON_BAD
  const crayon::engine::private_prompt prompt{std::string(text)};
#else
  const std::string_view prompt = text;
#endif
  (void)two.complete(prompt, {}, drop);
}
