// SPDX-License-Identifier: MIT
#include <crayon/router/conformal_risk_control.hpp>

#include <limits>
#include <string>
#include <vector>

#include <crayon/core/rng.hpp>

#include "../catch.hpp"

namespace {

using namespace crayon::router;
using crayon::errc;

constexpr float crc_nan = std::numeric_limits<float>::quiet_NaN();
constexpr float crc_infinity = std::numeric_limits<float>::infinity();

double lost_at(const calibrated_threshold& at, const std::vector<float>& risks,
               const std::vector<float>& losses) {
  double lost = 0;
  for (std::size_t i = 0; i < risks.size(); ++i) lost += at.keeps(risks[i]) ? double{losses[i]} : 0;
  return lost;
}

}  // namespace

TEST_CASE("conformal risk control takes the loosest threshold that its inequality allows",
          "[router]") {
  crayon::rng random(5);
  for (int round = 0; round < 300; ++round) {
    const std::size_t n = 1 + random.below(60);
    std::vector<float> risks(n), losses(n);
    for (auto& r : risks) r = static_cast<float>(random.below(15)) / 4;  // many ties
    if (n > 3) risks[random.below(n)] = crc_nan, risks[random.below(n)] = crc_infinity;
    for (auto& l : losses) l = static_cast<float>(random.below(5)) / 4;
    for (const double alpha : {0.05, 0.2, 0.5}) {
      CAPTURE(round, n, alpha);
      const auto fitted = conformal_risk_control(alpha).fit(risks, losses);
      REQUIRE(bool{fitted} == (1 / static_cast<double>(n + 1) <= alpha));
      if (!fitted) continue;
      CHECK(fitted->made == promise{promise_kind::mean, risk_share::of_all, alpha, 0, n});
      const double budget = alpha * static_cast<double>(n + 1) - 1 + 1e-9;
      const double lost = lost_at(*fitted, risks, losses);
      CHECK(lost <= budget);
      CHECK(fitted->observed == Approx(lost / static_cast<double>(n)));
      CHECK(std::isfinite(fitted->risk));
      CHECK_FALSE(fitted->keeps(crc_nan));
      CHECK_FALSE(fitted->keeps(crc_infinity));
      for (float looser = 0; looser < 4; looser += 0.25F) {  // the next one would be too loose
        if (looser <= fitted->risk) continue;
        if (lost_at({looser, {}, 0, 0}, risks, losses) > budget) break;
        bool seen = false;  // or keeps nothing more
        for (const float r : risks) seen = seen || (r > fitted->risk && r <= looser);
        CHECK_FALSE(seen);
      }
    }
  }
}

TEST_CASE("a mean risk can be promised from 1 / (n + 1) on", "[router]") {
  for (const std::size_t n : {1U, 9U, 48U, 99U, 999U}) {
    const std::vector<float> risks(n, 0.5F), losses(n, 0.0F);
    const double least = 1 / static_cast<double>(n + 1);
    CAPTURE(n);
    CHECK(conformal_risk_control(least).fit(risks, losses));
    CHECK_FALSE(conformal_risk_control(std::nextafter(least, 0.0)).fit(risks, losses));
  }
  CHECK_FALSE(conformal_risk_control(0.9).fit({}, {}));
  // 0.29 of 100 is 29, whatever 0.29 * 100 is in double.
  std::vector<float> risks(99), losses(99, 0.0F);
  for (std::size_t i = 0; i < 99; ++i) risks[i] = static_cast<float>(i);
  for (std::size_t i = 0; i < 28; ++i) losses[i] = 1;
  CHECK(conformal_risk_control(0.29).fit(risks, losses)->risk == 98);
}

TEST_CASE("what cannot be promised is refused, or everything goes to the server", "[router]") {
  const std::vector<float> risks{1, 2, 3}, losses{0, 0, 0};
  const auto refused = conformal_risk_control(0.1).fit(risks, losses);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::infeasible);
  CHECK(
      refused.error().text ==
      "no threshold can promise a mean risk of at most 0.1 from 3 calibration queries: it takes 9");
  const auto none = conformal_risk_control(0.1, all_to_server{}).fit(risks, losses);
  REQUIRE(none);
  for (const float r : {-crc_infinity, -1e30F, 0.0F, crc_nan}) CHECK_FALSE(none->keeps(r));
  CHECK(none->call_rate == 1);
  CHECK(none->made.alpha == 0.1);
}

TEST_CASE("the riskless ones may be too risky as well", "[router]") {
  const std::vector<float> risks{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, losses(10, 1.0F);
  const auto fitted = conformal_risk_control(0.1).fit(risks, losses);
  REQUIRE(fitted);  // feasible: what is riskier than anything wrong goes to the server
  CHECK_FALSE(fitted->keeps(0));
  CHECK(fitted->keeps(-1));
  CHECK(fitted->call_rate == 1);
}

TEST_CASE("calibration data that is none is refused", "[router]") {
  const auto text = [](double alpha, std::vector<float> risks, std::vector<float> losses) {
    const auto fitted = conformal_risk_control(alpha).fit(risks, losses);
    return fitted ? std::string() : fitted.error().text;
  };
  CHECK(text(0, {1}, {0}).find("alpha is 0, expected above 0") != std::string::npos);
  CHECK(text(crc_nan, {1}, {0}).find("alpha is nan") != std::string::npos);
  CHECK(text(0.5, {1, 2}, {0}).find("2 scores and 1 losses") != std::string::npos);
  CHECK(text(0.5, {1, 2}, {0, 1.5F}).find("loss of query 1 is 1.5") != std::string::npos);
  CHECK(text(0.5, {1}, {crc_nan}).find("loss of query 0 is nan") != std::string::npos);
  CHECK(text(0.5, {-crc_infinity}, {0}).find("risk of query 0") != std::string::npos);
}

TEST_CASE("promises in words", "[router]") {
  CHECK(words({promise_kind::mean, risk_share::of_all, 0.1, 0, 500}) ==
        "P(kept and wrong) <= 0.1 in the mean, from 500 queries");
  CHECK(words({promise_kind::with_confidence, risk_share::of_kept, 0.02, 0.05, 900}) ==
        "P(wrong | kept) <= 0.02 with probability 0.95, from 900 queries");
  CHECK(words({}) == "nothing is promised");
}
