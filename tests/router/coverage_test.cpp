// SPDX-License-Identifier: MIT
// What the calibrators promise, over many calibration sets.
#include <crayon/router/fixed_sequence.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/router/conformal_risk_control.hpp>
#include <crayon/router/fit_learned.hpp>

#include "../catch.hpp"

namespace {

using namespace crayon::router;

constexpr double coverage_alpha = 0.1;
constexpr double coverage_delta = 0.1;
constexpr std::size_t coverage_draws = 400;

struct calibration_draw {
  std::vector<float> risks, losses;
};

/// Scores are uniform; an answer of score s is wrong with probability s. A threshold t then has the
/// risk t^2 / 2 of all queries and t / 2 of those kept.
calibration_draw drawn(std::size_t n, crayon::rng& random) {
  calibration_draw d;
  for (std::size_t i = 0; i < n; ++i) {
    d.risks.push_back(random.uniform());
    d.losses.push_back(random.uniform() < d.risks.back() ? 1.0F : 0.0F);
  }
  return d;
}

double true_risk(float threshold) {
  const double t = std::clamp(double{threshold}, 0.0, 1.0);
  return t * t / 2;
}

/// What is tempting: the loosest threshold whose risk on the calibration set is at most alpha.
float naive_threshold(const calibration_draw& d) {
  std::vector<float> wrong;
  for (std::size_t i = 0; i < d.risks.size(); ++i) {
    if (d.losses[i] != 0) wrong.push_back(d.risks[i]);
  }
  std::sort(wrong.begin(), wrong.end());
  const auto allowed =
      static_cast<std::size_t>(coverage_alpha * static_cast<double>(d.risks.size()));
  return wrong.size() > allowed ? std::nextafter(wrong[allowed], 0.0F) : 1.0F;
}

/// Risks above alpha over the draws.
struct tally {
  double sum = 0, squares = 0;
  std::size_t above = 0;

  void add(double risk) {
    sum += risk;
    squares += risk * risk;
    above += risk > coverage_alpha;
  }
  [[nodiscard]] double mean() const { return sum / coverage_draws; }
  [[nodiscard]] double standard_error() const {
    return std::sqrt((squares / coverage_draws - mean() * mean()) / coverage_draws);
  }
};

}  // namespace

// Slack: three standard errors of a mean over 400 draws (0.004 of 0.1); of violations the count
// that a calibrator which violates in exactly delta of the draws exceeds once in 1000 times (60 of
// 400).
TEST_CASE("each calibrator keeps its promise, and the naive threshold keeps neither", "[router]") {
  std::size_t most = 0;
  while (binomial_cdf(most, coverage_draws, coverage_delta) < 0.999) ++most;
  CHECK(most == 60);
  crayon::rng random(7);
  tally conformal, confident, naive;
  for (std::size_t draw = 0; draw < coverage_draws; ++draw) {
    const auto d = drawn(100, random);
    const auto mean = conformal_risk_control(coverage_alpha).fit(d.risks, d.losses);
    const auto sure = fixed_sequence(even_grid(0, 1, 201), {coverage_alpha, coverage_delta})
                          .fit(d.risks, d.losses);
    REQUIRE(mean);
    REQUIRE(sure);
    conformal.add(true_risk(mean->risk));
    confident.add(true_risk(sure->risk));
    naive.add(true_risk(naive_threshold(d)));
  }
  INFO("mean risk " << conformal.mean() << " " << confident.mean() << " " << naive.mean());
  INFO("violations " << conformal.above << " " << confident.above << " " << naive.above);
  CHECK(conformal.mean() <= coverage_alpha + 3 * conformal.standard_error());
  CHECK(conformal.mean() >= coverage_alpha - 2.0 / 101 - 3 * conformal.standard_error());
  CHECK(naive.mean() > coverage_alpha + 3 * naive.standard_error());

  CHECK(confident.above <= most);
  CHECK(confident.above > 0);  // not by keeping nothing
  CHECK(confident.mean() > coverage_alpha / 3);
  CHECK(naive.above > most);
  CHECK(conformal.above > most);  // the mean is another promise
}

TEST_CASE("the selective risk is above alpha in at most delta of the draws", "[router]") {
  std::size_t above = 0, feasible = 0;
  crayon::rng random(8);
  for (std::size_t draw = 0; draw < coverage_draws; ++draw) {
    const auto d = drawn(3000, random);
    const auto fitted =
        fixed_sequence(even_grid(0, 1, 101), {coverage_alpha, coverage_delta, risk_share::of_kept})
            .fit(d.risks, d.losses);
    if (!fitted) continue;  // keeps nothing, which has no risk
    ++feasible;
    above += fitted->risk / 2 > coverage_alpha;
  }
  INFO(above << " of " << feasible);
  CHECK(feasible > coverage_draws / 2);
  CHECK(above <= 60);
}

// The line comes from other queries than the threshold, so that it is any fixed score to the
// calibrator. The risk of a draw is the mean over 2000 queries of P(wrong), where they are kept.
TEST_CASE("a promise on a learned line covers, draw by draw another line", "[router]") {
  struct query {
    std::array<float, 2> seen;
    double p_wrong;
  };
  crayon::rng random(21);
  const auto draw_query = [&] {
    query q{{random.uniform(), random.normal()}, 0};
    q.p_wrong = 1 / (1 + std::exp(3 * double{q.seen[0]} - double{q.seen[1]}));
    return q;
  };
  std::vector<query> world;
  for (int i = 0; i < 2000; ++i) world.push_back(draw_query());
  tally conformal, confident;
  for (std::size_t draw = 0; draw < coverage_draws; ++draw) {
    const auto rows = [&](std::size_t n, std::vector<float>& values, auto& wrong) {
      for (std::size_t i = 0; i < n; ++i) {
        const query q = draw_query();
        values.insert(values.end(), q.seen.begin(), q.seen.end());
        wrong.push_back(double{random.uniform()} < q.p_wrong);
      }
    };
    std::vector<float> fit, held, losses, risks;
    std::vector<std::uint8_t> wrong;
    rows(60, fit, wrong);
    rows(100, held, losses);
    const crayon::matrix_view<const float> known(fit.data(), 60, 2);
    const auto line = fit_linear(known, wrong, {signal_kind::margin, signal_kind::entropy});
    REQUIRE(line);
    for (std::size_t i = 0; i < 100; ++i) {
      risks.push_back(line->risk(std::span(held).subspan(2 * i, 2)));
    }
    const auto risk_of = [&](const calibrated_threshold& at) {
      const bounded_line policy{at, *line, seen_at::after_answer};
      double sum = 0;
      for (const auto& q : world) {
        crayon::signals s{};
        s.margin = q.seen[0], s.entropy = q.seen[1], s.tokens = 3;
        if (policy.decide(s) == crayon::route::device) sum += q.p_wrong;
      }
      return sum / static_cast<double>(world.size());
    };
    const auto mean = conformal_risk_control(coverage_alpha).fit(risks, losses);
    const auto sure =
        fixed_sequence(even_grid(0, 1, 401), {coverage_alpha, coverage_delta}, all_to_server{})
            .fit(risks, losses);
    REQUIRE(mean);
    REQUIRE(sure);
    conformal.add(risk_of(*mean));
    confident.add(risk_of(*sure));
  }
  CAPTURE(conformal.mean(), conformal.above, confident.mean(), confident.above);
  CHECK(conformal.mean() <= coverage_alpha + 3 * conformal.standard_error());
  CHECK(conformal.mean() > 0.06);  // and not by keeping nothing
  CHECK(confident.above <= 60);
  CHECK(confident.mean() > 0.02);
}
