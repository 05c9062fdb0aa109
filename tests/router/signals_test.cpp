// SPDX-License-Identifier: MIT
#include <crayon/router/signals.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/scalar.hpp>

#include "../catch.hpp"

namespace {

using crayon::router::answer_signals;
using crayon::router::log_prob_sketch;
using crayon::router::measure;
using crayon::router::signal_kind;

constexpr float infinity = std::numeric_limits<float>::infinity();

/// The definitions, in long double, over a sorted softmax.
struct naive {
  explicit naive(const std::vector<float>& logits) {
    const long double top = *std::max_element(logits.begin(), logits.end());
    long double sum = 0;
    for (const float x : logits) sum += std::exp(static_cast<long double>(x) - top);
    max_logit = static_cast<double>(top);
    log_sum_exp = static_cast<double>(top + std::log(sum));
    std::vector<long double> p;
    for (const float x : logits) p.push_back(std::exp(static_cast<long double>(x) - top) / sum);
    long double h = 0;
    for (const long double q : p) h -= q > 0 ? q * std::log(q) : 0;
    entropy = static_cast<double>(h);
    std::sort(p.rbegin(), p.rend());
    max_probability = static_cast<double>(p[0]);
    margin = static_cast<double>(p[0] - (p.size() > 1 ? p[1] : 0));
  }
  double max_probability, margin, entropy, max_logit, log_sum_exp;
};

}  // namespace

TEMPLATE_TEST_CASE("one pass gives what softmax, sort and sum give", "[router]",
                   crayon::simd::scalar, crayon::simd::highway_dynamic) {
  crayon::rng random(7);
  for (const std::size_t n : {1U, 2U, 15U, 16U, 17U, 257U, 1023U, 1024U, 1025U, 32000U}) {
    for (const float spread : {0.0F, 0.1F, 1.0F, 10.0F, 300.0F}) {
      std::vector<float> logits(n);
      for (auto& x : logits) x = spread * random.normal() - 50;
      // Rising logits move the maximum in every block.
      if (n == 1025) std::sort(logits.begin(), logits.end());
      const auto seen = measure<TestType>(logits);
      const naive expected(logits);
      CAPTURE(n, spread);
      CHECK(seen.max_probability == Approx(expected.max_probability).epsilon(4e-6));
      CHECK(seen.margin == Approx(expected.margin).margin(4e-6));
      CHECK(seen.entropy == Approx(expected.entropy).epsilon(1e-5).margin(4e-6));
      CHECK(double{seen.max_logit} == expected.max_logit);
      CHECK(seen.log_sum_exp == Approx(expected.log_sum_exp).epsilon(1e-6));
      CHECK(logits[seen.best] == *std::max_element(logits.begin(), logits.end()));
    }
  }
}

TEST_CASE("signals of edges: uniform, certain, masked, broken", "[router]") {
  const auto uniform = measure(std::vector<float>(512, 3.0F));
  CHECK(uniform.max_probability == Approx(1.0 / 512));
  CHECK(uniform.margin == 0);
  CHECK(uniform.entropy == Approx(std::log(512.0)));
  CHECK(uniform.best == 0);

  std::vector<float> masked(3000, -infinity);
  masked[2500] = 1;
  masked[2600] = 1;
  const auto two = measure(masked);
  CHECK(two.max_probability == Approx(0.5));
  CHECK(two.entropy == Approx(std::log(2.0)));
  CHECK(two.best == 2500);

  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), infinity}) {
    for (const std::size_t where : {0U, 1U, 1500U, 2999U}) {
      std::vector<float> broken(3000, where == 1 ? -infinity : 0.5F);
      broken[2000] = 2;
      broken[where] = bad;
      const auto seen = measure(broken);
      CAPTURE(bad, where);
      CHECK(std::isnan(seen.max_probability));
      CHECK(std::isnan(seen.entropy));
    }
  }
  CHECK(std::isnan(measure({}).max_probability));
  CHECK(std::isnan(measure(std::vector<float>(5, -infinity)).max_probability));
}

