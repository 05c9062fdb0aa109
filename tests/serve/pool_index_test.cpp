// SPDX-License-Identifier: MIT
#include <crayon/serve/pool_index.hpp>

#include <string>

#include "../catch.hpp"
#include "../engine/tiny.hpp"

TEST_CASE("a pool's hash is read as 16 digits and nothing else", "[serve]") {
  using crayon::serve::detail::hash_of;
  CHECK(hash_of("00000000000000ff") == 255U);
  CHECK(hash_of("ffffffffffffffff") == ~std::uint64_t{0});
  for (const char* wrong : {"", "ff", "00000000000000fg", "0x000000000000ff", "-000000000000001",
                            "000000000000000ff", "00000000000000f "}) {
    CHECK_FALSE(hash_of(wrong));
  }
}

TEST_CASE("the index of a pool is what it was after a journey, and refused when cut", "[serve]") {
  using namespace crayon;
  const auto weights = test::tiny_weights(7);
  adapter::pool_info info;
  info.base_model = "tiny";
  info.tau = 0.25F;
  info.centre.assign(2 * weights.config().dim, 0.5F);
  const auto pool = test::tiny_pool(weights, info);
  const auto body = serve::pool_index_body(pool);
  REQUIRE(body);
  const auto read = serve::read_pool_index("there", *body);
  REQUIRE(read);
  CHECK(read->hash == adapter::pool_hash(pool));
  CHECK(read->info.names == pool.info().names);
  CHECK(read->info.tau == 0.25F);
  CHECK(read->info.base_model == "tiny");
  CHECK(read->info.centre == info.centre);
  REQUIRE(read->size() == 3);
  const auto expected = pool.index();
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(read->vectors[i] == expected.data[i]);
  for (std::size_t size = 0; size < body->size(); size += 7) {
    const auto cut = serve::read_pool_index("there", std::string_view(*body).substr(0, size));
    REQUIRE_FALSE(cut);
    CHECK(cut.error().text.find("there") == 0);
  }
}
