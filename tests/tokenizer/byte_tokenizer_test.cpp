// SPDX-License-Identifier: MIT
#include <crayon/tokenizer/byte_tokenizer.hpp>

#include "../catch.hpp"

using crayon::tokenizer::byte_tokenizer;

TEST_CASE("every byte is a token and comes back", "[tokenizer]") {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  const auto ids = byte_tokenizer::encode(all);
  REQUIRE(ids.size() == 256);
  CHECK(ids.front() == 3);
  CHECK(ids.back() == 258);
  CHECK(byte_tokenizer::decode(ids) == all);
  CHECK(byte_tokenizer::size() == 259);
  for (const std::int32_t id : {-1, 0, 1, 2, 259}) CHECK(byte_tokenizer::decode(id).empty());
  CHECK(byte_tokenizer::encode("").empty());
}
