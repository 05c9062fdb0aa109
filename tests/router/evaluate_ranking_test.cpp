// SPDX-License-Identifier: MIT
#include <crayon/router/evaluate_ranking.hpp>

#include <cmath>
#include <limits>

#include <crayon/core/rng.hpp>

#include "evaluation_fixture.hpp"

namespace {

using crayon::router::augrc;
using crayon::router::auroc;
using crayon::router::false_positives_at;
using crayon::router::risk_order;
using crayon::router_test::expected_values;
using crayon::router_test::read_evaluation;

}  // namespace

TEST_CASE("ranking metrics are scikit-learn's, and AUGRC that of brute force", "[router]") {
  const auto rows = read_evaluation();
  const auto expected = expected_values("evaluation.txt");
  for (const std::string name : {"risk", "tied"}) {
    CAPTURE(name);
    const auto order = risk_order::of(name == "risk" ? rows.risk : rows.tied);
    REQUIRE(order);
    CHECK(auroc(*order, rows.wrong) == Approx(expected.at(name + ".auroc")).epsilon(1e-10));
    CHECK(augrc(*order, rows.wrong) == Approx(expected.at(name + ".augrc")).epsilon(1e-10));
    for (const std::string kind : {"near", "far"}) {
      std::vector<std::uint8_t> out, keep;
      for (const auto& s : rows.scope) {
        out.push_back(s == kind);
        keep.push_back(s == kind || s == "in");
      }
      CHECK(auroc(*order, out, {}, keep) ==
            Approx(expected.at(name + "." + kind + "_auroc")).epsilon(1e-10));
      CHECK(false_positives_at(*order, out, 0.95, {}, keep) ==
            Approx(expected.at(name + "." + kind + "_fpr95")).epsilon(1e-10));
    }
  }
}

TEST_CASE("counts are copies of rows", "[router]") {
  crayon::rng random(7);
  std::vector<double> risk, copies;
  std::vector<std::uint8_t> wrong, wrong_copies;
  std::vector<std::uint32_t> counts;
  for (int i = 0; i < 60; ++i) {
    risk.push_back(static_cast<double>(random.below(15)));
    wrong.push_back(random.uniform() < 0.4F);
    counts.push_back(static_cast<std::uint32_t>(random.below(4)));
    copies.insert(copies.end(), counts.back(), risk.back());
    wrong_copies.insert(wrong_copies.end(), counts.back(), wrong.back());
  }
  const auto order = risk_order::of(risk), copied = risk_order::of(copies);
  REQUIRE(order);
  REQUIRE(copied);
  CHECK(auroc(*order, wrong, counts) == Approx(auroc(*copied, wrong_copies)));
  CHECK(augrc(*order, wrong, counts) == Approx(augrc(*copied, wrong_copies)));
  CHECK(false_positives_at(*order, wrong, 0.95, counts) ==
        Approx(false_positives_at(*copied, wrong_copies)));
}

TEST_CASE("the ends of the ranking metrics", "[router]") {
  const std::vector<std::uint8_t> wrong{1, 0, 1, 0, 0};
  const auto perfect = risk_order::of(std::vector<double>{1, 0, 1, 0, 0});
  REQUIRE(perfect);
  CHECK(perfect->steps() == 2);
  CHECK(auroc(*perfect, wrong) == 1);
  CHECK(augrc(*perfect, wrong) == Approx(0.4 * 0.4 / 2));
  CHECK(false_positives_at(*perfect, wrong) == 0);
  const auto equal = risk_order::of(std::vector<double>(5, 3.0));
  REQUIRE(equal);
  CHECK(auroc(*equal, wrong) == 0.5);
  CHECK(augrc(*equal, wrong) == Approx(0.4 / 2));
  CHECK(false_positives_at(*equal, wrong) == 1);
  // 19 of 20 positives are exactly 95 %; the last one is below every negative.
  std::vector<double> risk(20, 2.0);
  std::vector<std::uint8_t> positive(20, 1);
  risk.back() = 0;
  risk.insert(risk.end(), 4, 1.0);
  positive.insert(positive.end(), 4, 0);
  CHECK(false_positives_at(*risk_order::of(risk), positive) == 0);
  CHECK(false_positives_at(*risk_order::of(risk), positive, 0.96) == 1);
  const std::vector<std::uint8_t> all(5, 1);
  CHECK(std::isnan(auroc(*equal, all)));
  CHECK(std::isnan(false_positives_at(*equal, all)));
  CHECK_FALSE(risk_order::of({}));
  const auto broken = risk_order::of(std::vector<double>{1, std::nan("")});
  REQUIRE_FALSE(broken);
  CHECK(broken.error().text.find("row 1") != std::string::npos);
}
