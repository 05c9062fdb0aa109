// SPDX-License-Identifier: MIT
#include <crayon/router/learned.hpp>
#include <crayon/router/fit_learned.hpp>

#include <array>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "../catch.hpp"

namespace {

using crayon::route;
using namespace crayon::router;

constexpr std::array learned_on{signal_kind::margin, signal_kind::entropy,
                                signal_kind::mean_log_prob};

std::vector<signal_kind> learned_signals() {
  return {learned_on.begin(), learned_on.end()};
}

/// Queries, and scikit-learn's probabilities for them.
struct learned_fixture {
  std::vector<recorded_query> all;
  std::vector<double> line, near;

  learned_fixture() {
    std::ifstream file(CRAYON_FIXTURES "/learned.tsv");
    std::string header;
    std::getline(file, header);
    recorded_query q;
    double p = 0, share = 0;
    while (file >> q.seen.margin >> q.seen.entropy >> q.seen.mean_log_prob >> q.wrong >> p >>
           share) {
      q.seen.tokens = 3;
      all.push_back(q);
      line.push_back(p);
      near.push_back(share);
    }
    REQUIRE(all.size() == 60);
  }
  [[nodiscard]] std::span<const recorded_query> known() const { return std::span(all).first(40); }
};

}  // namespace

TEST_CASE("a line through signals is scikit-learn's logistic regression", "[router]") {
  const learned_fixture data;
  auto made = fit_linear(data.known(), learned_signals(), 2);
  REQUIRE(made);
  for (std::size_t i = 0; i < data.all.size(); ++i) {
    CAPTURE(i);
    CHECK(made->risk(data.all[i].seen) == Approx(data.line[i]).epsilon(1e-5));
    const bool risky = data.line[i] > 0.5;
    CHECK((made->decide(data.all[i].seen) == route::server) == risky);
  }
}

TEST_CASE("neighbours by signals are scikit-learn's", "[router]") {
  const learned_fixture data;
  const auto made = remember_outcomes(data.known(), learned_signals(), 7);
  REQUIRE(made);
  for (std::size_t i = 0; i < data.all.size(); ++i) {
    CAPTURE(i);
    CHECK(double{made->risk(data.all[i].seen)} == Approx(data.near[i]).epsilon(1e-6));
  }
}

TEST_CASE("learned policies: not measured goes to the server, not yet there waits", "[router]") {
  const learned_fixture data;
  const auto line = fit_linear(data.known(), learned_signals());
  const auto near = remember_outcomes(data.known(), learned_signals(), 3);
  crayon::signals sure = data.all[0].seen;
  sure.margin = 5;
  sure.entropy = 0;
  REQUIRE(line->decide(sure) == route::device);
  crayon::signals broken = sure;
  broken.entropy = not_measured;
  CHECK(line->decide(broken) == route::server);
  CHECK(near->decide(broken) == route::server);
  // Nor is an infinite one a certainty, whichever way its weight turns it.
  const float infinite = std::numeric_limits<float>::infinity();
  const bounded_line promised{{1, {promise_kind::mean, risk_share::of_all, 0.1, 0, 500}}, *line};
  REQUIRE(promised.decide(sure) == route::device);
  for (const float value : {infinite, -infinite}) {
    broken.entropy = value;
    CHECK(std::isnan(line->risk(broken)));
    CHECK(line->decide(broken) == route::server);
    CHECK(promised.decide(broken) == route::server);
    CHECK(near->decide(broken) == route::server);
  }
  broken.tokens = 0;
  CHECK(line->decide(broken) == route::device);
  CHECK(near->decide(broken) == route::device);
}

TEST_CASE("what nothing can be learned from is refused", "[router]") {
  const learned_fixture data;
  std::vector<recorded_query> all(data.all);
  CHECK_FALSE(fit_linear({}, learned_signals()));
  CHECK_FALSE(fit_linear(all, {}));
  CHECK_FALSE(fit_linear(all, learned_signals(), 0));
  CHECK_FALSE(remember_outcomes(all, learned_signals(), 0));
  CHECK_FALSE(remember_outcomes(all, learned_signals(), 61));
  all[7].seen.entropy = not_measured;
  const auto refused = fit_linear(all, learned_signals());
  REQUIRE_FALSE(refused);
  CHECK(refused.error().text.find("entropy of query 7") != std::string::npos);
  for (auto& q : all) q = {data.all[0].seen, true};
  CHECK_FALSE(fit_linear(all, learned_signals()));
  // A signal that never changes says nothing, and does no harm.
  std::vector<recorded_query> flat(data.all);
  for (auto& q : flat) q.seen.entropy = 1;
  const auto made = fit_linear(flat, learned_signals());
  REQUIRE(made);
  CHECK(made->weight[1] == 0);
  CHECK(std::isfinite(made->risk(flat[0].seen)));
}
