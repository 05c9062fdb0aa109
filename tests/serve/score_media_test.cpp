// SPDX-License-Identifier: MIT
#include <crayon/serve/score_media.hpp>

#include "../catch.hpp"

TEST_CASE("the content type of scores says how they are encoded, and nothing else does",
          "[serve]") {
  using crayon::match::score_encoding;
  using crayon::serve::content_type;
  using crayon::serve::encoding_of;
  for (const auto encoding : {score_encoding::f32, score_encoding::u8}) {
    CHECK(encoding_of(content_type(encoding)) == encoding);
  }
  CHECK(content_type(score_encoding::f32) == "application/vnd.crayon.scores-f32");
  for (const char* other : {"", "application/json", "application/vnd.crayon.scores-f16",
                            "application/vnd.crayon.scores-u8; charset=utf-8"}) {
    CHECK_FALSE(encoding_of(other));
  }
}
