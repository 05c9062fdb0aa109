// SPDX-License-Identifier: MIT
// Pool files from and for the Python safetensors package: fixtures/pool/pool_file.py reads and
// writes them with an implementation of its own, checksums included.
#include <crayon/adapter/pool_file.hpp>

#include <cstring>
#include <string>
#include <vector>

#include <crayon/adapter/mapped_pool.hpp>
#include <crayon/blend/linear.hpp>

#include "../catch.hpp"
#include "../io/scratch.hpp"
#include "random_pool.hpp"

using namespace crayon;
using namespace crayon_test;
using adapter::lora_adapter;
using adapter::mapped_pool;
using adapter::site_kind;
using adapter::site_shape;

namespace {

const std::string pool_fixtures = CRAYON_SOURCE_DIR "/tests/adapter/fixtures/pool/";

/// Every factor of the pool is the tensor "<adapter>/<module>.lora_A" of the file, bit by bit.
template <class P>
void check_factors_in(const P& pool, const io::safetensors& file) {
  using E = typename P::element_type;
  for (std::size_t k = 0; k < pool.size(); ++k) {
    const auto one = pool.extract(k);
    for (std::size_t i = 0; i < one.size(); ++i) {
      const auto f = one.factors(i);
      for (const auto& [m, factor] : {std::pair(f.a, 'A'), std::pair(f.b, 'B')}) {
        const auto* t =
            file.find(pool.info().names[k] + "/" + std::string(one.module(i)) + ".lora_" + factor);
        REQUIRE(t != nullptr);
        CHECK(t->dtype == name(dtype_of<E>));
        CHECK(t->shape == std::vector{m.rows, m.cols});
        CHECK(std::memcmp(t->bytes.data(), m.data, m.size() * sizeof(E)) == 0);
      }
    }
  }
  const auto* index = file.find("index");
  REQUIRE(index != nullptr);
  CHECK(index->bytes.size() == pool.index().size() * sizeof(float));
  CHECK(std::memcmp(index->bytes.data(), pool.index().data, index->bytes.size()) == 0);
}

/// The same on every machine.
adapter::pool<f16> fixture_pool() {
  const std::vector<site_shape> shapes{{"q", 6, 50, 2, 0.5F},
                                       {"w", 5, 9, 3, 2.0F, site_kind::embedding}};
  std::vector<lora_adapter<f16>> adapters;
  for (std::size_t k = 0; k < 3; ++k) {
    adapters.emplace_back(shapes);
    for (std::size_t i = 0; i < 2; ++i) {
      for (const auto m : {adapters.back().a(i), adapters.back().b(i)}) {
        for (std::size_t j = 0; j < m.size(); ++j) {
          const std::size_t value = (7 * j + 5 * k + 3 * i + m.rows) % 61;
          m.data[j] = from_float<f16>(static_cast<float>(value) / 16 - 2);
        }
      }
    }
  }
  return pool_of(adapters, 32);
}

adapter::pool_cores fixture_cores() {
  adapter::pool_cores cores(std::vector<std::size_t>{6, 9});
  for (std::size_t i = 0; i < 2; ++i) {
    for (const auto m : {cores.r_a(i), cores.r_b(i)}) {
      for (std::size_t j = 0; j < m.size(); ++j) m.data[j] = static_cast<float>(j) / 8;
    }
  }
  return cores;
}

}  // namespace

TEST_CASE("a pool that Python wrote is read: in memory, mapped, and to the same bits") {
  const auto factors = io::safetensors::open(pool_fixtures + "python-factors.safetensors");
  REQUIRE(factors);
  const auto loaded = adapter::load_pool<bf16>(pool_fixtures + "python.safetensors");
  const auto mapped = mapped_pool<bf16>::open(pool_fixtures + "python.safetensors");
  REQUIRE(loaded);
  REQUIRE(mapped);
  CHECK(mapped->slots() == 5);
  CHECK(loaded->info().names == std::vector<std::string>{"law", "médecine", "sport"});
  CHECK(loaded->info().tau == 0.05F);
  CHECK(loaded->info().notes.at("made by") == "make_pool.py");
  CHECK(loaded->shapes()[1] == site_shape{"model.layers.1.mlp.down_proj", 7, 70, 2, 1.25F});
  CHECK(loaded->shapes()[2].kind == site_kind::embedding);
  CHECK(loaded->shapes()[3].kind == site_kind::bias);
  check_factors_in(*loaded, *factors);
  check_factors_in(*mapped, *factors);
  // It does not lie on cache lines, and has spare slots.
  const std::vector<weighted_slot> weights{{0, 0.25F}, {2, 0.75F}};
  CHECK(same(*blend::linear<>::blend(*mapped, weights), *blend::linear<>::blend(*loaded, weights)));
}

TEST_CASE("Python read what crayon writes") {
  // crayon.safetensors is what crayon writes today,
  const scratch dir;
  const auto pool = fixture_pool();
  const auto cores = fixture_cores();
  REQUIRE(adapter::save_pool(dir / "p", pool, {1, cores.sites()}));
  CHECK(get(dir / "p") == get(pool_fixtures + "crayon.safetensors"));
  // and crayon-factors.safetensors what Python found in it.
  const auto factors = io::safetensors::open(pool_fixtures + "crayon-factors.safetensors");
  REQUIRE(factors);
  check_factors_in(pool, *factors);
  for (const char factor : {'A', 'B'}) {
    const auto m = factor == 'A' ? cores.sites()[0].r_a : cores.sites()[0].r_b;
    const auto* t = factors->find(std::string("q.R_") + factor);
    REQUIRE(t != nullptr);
    CHECK(t->shape == std::vector{m.rows, m.cols});
    CHECK(std::memcmp(t->bytes.data(), m.data, m.size() * sizeof(float)) == 0);
  }
  CHECK(factors->metadata().at("base_model") == pool.info().base_model);
  CHECK(factors->metadata().at("note.data") == pool.info().notes.at("data"));
}

TEST_CASE("write fixtures/pool/crayon.safetensors", "[.pool fixture]") {
  REQUIRE(adapter::save_pool(pool_fixtures + "crayon.safetensors", fixture_pool(),
                             {1, fixture_cores().sites()}));
}