TEST_CASE("an answer is as sure as its least sure token", "[router]") {
  const std::vector<float> sure{9, 0, 0, 0}, unsure{1, 0.5F, 0, 0}, middle{3, 0, 0, 0};
  answer_signals answer(1.5F);
  CHECK(answer.value().tokens == 0);
  CHECK(std::isnan(answer.value().max_probability));
  double log_prob = 0;
  double lowest_top = 1e9, highest_energy = -1e9;
  for (const auto* logits : {&sure, &unsure, &middle}) {
    lowest_top = std::min(lowest_top, naive(*logits).max_logit);
    highest_energy = std::max(highest_energy, -naive(*logits).log_sum_exp);
    const auto seen = measure(*logits);
    answer.look(seen);
    answer.take((*logits)[2]);
    log_prob += static_cast<double>((*logits)[2]) - naive(*logits).log_sum_exp;
  }
  const auto& value = answer.value();
  CHECK(value.tokens == 3);
  CHECK(value.scope_distance == 1.5F);
  CHECK(value.max_probability == Approx(naive(unsure).max_probability));
  CHECK(value.margin == Approx(naive(unsure).margin));
  CHECK(value.entropy == Approx(naive(unsure).entropy));
  CHECK(value.mean_log_prob == Approx(log_prob / 3));
  CHECK(value.max_logit == Approx(lowest_top));
  CHECK(value.energy == Approx(highest_energy));
  CHECK(value_of(value, signal_kind::perplexity) == Approx(std::exp(-log_prob / 3)));
}

TEST_CASE("right after prefill the first distribution is seen and no token counted", "[router]") {
  answer_signals answer;
  answer.look(measure(std::vector<float>{2, 1}));
  CHECK(answer.value().tokens == 0);
  CHECK(answer.value().max_probability == Approx(1 / (1 + std::exp(-1.0))));
  CHECK(std::isnan(answer.value().mean_log_prob));
  CHECK(std::isnan(answer.value().scope_distance));
}

TEST_CASE("a token that could not be measured is not forgotten", "[router]") {
  answer_signals answer;
  answer.look(measure(std::vector<float>{5, 0}));
  answer.take(5);
  answer.look({});
  answer.take(5);
  answer.look(measure(std::vector<float>{5, 0}));
  CHECK(std::isnan(answer.value().max_probability));
  CHECK(std::isnan(answer.value().mean_log_prob));
  CHECK(std::isnan(answer.value().median_log_prob));
}

TEST_CASE("quantiles of a stream of log-probabilities, within 2 % in fixed memory", "[router]") {
  crayon::rng random(5);
  for (const std::size_t n : {1U, 2U, 3U, 10U, 11U, 500U}) {
    log_prob_sketch sketch;
    std::vector<float> sorted;
    answer_signals answer;
    for (std::size_t i = 0; i < n; ++i) {
      // From nearly certain to hopeless.
      const float log_prob = -std::exp(2.5F * random.normal() - 1);
      sketch.add(log_prob);
      sorted.push_back(log_prob);
      crayon::router::logit_signals at;
      at.log_sum_exp = 0;
      answer.look(at);
      answer.take(log_prob);
    }
    std::sort(sorted.begin(), sorted.end());
    CAPTURE(n);
    for (const double q : {0.0, 0.1, 0.25, 0.5, 0.9, 1.0}) {
      const float expected = sorted[static_cast<std::size_t>(q * static_cast<double>(n - 1))];
      const float seen = sketch.quantile(q);
      CAPTURE(q, expected, seen);
      if (expected < -31) {
        CHECK(seen == Approx(-31).epsilon(0.04));
      } else if (expected > -0x1p-10F) {
        CHECK(seen == 0);
      } else {
        CHECK(std::fabs(seen - expected) <= 0.0201F * std::fabs(expected));
      }
    }
    CHECK(answer.value().low_log_prob == sketch.quantile(0.1));
    CHECK(answer.value().median_log_prob == sketch.quantile(0.5));
  }
  static_assert(sizeof(log_prob_sketch) < 1100);
}

TEST_CASE("signal names and directions", "[router]") {
  for (const auto which : crayon::router::all_signals) {
    CHECK(crayon::router::signal_of(name(which)) == which);
  }
  CHECK_FALSE(crayon::router::signal_of("confidence"));
  const crayon::signals seen{0.1F, 0.2F, 0.3F, -0.4F, 0.5F, 1};
  CHECK(value_of(seen, signal_kind::max_probability) == 0.1F);
  CHECK(value_of(seen, signal_kind::margin) == 0.2F);
  CHECK(value_of(seen, signal_kind::entropy) == 0.3F);
  CHECK(value_of(seen, signal_kind::mean_log_prob) == -0.4F);
  CHECK(value_of(seen, signal_kind::scope_distance) == 0.5F);
  CHECK(value_of(seen, signal_kind::perplexity) == Approx(std::exp(0.4)));
}
