// SPDX-License-Identifier: MIT
#include <crayon/match/discriminant.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

#include <crayon/core/rng.hpp>

#include "../catch.hpp"

using namespace crayon;

namespace {

/// `each` samples of `tasks` tasks in 4 dimensions: the task decides the sign of element 1, which
/// is small beside the noise of elements 0 and 2.
struct corpus {
  std::vector<float> rows;
  std::vector<std::size_t> task;
};

corpus noisy(std::size_t each) {
  corpus c;
  rng random(3);
  for (std::size_t t = 0; t < 2; ++t) {
    for (std::size_t i = 0; i < each; ++i) {
      c.rows.insert(c.rows.end(),
                    {10 * random.normal(), (t == 0 ? -0.5F : 0.5F) + 0.1F * random.normal(),
                     3 * random.normal() + 7, 0});
      c.task.push_back(t);
    }
  }
  return c;
}

}  // namespace

TEST_CASE("two tasks that differ in a small element are told apart by its sign") {
  const corpus c = noisy(300);
  const auto space = match::fit_discriminant({c.rows.data(), 600, 4}, c.task, 1, 1, 1e-4F);
  REQUIRE(space);
  CHECK(space->size(4) == 1);
  // Fisher: with a diagonal covariance the direction is the mean difference over the variance.
  const auto& p = space->projection;
  CHECK(std::abs(p[0]) < 0.05F * std::abs(p[1]));
  CHECK(std::abs(p[2]) < 0.05F * std::abs(p[1]));
  std::size_t right = 0;
  std::vector<float> f(1);
  for (std::size_t i = 0; i < 600; ++i) {
    space->place({c.rows.data() + 4 * i, 4}, f);
    if ((f[0] * p[1] > 0) == (c.task[i] == 1)) ++right;
  }
  CHECK(right > 590);
}

TEST_CASE("within tasks the projected samples have unit variance") {
  const corpus c = noisy(2000);
  const auto space = match::fit_discriminant({c.rows.data(), 4000, 4}, c.task, 1, 1, 0);
  REQUIRE(space);
  double sum[2]{}, squares[2]{};
  for (std::size_t i = 0; i < 4000; ++i) {
    double z = 0;
    for (std::size_t j = 0; j < 4; ++j) {
      z += double{space->projection[j]} * double{c.rows[4 * i + j] - space->centre[j]};
    }
    sum[c.task[i]] += z / 2000;
    squares[c.task[i]] += z * z / 2000;
  }
  const double within = (squares[0] - sum[0] * sum[0] + squares[1] - sum[1] * sum[1]) / 2;
  CHECK(within == Approx(1).epsilon(0.02));
}

TEST_CASE("what cannot be fitted is refused") {
  const corpus c = noisy(5);
  const matrix_view<const float> rows(c.rows.data(), 10, 4);
  const auto text = [](const auto& r) { return r ? std::string("fitted") : r.error().text; };
  CHECK(text(match::fit_discriminant(rows, c.task, 2, 1)) ==
        "2 directions from 2 tasks and embeddings of length 4; there are at most tasks - 1, and as "
        "many as elements");
  const std::vector<std::size_t> each{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  CHECK(text(match::fit_discriminant(rows, each, 5, 1)) ==
        "5 directions from 10 tasks and embeddings of length 4; there are at most tasks - 1, and "
        "as many as elements");
  CHECK(match::fit_discriminant(rows, each, 4, 1));
  CHECK(text(match::fit_discriminant({rows.data, 10, 0}, c.task, 1, 1)) ==
        "10 embeddings of length 0 in 1 parts, and 10 task numbers");
  CHECK(text(match::fit_discriminant(rows, std::vector<std::size_t>(10, ~std::size_t{0}), 1, 1)) ==
        "task number 18446744073709551615 among 10 samples");
  CHECK(text(match::fit_discriminant(rows, c.task, 1, 1, -1)) ==
        "shrinkage is -1.000000, needs 0 or more");
  std::vector<float> large = c.rows;
  large[5] = 1e30F;
  CHECK(text(match::fit_discriminant({large.data(), 10, 4}, c.task, 1, 1)) ==
        "the embeddings are too large");
  CHECK(text(match::fit_discriminant(rows, std::vector<std::size_t>(10, 1), 1, 1)) ==
        "task 0 of 2 has no sample");
  CHECK(text(match::fit_discriminant(rows, c.task, 1, 3)) ==
        "10 embeddings of length 4 in 3 parts, and 10 task numbers");
  std::vector<float> bad = c.rows;
  bad[5] = NAN;
  CHECK(text(match::fit_discriminant({bad.data(), 10, 4}, c.task, 1, 1)) ==
        "an embedding is not finite");
}
