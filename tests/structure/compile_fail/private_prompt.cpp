// SPDX-License-Identifier: MIT
// expect: private_prompt
// expect: string_view
#include <crayon/engine/private_prompt.hpp>

#include <crayon/concepts.hpp>

// Anything that takes a prompt to a server.
struct server {
  static crayon::remote_answer complete(std::string_view prompt, const crayon::generation_options&,
                                        crayon::piece_sink) {
    crayon::remote_answer echo;
    echo.text = prompt;
    return echo;
  }
};
static_assert(crayon::remote<server>);

void send(server& s, std::string_view text) {
  const auto drop = [](std::string_view) { return true; };
#ifdef CRAYON_BAD
  const crayon::engine::private_prompt prompt{std::string(text)};
#else
  const std::string_view prompt = text;
#endif
  (void)s.complete(prompt, {}, drop);
}
