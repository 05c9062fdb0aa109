// SPDX-License-Identifier: MIT
#include <crayon/match/arrow.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/peft.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/io/safetensors.hpp>

#include "../catch.hpp"

using namespace crayon;
using match::arrow;
using match::arrow_prototypes;

namespace {

double inner(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t j = 0; j < a.size(); ++j) sum += double{a[j]} * double{b[j]};
  return sum;
}

adapter::adapter_set<float> peft_adapters() {
  std::vector<adapter::lora_adapter<float>> all;
  for (const char* name : {"a0", "a1", "a2"}) {
    auto loaded = adapter::load_peft<float>(CRAYON_FIXTURES "/arrow/" + std::string(name));
    REQUIRE(loaded);
    all.push_back(std::move(loaded->adapter));
  }
  return *adapter::adapter_set<float>::build(std::move(all));
}

std::vector<float> tensor(const io::safetensors& file, const std::string& name, std::size_t rows) {
  const auto* found = file.find(name);
  REQUIRE(found != nullptr);
  std::vector<float> values(found->bytes.size() / sizeof(float));
  REQUIRE(
      io::read_matrix(file, name, matrix_view<float>(values.data(), rows, values.size() / rows)));
  return values;
}

std::vector<float> random_vector(rng& random, std::size_t n) {
  std::vector<float> v(n);
  for (float& x : v) x = random.normal();
  return v;
}

}  // namespace

TEST_CASE("prototypes are PEFT's, and those of a dense SVD") {
  const auto file = io::safetensors::open(CRAYON_FIXTURES "/arrow.safetensors");
  REQUIRE(file);
  const auto made = arrow_prototypes::of(peft_adapters());
  REQUIRE(made);
  REQUIRE(made->sites() == 4);
  REQUIRE(made->size() == 3);
  for (std::size_t i = 0; i < made->sites(); ++i) {
    const std::string module(made->module(i));
    INFO(module);
    const auto peft = tensor(*file, module + ".prototypes", 3);
    const auto converged = tensor(*file, module + ".converged", 3);
    const auto svd = tensor(*file, module + ".svd", 3);
    const auto ratio = tensor(*file, module + ".ratio", 1);
    const auto p = made->at(i);
    REQUIRE(svd.size() == p.size());
    for (std::size_t k = 0; k < 3; ++k) {
      const std::span<const float> own(p.row(k), p.cols);
      CHECK(inner(own, own) == Approx(1).epsilon(1e-6));
      const auto far_from = [&](const std::vector<float>& other) {  // the sign is free
        const auto row = std::span(other).subspan(k * p.cols, p.cols);
        const double sign = inner(own, row) < 0 ? -1 : 1;
        double squares = 0;
        for (std::size_t j = 0; j < p.cols; ++j) {
          const double d = double{own[j]} - sign * double{row[j]};
          squares += d * d;
        }
        return std::sqrt(squares);
      };
      CHECK(far_from(svd) < 2e-6);
      CHECK(far_from(converged) < 5e-6);
      // PEFT stops after 15 power iterations, each of which leaves (s_2 / s_1)^2 of what stands
      // beside the leading direction of the random vector that it starts from. That is up to 20
      // times the leading part here: where the ratio is 0.985, PEFT's prototype is another vector.
      INFO("adapter " << k << ", ratio " << ratio[k]);
      CHECK(far_from(peft) < 5e-6 + 20 * std::pow(double{ratio[k]}, 30));
      if (k == 0) CHECK(ratio[k] < 0.6F);
    }
  }
}

TEST_CASE("coefficients are PEFT's") {
  const auto file = io::safetensors::open(CRAYON_FIXTURES "/arrow.safetensors");
  REQUIRE(file);
  const auto made = arrow_prototypes::of(peft_adapters());
  REQUIRE(made);
  for (std::size_t i = 0; i < made->sites(); ++i) {
    const std::string module(made->module(i));
    const auto own = tensor(*file, module + ".prototypes", 3);
    const auto x = tensor(*file, module + ".input", 8);
    const auto expected = tensor(*file, module + ".coefficients", 8);
    const std::size_t in = x.size() / 8;
    for (std::size_t t = 0; t < 8; ++t) {
      float c[3];
      arrow{0.5F, 2}.coefficients({own.data(), 3, in}, x.data() + t * in, c);
      for (std::size_t k = 0; k < 3; ++k) {
        CHECK(c[k] == Approx(expected[t * 3 + k]).margin(1e-6).epsilon(1e-5));
      }
    }
  }
}

