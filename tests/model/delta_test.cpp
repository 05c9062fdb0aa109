// SPDX-License-Identifier: MIT
#include <crayon/model/delta.hpp>

#include "fixture.hpp"

using namespace crayon;
using model::llama_config;
using model::lora_delta;

namespace {

/// Adapters that stay a sum.
struct pair_of_adapters {
  using element_type = float;
  const adapter::lora_adapter<float>* base;
  std::vector<std::array<factors_view<float>, 2>> both;

  pair_of_adapters(const adapter::lora_adapter<float>& x, float wx,
                   const adapter::lora_adapter<float>& y, float wy)
      : base(&x) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      both.push_back({x.factors(i), y.factors(i)});
      both.back()[0].scale *= wx;
      both.back()[1].scale *= wy;
    }
  }
  [[nodiscard]] std::size_t size() const { return both.size(); }
  [[nodiscard]] std::string_view module(std::size_t i) const { return base->module(i); }
  [[nodiscard]] std::span<const factors_view<float>> parts(std::size_t i) const { return both[i]; }
};

std::vector<double> dense(const factors_view<float>& f, const std::vector<float>& x,
                          std::size_t tokens, double weight) {
  std::vector<double> y(tokens * f.b.rows);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t o = 0; o < f.b.rows; ++o) {
      for (std::size_t r = 0; r < f.rank(); ++r) {
        double u = 0;
        for (std::size_t j = 0; j < f.a.cols; ++j) {
          u += double{f.a(r, j)} * double{x[t * f.a.cols + j]};
        }
        y[t * f.b.rows + o] += weight * double{f.scale} * double{f.b(o, r)} * u;
      }
    }
  }
  return y;
}

template <class A>
concept binds = requires(const llama_config& c, A&& adapter) {
  lora_delta<simd::scalar, float>::bind(c, std::forward<A>(adapter));
};
static_assert(binds<const adapter::lora_adapter<float>&>);
static_assert(!binds<adapter::lora_adapter<float>>, "a temporary adapter would leave its views");

}  // namespace

TEMPLATE_LIST_TEST_CASE("a delta adds w s B A x at every site", "[model]", every_backend) {
  const llama_config c = small_config();
  const auto one = random_adapter<float>(c, 4, 2.0F, 5), two = random_adapter<float>(c, 3, 0.5F, 6);
  auto delta = lora_delta<TestType, float>::bind(c, one, 0.5F);
  REQUIRE(delta);
  REQUIRE(delta->append(two, -1.5F));
  const pair_of_adapters kept(one, 0.5F, two, -1.5F);
  const auto sum = lora_delta<TestType, float>::bind(c, kept);
  REQUIRE(sum);
  CHECK(delta->scratch_size() == 4);
  for (std::size_t site = 0; site < c.sites(); ++site) {
    CHECK(delta->parts(site).size() == 2);
    const auto p = llama_config::projection_of(site);
    for (const std::size_t tokens : {1UL, 5UL}) {
      const auto x = random_values(tokens * c.in(p), site),
                 start = random_values(tokens * c.out(p), 9);
      const auto a = dense(one.factors(site), x, tokens, 0.5);
      const auto b = dense(two.factors(site), x, tokens, -1.5);
      std::vector<double> expected(start.begin(), start.end());
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += a[i] + b[i];
      for (const auto* d : {&std::as_const(*delta), &*sum}) {
        auto y = start;
        std::vector<float> scratch(tokens * d->scratch_size());
        d->add(site, {x.data(), tokens, c.in(p)}, {y.data(), tokens, c.out(p)}, scratch.data());
        CHECK(relative_distance(y, expected) < 1e-5);
      }
    }
  }
}

TEST_CASE("an adapter of another model is refused by name and shapes", "[model]") {
  using delta = lora_delta<simd::scalar, float>;
  const llama_config c = small_config();
  llama_config deeper = c;
  deeper.layers = 3;
  const auto of_deeper = random_adapter<float>(deeper, 2, 1, 1);
  const auto unknown = delta::bind(c, of_deeper);
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().code == errc::mismatch);
  CHECK(unknown.error().text ==
        "adapter module model.layers.2.self_attn.q_proj is not a layer of this model "
        "(2 layers)");

  llama_config wider = c;
  wider.hidden = 56;
  const auto of_wider = random_adapter<float>(wider, 2, 1, 1);
  const auto shape = delta::bind(c, of_wider);
  REQUIRE_FALSE(shape);
  CHECK(shape.error().code == errc::bad_shape);
  CHECK(shape.error().text ==
        "adapter module model.layers.0.mlp.gate_proj: A (2, 32) and B (56, 2) do not fit the "
        "model's layer (48, 32)");

  delta empty(c);
  CHECK_FALSE(empty.append(of_wider));
  const auto fits = random_adapter<float>(c, 2, 1, 1);
  const auto scale = empty.append(fits, std::nanf(""));
  REQUIRE_FALSE(scale);
  CHECK(scale.error().code == errc::bad_value);
  for (std::size_t site = 0; site < c.sites(); ++site) CHECK(empty.parts(site).empty());
  CHECK(empty.scratch_size() == 0);
}
