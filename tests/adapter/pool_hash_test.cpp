// SPDX-License-Identifier: MIT
#include <crayon/adapter/pool_hash.hpp>

#include <set>
#include <vector>

#include <crayon/adapter/mapped_pool.hpp>
#include <crayon/adapter/pool_file.hpp>

#include "../catch.hpp"
#include "../io/scratch.hpp"
#include "random_pool.hpp"

using namespace crayon;

TEST_CASE("a pool's hash is of what a blend depends on, in memory and in its file") {
  rng random(8);
  const auto shapes = crayon_test::random_shapes(random);
  std::vector<adapter::lora_adapter<float>> all;
  for (int k = 0; k < 3; ++k) all.push_back(crayon_test::random_adapter<float>(shapes, random));
  const auto index = crayon_test::unit_vectors(3);
  const auto build = [&](adapter::pool_info info, std::vector<float> vectors) {
    return *adapter::pool<float>::build(all, {vectors.data(), 3, 3}, std::move(info));
  };
  const auto info = crayon_test::info_of_everything(3);
  const auto pool = build(info, index);
  const auto hash = adapter::pool_hash(pool);
  CHECK(adapter::pool_hash(build(info, index)) == hash);

  const crayon_test::scratch dir;
  REQUIRE(adapter::save_pool(dir / "p", pool, {.spare = 3, .cores = {}}));
  CHECK(adapter::pool_hash(*adapter::load_pool<float>(dir / "p")) == hash);
  CHECK(adapter::pool_hash(*adapter::mapped_pool<float>::open(dir / "p")) == hash);

  std::set<std::uint64_t> others{hash};
  const auto differs = [&](auto change) {
    auto other = info;
    auto vectors = index;
    change(other, vectors);
    CHECK(others.insert(adapter::pool_hash(build(other, vectors))).second);
  };
  differs([](auto& i, auto&) { i.tau = 0.08F; });
  differs([](auto& i, auto&) { i.blend = "concat"; });
  differs([](auto& i, auto&) { i.matcher = "centroid"; });
  differs([](auto& i, auto&) { i.embedding = "last_token"; });
  differs([](auto& i, auto&) { i.base_hash = "01ff"; });
  differs([](auto& i, auto&) { i.names[1] = "renamed"; });
  differs([](auto& i, auto&) { i.layer = 2; });
  differs([](auto& i, auto&) { i.top_k = 2; });
  differs([](auto& i, auto&) { i.centre[0] = 0.5F; });
  differs([](auto&, auto& v) { v = {0, 1, 0, 1, 0, 0, 0, 0, 1}; });
  all[2].b(0).data[0] += 1;
  differs([](auto&, auto&) {});
  auto note = info;
  note.notes["more"] = "text";
  all[2].b(0).data[0] -= 1;
}
