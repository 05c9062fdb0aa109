// SPDX-License-Identifier: MIT
#include <crayon/router/fixed_sequence.hpp>

#include <limits>
#include <string>
#include <vector>

#include <crayon/core/rng.hpp>

#include "../catch.hpp"

namespace {

using namespace crayon::router;
using crayon::errc;

constexpr float ltt_nan = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_CASE("a fixed sequence ends where the Clopper-Pearson bound exceeds alpha", "[router]") {
  crayon::rng random(6);
  const auto grid = even_grid(0, 1, 41);
  CHECK(grid.front() == 0);
  CHECK(grid.back() == 1);
  int feasible = 0;
  for (int round = 0; round < 100; ++round) {
    const std::size_t n = 40 + random.below(200);
    std::vector<float> risks(n), losses(n);
    for (std::size_t i = 0; i < n; ++i) {
      risks[i] = random.uniform();
      losses[i] = random.uniform() < risks[i] * risks[i] ? 1.0F : 0.0F;
    }
    risks[0] = ltt_nan;
    const auto bound_at = [&](float threshold) {
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < n; ++i) wrong += risks[i] <= threshold && losses[i] != 0;
      return clopper_pearson_upper(wrong, n, 0.05);
    };
    const auto fitted = fixed_sequence(grid, {.alpha = 0.1, .delta = 0.05}).fit(risks, losses);
    if (!fitted) {
      CHECK(fitted.error().code == errc::infeasible);
      CHECK(bound_at(0) > 0.1);
      continue;
    }
    ++feasible;
    CHECK(fitted->made == promise{promise_kind::with_confidence, risk_share::of_all, 0.1, 0.05, n});
    CHECK_FALSE(fitted->keeps(ltt_nan));
    for (const float g : grid) {
      CAPTURE(g, fitted->risk);
      if (g <= fitted->risk) CHECK(bound_at(g) <= 0.1);
      if (g > fitted->risk) {
        CHECK(bound_at(g) > 0.1);
        break;
      }
    }
  }
  CHECK(feasible > 50);
}

TEST_CASE("selective risk is that of the queries kept", "[router]") {
  // The strictest thresholds keep nothing, one in the middle is right always, the loosest is not.
  std::vector<float> risks, losses;
  for (int i = 0; i < 400; ++i) {
    risks.push_back(0.3F + 0.001F * static_cast<float>(i));
    losses.push_back(i < 200 ? 0.0F : 1.0F);
  }
  const auto grid = even_grid(0, 1, 101);
  const fixed_sequence_options kept{0.1, 0.1, risk_share::of_kept};
  const auto fitted = fixed_sequence(grid, kept).fit(risks, losses);
  REQUIRE(fitted);
  CHECK(fitted->risk >= 0.49F);
  CHECK(fitted->risk <= 0.52F);
  CHECK(fitted->observed < 0.1);
  CHECK(fitted->made.share == risk_share::of_kept);
  // From the strictest alone there is no way to it.
  auto one = kept;
  one.starts = 1;
  CHECK_FALSE(fixed_sequence(grid, one).fit(risks, losses));
  const auto none = fixed_sequence(grid, one, all_to_server{}).fit(risks, losses);
  REQUIRE(none);
  CHECK_FALSE(none->keeps(0));
}

TEST_CASE("with too few queries nothing is certain", "[router]") {
  // (1 - alpha)^n <= delta
  for (const std::size_t n : {0U, 21U, 22U}) {
    const std::vector<float> risks(n, 0.5F), losses(n, 0.0F);
    CHECK(bool{fixed_sequence({0.0F, 1.0F}).fit(risks, losses)} == (n >= 22));
  }
}

TEST_CASE("grids and losses that void the promise are refused", "[router]") {
  const auto text = [](std::vector<float> grid, fixed_sequence_options o, float loss = 0) {
    const std::vector<float> risks{1}, losses{loss};
    const auto fitted = fixed_sequence(grid, o).fit(risks, losses);
    return fitted ? std::string() : fitted.error().text;
  };
  CHECK(text({}, {}).find("the grid is empty") != std::string::npos);
  CHECK(text({1, 1}, {}).find("threshold 1 of the grid is 1") != std::string::npos);
  CHECK(text({ltt_nan}, {}).find("threshold 0 of the grid is nan") != std::string::npos);
  CHECK(text({1}, {}, 0.5F).find("loss of query 0 is 0.5, expected 0 or 1") != std::string::npos);
  CHECK(text({1}, {.delta = 1}).find("delta is 1") != std::string::npos);
}
