// SPDX-License-Identifier: MIT
// What a pool file says of layer, centroids and top_k.
#include <crayon/adapter/pool_file.hpp>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "../io/scratch.hpp"

using namespace crayon;

namespace {

/// Two adapters with two centroids of three elements each.
result<adapter::pool<float>> numbered_pool(adapter::pool_info info, std::size_t width = 6) {
  const float one = static_cast<float>(std::sqrt(1.0 / static_cast<double>(width)));
  const std::vector<float> index(2 * width, one);
  return adapter::pool<float>::zeros({{"site", 4, 3, 2, 1}}, 2, {index.data(), 2, width},
                                     std::move(info));
}

}  // namespace

TEST_CASE("layer, centroids and top_k are kept") {
  const crayon_test::scratch scratch;
  adapter::pool_info info;
  info.matcher = "top_k";
  info.layer = 3;
  info.centroids = 2;
  info.top_k = 5;
  info.centre = {1, 2, 3, 4};
  info.projection.assign(12, 0.5F);  // (3, 4): of one centroid, not of the row
  const auto made = numbered_pool(info);
  REQUIRE(made);
  REQUIRE(adapter::save_pool(scratch / "numbers", *made));
  const auto loaded = adapter::load_pool<float>(scratch / "numbers");
  REQUIRE(loaded);
  CHECK(loaded->info() == made->info());
  CHECK(loaded->info().layer == 3);

  // Where they are as always, the file says nothing.
  REQUIRE(adapter::save_pool(scratch / "plain", *numbered_pool({})));
  const auto plain = io::safetensors::open(scratch / "plain");
  REQUIRE(plain);
  for (const char* key : {"layer", "centroids", "top_k"}) CHECK(plain->metadata().count(key) == 0);
  CHECK(adapter::load_pool<float>(scratch / "plain")->info().centroids == 1);
}

TEST_CASE("an index that is not so many centroids is refused") {
  adapter::pool_info info;
  info.centroids = 4;
  CHECK(numbered_pool(info).error().text == "index vectors of length 6 are not 4 centroids");
  info.centroids = 0;
  CHECK_FALSE(numbered_pool(info));
  info.centroids = 2;
  info.centre = {1, 2};
  CHECK(numbered_pool(info).error().text == "index vectors of length 3, but a centre of 2");
  info.projection.assign(4, 1.0F);
  CHECK(numbered_pool(info).error().text ==
        "index vectors of length 3 and a centre of 2, but a projection of 4 elements");
}

TEST_CASE("numbers in metadata that are none are refused") {
  for (const char* text : {"0", "-1", "two", "3x", "", "1048577", "99999999999999999999999"}) {
    adapter::pool_info info;
    CHECK_FALSE(adapter::pool_json::read_numbers({{"layer", text}}, info));
  }
  adapter::pool_info info;
  CHECK(adapter::pool_json::read_numbers({{"top_k", "7"}, {"layer", "1048576"}}, info));
  CHECK(info.top_k == 7);
}
