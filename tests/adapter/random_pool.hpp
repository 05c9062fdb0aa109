// SPDX-License-Identifier: MIT
// Random pools with everything a pool file can hold.
#pragma once

#include <crayon/adapter/pool.hpp>
#include <crayon/core/rng.hpp>

#include <cstddef>
#include <string>
#include <vector>

#include "random_adapter.hpp"

namespace crayon_test {

/// Sites of all kinds.
inline std::vector<crayon::adapter::site_shape> shapes_of_all_kinds(crayon::rng& random) {
  using crayon::adapter::site_kind;
  auto shapes = random_shapes(random);
  if (random.below(2) == 0) {
    shapes.push_back({"embed_tokens", 1 + random.below(20), 1 + random.below(90), 2, 0.5F,
                      site_kind::embedding});
  }
  if (random.below(2) == 0) {
    shapes.push_back({shapes[0].module + ".bias", shapes[0].out, 1, 1, 0.5F, site_kind::bias});
  }
  return shapes;
}

inline crayon::adapter::pool_info info_of_everything(std::size_t count) {
  crayon::adapter::pool_info info;
  info.base_model = "a \"model\"";
  info.base_hash = "00ff";
  info.embedding = "mean_pooling";
  info.matcher = "cosine_softmax";
  info.blend = "linear";
  info.tau = 0.07F;
  info.centre = {0.1F, 0.2F, 0.3F};
  info.notes = {{"data", "lines\nof text"}, {"steps", "100"}};
  for (std::size_t k = 0; k < count; ++k) info.names.push_back("name " + std::to_string(k));
  return info;
}

/// Unit vectors (count, 3).
inline std::vector<float> unit_vectors(std::size_t count) {
  std::vector<float> index(count * 3);
  for (std::size_t k = 0; k < count; ++k) index[k * 3 + k % 3] = 1;
  return index;
}

template <element E>
crayon::adapter::pool<E> pool_of(const std::vector<crayon::adapter::lora_adapter<E>>& adapters,
                                 std::size_t tile) {
  const auto index = unit_vectors(adapters.size());
  auto p = crayon::adapter::pool<E>::build(adapters, {index.data(), adapters.size(), 3},
                                           info_of_everything(adapters.size()), tile);
  REQUIRE(p);
  return *std::move(p);
}

template <element E>
crayon::adapter::pool<E> random_pool_of(crayon::rng& random, std::size_t count) {
  const auto shapes = shapes_of_all_kinds(random);
  std::vector<crayon::adapter::lora_adapter<E>> adapters;
  for (std::size_t k = 0; k < count; ++k) adapters.push_back(random_adapter<E>(shapes, random));
  return pool_of(adapters, crayon::alignment / sizeof(E) * (1 + random.below(4)));
}

}  // namespace crayon_test
