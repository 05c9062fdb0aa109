// SPDX-License-Identifier: MIT
#include <crayon/match/question_embedding.hpp>

#include <cstdint>
#include <span>
#include <vector>

#include "../catch.hpp"

namespace {

namespace questions {

/// State j of token t is t (j + 1) after all blocks, and that plus 100 after the first.
struct counting_session {
  std::size_t layers = 0, resets = 0, passes = 0;

  void reset() { ++resets; }
  void use_layers(std::size_t n) { layers = n; }
  template <class Visit>
  void for_each_hidden(std::span<const std::int32_t> tokens, Visit&& visit) {
    ++passes;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const float t = static_cast<float>(tokens[i]), more = layers == 1 ? 100.0F : 0.0F;
      const std::vector<float> state{t + more, 2 * t + more};
      visit(i, std::span<const float>(state));
    }
  }
};

}  // namespace questions

}  // namespace

TEST_CASE("a question is its states' mean, the last one, and the mean of early ones", "[match]") {
  questions::counting_session session;
  std::vector<float> f(6, -1);
  const std::vector<std::int32_t> ids{50, 1, 2, 6};  // BOS does not count
  crayon::match::embed_question(session, ids, f);
  CHECK(f == std::vector<float>{3, 6, 6, 12, 103, 106});
  CHECK(session.passes == 2);
  CHECK(session.layers == 0);  // all of them again
  crayon::match::embed_question(session, std::span(ids).first(1), f);
  CHECK(f == std::vector<float>(6, 0));
  CHECK(session.passes == 2);
}
