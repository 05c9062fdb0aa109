// SPDX-License-Identifier: MIT
#include <crayon/blend/sparse.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

#include "../catch.hpp"

using namespace crayon;

namespace {

template <class T>
std::size_t nonzero(const std::vector<T>& v) {
  return static_cast<std::size_t>(std::count_if(v.begin(), v.end(), [](T x) { return x != 0; }));
}

}  // namespace

TEMPLATE_TEST_CASE("the largest values are kept, the first of equal ones", "", float, double) {
  rng random(71);
  for (const std::size_t size : {0U, 1U, 2U, 7U, 64U, 257U}) {
    std::vector<TestType> x(size);
    for (auto& v : x) {
      v = static_cast<TestType>(random.normal());
      if (random.below(4) == 0) v = static_cast<TestType>(random.below(3)) - 1;  // many equal ones
      if (random.below(16) == 0) v *= static_cast<TestType>(1e-30);
    }
    for (std::size_t keep = 0; keep <= size + 1; keep += 1 + size / 9) {
      auto kept = x;
      blend::keep_largest(std::span(kept), keep);
      std::vector<std::size_t> order(size);
      for (std::size_t j = 0; j < size; ++j) order[j] = j;
      std::stable_sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) {
        return std::abs(x[i]) > std::abs(x[j]);
      });
      auto expected = x;
      for (std::size_t j = keep; j < size; ++j) expected[order[j]] = 0;
      INFO("size " << size << ", keep " << keep);
      CHECK(kept == expected);
    }
  }
}

TEST_CASE("the number kept is rounded down, as in PEFT") {
  CHECK(blend::number_kept(0.2, 15) == 3);  // int(0.2 * 15)
  CHECK(blend::number_kept(0.7, 10) == 7);  // in f32 it would be 6
  CHECK(blend::number_kept(0.5, 1) == 0);
  CHECK(blend::number_kept(1, 9) == 9);
}

TEST_CASE("what is dropped is the same on every machine") {
  // From an implementation of SplitMix64 and of the hash in Python: make_drops.py.
  const std::vector<int> expected{1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 0, 0, 1,
                                  1, 0, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1,
                                  1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 1, 0, 0};
  std::vector<float> x(expected.size(), 1.0F);
  blend::drop_and_rescale(std::span(x), 0.5, blend::drop_stream(7, 3, "layers.0.q_proj", 'a'));
  for (std::size_t j = 0; j < x.size(); ++j) {
    INFO(j);
    CHECK(x[j] == (expected[j] != 0 ? 2.0F : 0.0F));
  }
}

TEST_CASE("streams of other seeds, slots, modules and factors drop other values") {
  const auto kept = [](std::uint64_t seed, std::size_t slot, const char* module, char part) {
    std::vector<float> x(64, 1.0F);
    blend::drop_and_rescale(std::span(x), 0.5, blend::drop_stream(seed, slot, module, part));
    return x;
  };
  const auto one = kept(1, 2, "q", 'a');
  CHECK(one == kept(1, 2, "q", 'a'));
  CHECK(one != kept(2, 2, "q", 'a'));
  CHECK(one != kept(1, 1, "q", 'a'));
  CHECK(one != kept(1, 2, "k", 'a'));
  CHECK(one != kept(1, 2, "q", 'b'));
  CHECK(kept(1, 0, "q", 'b') != kept(0, 1, "q", 'b'));
}

TEST_CASE("the share that is kept is the density, and the expectation is the input") {
  std::vector<double> x(100000, 3.0);
  const double density = 0.3;
  blend::drop_and_rescale(std::span(x), density, rng(5));
  const auto kept = static_cast<double>(nonzero(x));
  const double deviation = std::sqrt(100000 * density * (1 - density));
  CHECK(std::abs(kept - 100000 * density) < 4 * deviation);
  CHECK(*std::max_element(x.begin(), x.end()) == Approx(3 / density));
  std::vector<float> all{1, -2, 0};
  blend::drop_and_rescale(std::span(all), 1, rng(5));
  CHECK(all == std::vector<float>{1, -2, 0});
}

TEST_CASE("the disjoint merge of ties, by hand") {
  // columns: all agree | conflict | conflict of equal size | one alone | nobody
  const std::vector<float> rows{1, 3,  2,  0, 0,  //
                                2, -1, -2, 5, 0,  //
                                3, -1, 0,  0, 0};
  const matrix_view<const float> view(rows.data(), 3, 5);
  const std::vector<float> equal{0.5F, 0.5F, 0.5F}, weights{1, 2, -1};
  std::vector<float> out(5);
  const auto merged = [&](auto rule, const std::vector<float>& w, blend::majority_sign elect) {
    rule(view, w.data(), elect, out.data());
    return out;
  };
  using blend::majority_sign;
  const auto peft = blend::merge_unweighted_majority<float>;
  const auto ours = [](auto... arguments) { blend::merge_weighted_majority<float>(arguments...); };
  // PEFT: divided by how many agree; a sum of zero is positive
  CHECK(merged(peft, equal, majority_sign::total) == std::vector<float>{1, 1.5F, 1, 2.5F, 0});
  CHECK(merged(peft, equal, majority_sign::frequency) == std::vector<float>{1, -0.5F, 1, 2.5F, 0});
  CHECK(merged(peft, weights, majority_sign::total)[0] == Approx(2.0F / 3));
  // with 1, 2, -2: (1, 4, -6), (3, -2, 2), (2, -4, 0), (0, 10, 0)
  CHECK(merged(ours, equal, majority_sign::total) ==
        std::vector<float>{3, 4.5F, 0, 7.5F, 0});  // mean of those that agree times 1.5
  const auto total = merged(ours, {1, 2, -2}, majority_sign::total);
  CHECK(total[0] == -15);  // -6 * 5 / 2
  CHECK(total[1] == Approx(25.0F / 3));
  CHECK(std::vector<float>(total.begin() + 2, total.end()) == std::vector<float>{-10, 25, 0});
  CHECK(merged(ours, {1, 2, -2}, majority_sign::frequency)[0] == Approx(25.0F / 3));
  const auto before = merged(ours, {1, 2, -1}, majority_sign::frequency);
  auto minus = merged(ours, {-1, -2, 1}, majority_sign::frequency);
  for (float& v : minus) v = -v;
  CHECK(minus == before);
  // A sum that is zero but for rounding elects nobody, unless the count of signs does.
  const std::vector<float> close{1, 1, 1, -1 + 1e-6F, -1, -1 + 2e-6F, 0, 0, 2e-6F};
  const matrix_view<const float> near_zero(close.data(), 3, 3);
  blend::merge_weighted_majority(near_zero, equal.data(), majority_sign::total, out.data(), 1e-5F);
  CHECK(std::vector<float>(out.begin(), out.begin() + 3) == std::vector<float>{0, 0, 0});
  blend::merge_weighted_majority(near_zero, equal.data(), majority_sign::total, out.data());
  CHECK(out[0] != 0);
  blend::merge_weighted_majority(near_zero, equal.data(), majority_sign::frequency, out.data(),
                                 1e-5F);
  CHECK(out[0] == 0);
  CHECK(out[2] > 0);
}

TEST_CASE("a density outside (0, 1] is refused") {
  for (const double density : {0.0, -0.1, 1.1, std::nan("")}) {
    CHECK_FALSE(blend::check_options({.density = density}));
  }
  CHECK(blend::check_options({.density = 1}));
  CHECK(blend::check_options({.density = 2}).error().text ==
        "a density of 2.000000, needs 0 < density <= 1");
}
