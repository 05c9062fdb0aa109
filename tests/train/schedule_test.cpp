// SPDX-License-Identifier: MIT
#include <crayon/train/schedule.hpp>

#include "oracle.hpp"

using namespace crayon;

TEST_CASE("every schedule rises to its peak and keeps its promise", "[train]") {
  const train::constant_schedule constant{.peak = 2, .warm_up = 4};
  const train::linear_schedule linear{.peak = 2, .warm_up = 4, .floor = 0.5F};
  const train::cosine_schedule cosine{.peak = 2, .warm_up = 4, .floor = 0.5F};
  CHECK(constant.rate(0, 104) == Approx(0.5));
  CHECK(linear.rate(1, 104) == Approx(1));
  CHECK(cosine.rate(3, 104) == Approx(2));
  CHECK(constant.rate(103, 104) == Approx(2));
  CHECK(linear.rate(4, 104) == Approx(2));
  CHECK(linear.rate(54, 104) == Approx(1.5));
  CHECK(linear.rate(104, 104) == Approx(1));
  CHECK(cosine.rate(54, 104) == Approx(1.5));
  CHECK(cosine.rate(29, 104) == Approx(2 * (0.5 + 0.5 * (0.5 + 0.5 * 0.70710678))));
  CHECK(cosine.rate(104, 104) == Approx(1));
}

TEST_CASE("a run shorter than its warm-up, and steps after the end", "[train]") {
  const train::cosine_schedule cosine{.peak = 1, .warm_up = 10};
  CHECK(cosine.rate(2, 3) == Approx(0.3));
  CHECK(cosine.rate(500, 100) == Approx(0).margin(1e-7));
  CHECK(train::cosine_schedule{.peak = 1}.rate(0, 10) == 1);
}

TEST_CASE("schedules agree with those of transformers", "[train]") {
  const oracle::fixture torch("frozen.safetensors");
  // Theirs begin the warm-up at 0, so that their step s has the rate of step s - 1 here.
  const auto check = [&](const char* name, const auto& schedule) {
    const auto rates = torch.read(name);
    REQUIRE(rates.size() == 20);
    for (std::size_t s = 1; s < 5; ++s) CHECK(schedule.rate(s - 1, 20) == Approx(rates[s]));
    for (std::size_t s = 5; s < 20; ++s) {
      CHECK(schedule.rate(s, 20) == Approx(rates[s]).margin(1e-6));
    }
  };
  check("rates.constant", train::constant_schedule{.peak = 0.5F, .warm_up = 5});
  check("rates.linear", train::linear_schedule{.peak = 0.5F, .warm_up = 5});
  check("rates.cosine", train::cosine_schedule{.peak = 0.5F, .warm_up = 5});
  using kind = train::chosen_schedule::kind;
  check("rates.constant", train::chosen_schedule{0.5F, 5, 0, kind::constant});
  check("rates.linear", train::chosen_schedule{0.5F, 5, 0, kind::linear});
  check("rates.cosine", train::chosen_schedule{0.5F, 5, 0, kind::cosine});
}
