// SPDX-License-Identifier: MIT
#include <crayon/router/evaluate.hpp>

#include <cmath>

#include <crayon/router/evaluate_baselines.hpp>

#include "evaluation_fixture.hpp"

namespace {

using namespace crayon::router;
using crayon::router_test::expected_values;
using crayon::router_test::part;
using crayon::router_test::read_evaluation;

std::vector<std::uint8_t> flags_of(const std::vector<std::string>& scope, const std::string& kind) {
  std::vector<std::uint8_t> flags;
  for (const auto& s : scope) flags.push_back(s == kind);
  return flags;
}

}  // namespace

TEST_CASE("a report card has every metric, and pairs its draws", "[router]") {
  const auto rows = read_evaluation();
  const auto expected = expected_values("evaluation.txt");
  const auto near = flags_of(rows.scope, "near"), far = flags_of(rows.scope, "far");
  const judged_rows judged{{rows.device_ok, rows.server_ok, {}, {}}, near, far};
  std::vector<judged_score> scores(3);
  scores[0] = {*risk_order::of(rows.risk), rows.probability, {}, {}, {}};
  scores[1].order = *risk_order::of(rows.tied);
  scores[2].order = *risk_order::of(random_risks(rows.risk.size(), 3));
  std::size_t draws = 0;
  const auto made = evaluate(scores, judged, row_resampler(rows.risk.size(), 1), 200,
                             [&](std::size_t) { ++draws; });
  CHECK(draws == 200);
  for (const auto which :
       {router_metric::apgr, router_metric::auroc, router_metric::augrc, router_metric::near_auroc,
        router_metric::near_fpr95, router_metric::far_auroc, router_metric::far_fpr95}) {
    CAPTURE(name(which));
    CHECK(made[0][which] == Approx(expected.at("risk." + std::string(name(which)))));
    const auto middle = made[0].middle(which);
    CHECK((middle.low < made[0][which] && made[0][which] < middle.high));
    // Paired: two scores that agree differ by less than either is uncertain.
    const auto apart = made[0].difference(made[1], which);
    CHECK(apart.high - apart.low < middle.high - middle.low);
  }
  CHECK(made[0][router_metric::ece] ==
        expected_calibration_error(rows.probability, rows.device_ok));
  CHECK(std::isnan(made[1][router_metric::ece]));
  CHECK(std::isnan(made[1].middle(router_metric::ece_platt).low));
  CHECK(made[0].difference(made[2], router_metric::apgr).low > 0);
  CHECK(made[2].middle(router_metric::apgr).low < 0.5);
}

TEST_CASE("neighbour_risks is the share of errors among the nearest", "[router]") {
  std::vector<float> known{0, 1, 2, 10, 11, 12}, queries{0.9F, 11.2F, 6};
  const std::vector<std::uint8_t> wrong{0, 1, 0, 1, 1, 0};
  const auto risks = neighbour_risks({known.data(), 6, 1}, wrong, {queries.data(), 3, 1}, 3);
  CHECK(risks == std::vector<double>{1.0 / 3, 2.0 / 3, 2.0 / 3});  // 6: 2, 10, and of 1 and 11 ...
  std::size_t done = 0;
  const auto all = neighbour_risks({known.data(), 6, 1}, wrong, {queries.data(), 3, 1}, 99,
                                   [&](std::size_t q) { CHECK(q == done++); });
  CHECK(all[0] == 0.5);
  CHECK(done == 3);
  std::vector<float> a{1, 5, 3, 5}, b{5, 7};
  standardise({a.data(), 2, 2}, {b.data(), 1, 2});
  CHECK(a == std::vector<float>{-1, 0, 1, 0});
  CHECK(b == std::vector<float>{3, 0});
}

TEST_CASE("linear_risks is scikit-learn's logistic regression", "[router]") {
  const auto rows = read_evaluation();
  const auto expected = expected_values("evaluation.txt");
  const auto features = [&](bool fit) {
    const auto a = part(rows.risk, rows.fit, fit), b = part(rows.tied, rows.fit, fit);
    std::vector<float> x;
    for (std::size_t i = 0; i < a.size(); ++i) {
      x.push_back(static_cast<float>(a[i]));
      x.push_back(static_cast<float>(b[i]));
    }
    return x;
  };
  auto known = features(true), queries = features(false);
  const auto risks = linear_risks({known.data(), known.size() / 2, 2},
                                  part(rows.wrong, rows.fit, true), {queries.data(), 5, 2}, 0.01);
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(risks[i] == Approx(expected.at("linear_" + std::to_string(i))).margin(2e-5));
  }
}

TEST_CASE("hashed_words sees words, not case, order or punctuation", "[router]") {
  std::vector<float> a(64), b(64), c(64);
  hashed_words("Who wrote it, and WHO read it?", a);
  hashed_words("it who? it; who read and wrote", b);
  hashed_words("integrate by parts", c);
  CHECK(a == b);
  float length = 0, cosine = 0;
  for (std::size_t j = 0; j < 64; ++j) {
    length += a[j] * a[j];
    cosine += a[j] * c[j];
  }
  CHECK(length == Approx(1));
  CHECK(std::abs(cosine) < 0.5F);
  hashed_words("?!", a);
  CHECK(a == std::vector<float>(64));
}