TEST_CASE("of a product of rank one the prototype is its row, whatever the gauge") {
  rng random(3);
  for (const std::size_t in : {1U, 2U, 7U, 64U}) {
    for (const std::size_t rank : {1U, 3U, 9U}) {  // more than inputs and outputs, too
      const std::size_t out = 5;
      const auto row = random_vector(random, in), column = random_vector(random, out);
      const auto left = random_vector(random, rank), right = random_vector(random, rank);
      if (std::abs(inner(left, right)) < 0.1) continue;
      std::vector<float> a(rank * in), b(out * rank);
      for (std::size_t r = 0; r < rank; ++r) {
        for (std::size_t j = 0; j < in; ++j) a[r * in + j] = left[r] * row[j];
        for (std::size_t j = 0; j < out; ++j) b[j * rank + r] = column[j] * right[r];
      }
      std::vector<float> p(in);
      match::arrow_prototype<float>({a.data(), rank, in}, {b.data(), out, rank}, p);
      const double length = std::sqrt(inner(row, row));
      CHECK(std::abs(inner(p, row)) == Approx(length).epsilon(1e-5));
      const auto largest = *std::max_element(
          p.begin(), p.end(), [](float x, float y) { return std::abs(x) < std::abs(y); });
      CHECK(largest > 0);
    }
  }
}

TEST_CASE("an adapter that adds nothing has no direction") {
  const std::vector<float> a{1, 2, 3, 4}, b(6);
  std::vector<float> p{9, 9};
  match::arrow_prototype<float>({a.data(), 2, 2}, {b.data(), 3, 2}, p);
  CHECK(p == std::vector<float>{0, 0});
  p = {9, 9};
  match::arrow_prototype<float>({a.data(), 0, 2}, {b.data(), 3, 0}, p);
  CHECK(p == std::vector<float>{0, 0});
}

TEST_CASE("coefficients by hand: the sign means nothing, the first among equals") {
  const std::vector<float> prototypes{1, 0, 0, 1, -1, 0};
  const matrix_view<const float> p(prototypes.data(), 3, 2);
  const float x[]{2, 1};
  float c[3];
  arrow{1, 0}.coefficients(p, x, c);  // scores 2, 1, 2
  const double sum = 2 + std::exp(-1.0);
  CHECK(c[0] == Approx(1 / sum));
  CHECK(c[1] == Approx(std::exp(-1.0) / sum));
  CHECK(c[2] == Approx(1 / sum));
  arrow{1, 1}.coefficients(p, x, c);
  CHECK(std::vector<float>(c, c + 3) == std::vector<float>{1, 0, 0});
  arrow{0.1F, 2}.coefficients(p, x, c);
  CHECK(std::vector<float>(c, c + 3) == std::vector<float>{0.5F, 0, 0.5F});
  const float nothing[]{0, 0};
  arrow{}.coefficients(p, nothing, c);
  for (const float one : c) CHECK(one == Approx(1.0 / 3));
}

TEST_CASE("prototypes pass through the index of a pool") {
  const auto set = peft_adapters();
  const auto made = arrow_prototypes::of(set);
  REQUIRE(made);
  const auto index = made->index();
  REQUIRE(index.size() == 3 * made->width());
  const std::span<const float> first = std::span(index).first(made->width());
  CHECK(inner(first, first) == Approx(1));
  std::vector<adapter::site_shape> shapes = set.adapter(0).shapes();
  const auto again = arrow_prototypes::from_index(shapes, {index.data(), 3, made->width()});
  REQUIRE(again);
  for (std::size_t i = 0; i < made->sites(); ++i) {
    for (std::size_t j = 0; j < made->at(i).size(); ++j) {
      CHECK(again->at(i).data[j] == Approx(made->at(i).data[j]).margin(1e-7));
    }
  }
  const auto wrong = arrow_prototypes::from_index(shapes, {index.data(), 3, 5});
  CHECK(wrong.error().text == "index vectors of length 5, the prototypes of 4 sites have 320");
  shapes[1].kind = adapter::site_kind::bias;
  CHECK(arrow_prototypes::from_index(shapes, {index.data(), 3, 320}).error().text ==
        "arrow routes by the input of linear layers, " + shapes[1].module +
            " is a site of kind bias");
}
