// SPDX-License-Identifier: MIT
#include <crayon/match/domain_space.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include <crayon/io/safetensors.hpp>
#include <crayon/match/fit_domains.hpp>
#include <crayon/router/scope.hpp>

#include "../catch.hpp"

namespace {

namespace domains {

using namespace crayon;

/// A tensor of tests/match/fixtures/make_domains.py.
struct recorded {
  std::vector<float> values;
  std::size_t rows = 0, cols = 0;

  explicit recorded(const char* name) {
    const auto file = io::safetensors::open(CRAYON_FIXTURES "/domains.safetensors");
    REQUIRE(file);
    const io::tensor* t = file->find(name);
    REQUIRE(t != nullptr);
    rows = t->shape[0], cols = t->shape[1];
    values.resize(rows * cols);
    REQUIRE(io::read_matrix(*file, name, matrix_view<float>(values.data(), rows, cols)));
  }
  [[nodiscard]] matrix_view<const float> view() const { return {values.data(), rows, cols}; }
  [[nodiscard]] std::span<const float> row(std::size_t i) const {
    return {values.data() + i * cols, cols};
  }
  [[nodiscard]] std::vector<std::size_t> numbers() const {
    std::vector<std::size_t> n;
    for (const float v : values) n.push_back(static_cast<std::size_t>(v));
    return n;
  }
};

void check_weights(const match::domain_space& space, const recorded& expected) {
  const recorded queries("queries");
  for (std::size_t q = 0; q < queries.rows; ++q) {
    const auto w = space.weights(queries.row(q));
    REQUIRE(w.size() == expected.cols);
    float sum = 0;
    for (std::size_t d = 0; d < w.size(); ++d) {
      CAPTURE(q, d);
      CHECK(std::abs(w[d] - expected.row(q)[d]) < 2e-4F);
      sum += w[d];
    }
    CHECK(sum == Approx(1).margin(1e-6));
  }
}

}  // namespace domains

}  // namespace

TEST_CASE("P(domain | question) and the mismatch with users are numpy's", "[match]") {
  using namespace domains;
  const recorded x("x");
  const auto task = recorded("task").numbers(), domain = recorded("domain").numbers();
  const auto wide = match::fit_domains(x.view(), task, domain);
  REQUIRE(wide);
  CHECK(wide->domains == 3);
  CHECK(wide->embedding() == 15);
  CHECK(wide->dim() == 6);
  check_weights(*wide, recorded("weights"));
  const auto sharp = match::fit_domains(x.view(), task, domain, 1);
  REQUIRE(sharp);
  check_weights(*sharp, recorded("sharp"));

  const recorded weights("weights"), users("users"), mismatch("mismatch");
  for (std::size_t q = 0; q < weights.rows; ++q) {
    for (std::size_t u = 0; u < users.rows; ++u) {
      CHECK(router::domain_mismatch(weights.row(q), users.row(u)) ==
            Approx(mismatch.row(q)[u]).epsilon(1e-5).margin(1e-6));
    }
  }
}

TEST_CASE("weights of domains stay a distribution far from every task", "[match]") {
  using namespace domains;
  const auto made = match::fit_domains(recorded("x").view(), recorded("task").numbers(),
                                       recorded("domain").numbers());
  REQUIRE(made);
  std::vector<float> far(15, 1e6F);  // every task's Gaussian is 0 there
  float sum = 0;
  for (const float w : made->weights(far)) sum += w;
  CHECK(sum == Approx(1));
  far[3] = std::numeric_limits<float>::quiet_NaN();
  const auto w = made->weights(far);
  CHECK(std::isnan(w[0]));
  const std::vector<float> user{1, 0, 0};
  CHECK(std::isnan(router::domain_mismatch(w, user)));  // a router then asks the server
}

TEST_CASE("what no space of domains can be fitted to is refused", "[match]") {
  using namespace domains;
  const recorded x("x");
  const auto task = recorded("task").numbers();
  const auto fault = [&](std::vector<std::size_t> domain, float sharpness) {
    const auto made = match::fit_domains(x.view(), task, std::move(domain), sharpness);
    return made ? std::string() : made.error().text;
  };
  CHECK(fault({0, 0, 1}, 1) == "7 tasks have texts, 3 have a domain");
  CHECK(fault({0, 0, 0, 0, 0, 0, 0}, 1).find("1 domains; needs 2") != std::string::npos);
  CHECK(fault({0, 1, 2, 3, 4, 5, 9}, 1).find("10 domains") != std::string::npos);
  CHECK(fault({0, 0, 1, 1, 1, 2, 2}, 0).find("sharpness is 0") != std::string::npos);
  CHECK_FALSE(match::fit_domains({}, {}, {0, 1}));
}
