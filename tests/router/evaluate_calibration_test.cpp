// SPDX-License-Identifier: MIT
#include <crayon/router/evaluate_calibration.hpp>

#include <cmath>

#include "evaluation_fixture.hpp"

namespace {

using namespace crayon::router;
using crayon::router_test::expected_values;
using crayon::router_test::part;
using crayon::router_test::read_evaluation;

template <class Map>
std::vector<double> mapped(const std::vector<double>& scores, const Map& map) {
  std::vector<double> p;
  for (const double s : scores) p.push_back(map(s));
  return p;
}

}  // namespace

TEST_CASE("ECE, Platt, temperature and isotonic are those of scikit-learn and scipy", "[router]") {
  const auto rows = read_evaluation();
  const auto expected = expected_values("evaluation.txt");
  const auto fit_right = part(rows.device_ok, rows.fit, true);
  const auto right = part(rows.device_ok, rows.fit, false);
  const auto p = part(rows.probability, rows.fit, false);
  CHECK(expected_calibration_error(p, right) == Approx(expected.at("ece15")).epsilon(1e-10));
  CHECK(expected_calibration_error(p, right, 10) == Approx(expected.at("ece10")).epsilon(1e-10));

  const auto t = fit_temperature(part(rows.probability, rows.fit, true), fit_right);
  REQUIRE(t);
  CHECK(*t == Approx(expected.at("temperature")).epsilon(1e-5));
  CHECK(expected_calibration_error(mapped(p,
                                          [&](double q) {
                                            return sigmoid_map{1 / *t, 0}(logit(q));
                                          }),
                                   right) ==
        Approx(expected.at("temperature_ece15")).epsilon(1e-5));

  for (const std::string name : {"risk", "tied"}) {
    CAPTURE(name);
    const auto confidence = mapped(name == "risk" ? rows.risk : rows.tied, std::negate<>());
    const auto fit = part(confidence, rows.fit, true), held = part(confidence, rows.fit, false);
    const auto platt = fit_platt(fit, fit_right);
    REQUIRE(platt);
    CHECK(platt->slope == Approx(expected.at(name + ".platt_slope")).epsilon(1e-5));
    CHECK(platt->offset == Approx(expected.at(name + ".platt_offset")).epsilon(1e-5));
    // scikit-learn's own optimiser stops at 1e-4 of a probability.
    CHECK(expected_calibration_error(mapped(held, *platt), right) ==
          Approx(expected.at(name + ".platt_ece15")).epsilon(1e-3));
    const auto isotonic = fit_isotonic(fit, fit_right);
    REQUIRE(isotonic);
    for (int i = 0; i < 40; ++i) {
      const std::string n = std::to_string(i);
      CHECK((*isotonic)(expected.at(name + ".isotonic_at_" + n)) ==
            Approx(expected.at(name + ".isotonic_" + n)).margin(1e-9));
    }
    CHECK(expected_calibration_error(mapped(held, *isotonic), right) ==
          Approx(expected.at(name + ".isotonic_ece15")).epsilon(1e-9));
  }
}

TEST_CASE("the ends of calibration", "[router]") {
  // A score that separates: finite all the same.
  const std::vector<double> apart{-2, -1, 1, 2};
  const std::vector<std::uint8_t> right{0, 0, 1, 1};
  const auto platt = fit_platt(apart, right);
  REQUIRE(platt);
  CHECK(std::isfinite(platt->slope));
  CHECK((*platt)(2) > 0.7);
  // One that says nothing: the share of right rows.
  const auto flat = fit_platt(std::vector<double>(4, 0.3), right);
  REQUIRE(flat);
  CHECK((*flat)(0.3) == Approx(0.5));
  // One that is the wrong way round: chance, not a falling map.
  const auto turned = fit_isotonic(std::vector<double>{2, 1, -1, -2}, right);
  REQUIRE(turned);
  CHECK((*turned)(-9) == 0.5);
  CHECK((*turned)(9) == 0.5);
  const auto worse = fit_temperature(std::vector<double>{0.9, 0.9, 0.1, 0.1}, right);
  REQUIRE(worse);
  CHECK(*worse == Approx(1e6));
  // Probabilities of exactly 0 and 1.
  const auto certain = fit_temperature(std::vector<double>{0, 0, 1, 1}, right);
  REQUIRE(certain);
  CHECK(*certain > 0);
  CHECK(expected_calibration_error(std::vector<double>{0, 0, 1, 1}, right) == 0);
  CHECK(expected_calibration_error(std::vector<double>{1, 1, 0, 0}, right) == 1);

  CHECK(fit_temperature(std::vector<double>{0.5, 1.5, 0, 0}, right).error().text.find("row 1") !=
        std::string::npos);
  CHECK_FALSE(fit_platt(std::vector<double>{1}, std::vector<std::uint8_t>{1}));
  CHECK(
      fit_isotonic(std::vector<double>{1, std::nan(""), 0, 0}, right).error().text.find("row 1") !=
      std::string::npos);
}
