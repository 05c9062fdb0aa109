// SPDX-License-Identifier: MIT
// What the tests of this folder share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/io/safetensors.hpp>
#include <crayon/model/llama_weights.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/highway_static.hpp>
#include <crayon/simd/scalar.hpp>
#include <crayon/simd/xsimd_static.hpp>

#include "../catch.hpp"

using every_backend = std::tuple<crayon::simd::scalar, crayon::simd::highway_static,
                                 crayon::simd::highway_dynamic, crayon::simd::xsimd_static<>>;

inline std::string fixture(const std::string& name) {
  return std::string(CRAYON_FIXTURES) + "/" + name;
}

/// The folder of real models and texts; empty, with a warning, when it is not there.
inline std::string shared_data(const std::string& name) {
  const char* chosen = std::getenv("CRAYON_DATA");
  const std::string path =
      (chosen != nullptr ? chosen : std::string(CRAYON_SOURCE_DIR "/../shared/data")) + "/" + name;
  if (std::ifstream(path).good()) return path;
  WARN("skipped: " << path << " is not there (set CRAYON_DATA)");
  return {};
}

inline std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::vector<std::int32_t> read_ids(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::int32_t> ids;
  for (std::int32_t id; file >> id;) ids.push_back(id);
  return ids;
}

/// |a - b| / |b| in the Euclidean norm.
template <class A, class B>
double relative_distance(const A& a, const B& b) {
  REQUIRE(a.size() == b.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    difference += (x - y) * (x - y);
    norm += y * y;
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

inline std::vector<float> random_values(std::size_t count, std::uint64_t seed, float scale = 1) {
  crayon::rng g(seed);
  std::vector<float> values(count);
  for (auto& v : values) v = scale * g.normal();
  return values;
}

inline crayon::model::llama_config small_config() {
  return {.dim = 32,
          .hidden = 48,
          .layers = 2,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 8,
          .vocab = 50,
          .context = 40,
          .tied = false};
}

template <crayon::element E>
crayon::model::llama_weights<E> random_weights(const crayon::model::llama_config& config,
                                               std::uint64_t seed = 1) {
  crayon::model::llama_weights<E> weights(config);
  crayon::rng g(seed);
  for (auto& w : weights.matrices()) w = crayon::from_float<E>(0.2F * g.normal());
  for (auto& w : weights.norms()) w = 1 + 0.2F * g.normal();
  return weights;
}

/// Random factors on all sites of the model.
template <crayon::element E>
crayon::adapter::lora_adapter<E> random_adapter(const crayon::model::llama_config& c,
                                                std::size_t rank, float scale, std::uint64_t seed) {
  std::vector<crayon::adapter::site_shape> shapes;
  for (std::size_t site = 0; site < c.sites(); ++site) {
    const auto p = crayon::model::llama_config::projection_of(site);
    shapes.push_back({crayon::model::llama_config::module(site), c.out(p), c.in(p), rank, scale});
  }
  crayon::adapter::lora_adapter<E> adapter(std::move(shapes));
  crayon::rng g(seed);
  for (std::size_t i = 0; i < adapter.size(); ++i) {
    for (auto m : {adapter.a(i), adapter.b(i)}) {
      for (std::size_t j = 0; j < m.size(); ++j) {
        m.data[j] = crayon::from_float<E>(0.2F * g.normal());
      }
    }
  }
  return adapter;
}
