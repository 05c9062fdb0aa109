// SPDX-License-Identifier: MIT
// Every combination_type of PEFT's add_weighted_adapter against PEFT itself, on a Llama and on a
// GPT-2, whose layers are Conv1D (fan_in_fan_out).
#include <crayon/blend/peft_sparse.hpp>

#include <Eigen/SVD>
#include <string>
#include <vector>

#include <crayon/blend/concat.hpp>
#include <crayon/blend/magnitude_prune.hpp>
#include <crayon/blend/peft_linear.hpp>

#include "peft_fixture.hpp"

using namespace crayon;
using namespace crayon_test;

namespace {

constexpr double peft_density = 0.6;

/// Deltas, and factors where PEFT has them, to rounding.
void check_combined(const peft_fixture& peft, const std::string& type,
                    const lora_adapter<float>& blended) {
  for (std::size_t i = 0; i < blended.size(); ++i) {
    const std::string key = type + "." + std::string(blended.module(i));
    INFO(key);
    const auto expected = peft.tensor(key + ".delta");
    CHECK(distance(delta_at(blended, i), expected) <= 2e-6 * norm(expected));
    if (!peft.has(key + ".a")) continue;
    const auto f = blended.factors(i);
    const auto a = peft.tensor(key + ".a"), b = peft.tensor(key + ".b");
    REQUIRE((f.a.size() == a.size() && f.b.size() == b.size() && f.scale == 1));
    CHECK(distance({f.a.data, f.a.data + f.a.size()}, a) <= 1e-6 * norm(a));
    CHECK(distance({f.b.data, f.b.data + f.b.size()}, b) <= 1e-6 * norm(b));
  }
}

/// The adapters with what PEFT's dare drew applied to their factors.
adapter_set<float> dropped(const peft_fixture& peft, const std::string& type) {
  std::vector<lora_adapter<float>> adapters;
  for (std::size_t k = 0; k < peft.adapters.size(); ++k) {
    auto one = peft.adapters.adapter(k);
    for (std::size_t i = 0; i < one.size(); ++i) {
      const std::string mask =
          type + "." + std::string(one.module(i)) + ".mask.a" + std::to_string(k);
      const auto a = peft.tensor(mask + ".a"), b = peft.tensor(mask + ".b");
      const auto keep = [](matrix_view<float> m, const std::vector<double>& kept) {
        for (std::size_t j = 0; j < m.size(); ++j) {
          m.data[j] = static_cast<float>(double{m.data[j]} * kept[j] / peft_density);
        }
      };
      keep(one.a(i), a);
      keep(one.b(i), b);
    }
    adapters.push_back(std::move(one));
  }
  return *adapter_set<float>::build(std::move(adapters));
}

/// The best approximation of that rank.
std::vector<double> best_approximation(const std::vector<double>& dense, std::size_t rows,
                                       std::size_t rank) {
  using matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto r = static_cast<Eigen::Index>(rows);
  const Eigen::Map<const matrix> m(dense.data(), r, static_cast<Eigen::Index>(dense.size()) / r);
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(m, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const auto k = std::min(static_cast<Eigen::Index>(rank), svd.singularValues().size());
  const matrix product = svd.matrixU().leftCols(k) * svd.singularValues().head(k).asDiagonal() *
                         svd.matrixV().leftCols(k).transpose();
  return {product.data(), product.data() + product.size()};
}

}  // namespace

TEST_CASE("PEFT: cat is concat, linear is peft_linear, and both factors agree") {
  for (const char* model : {"llama", "gpt2"}) {
    const auto peft = peft_fixture::load(model);
    check_combined(peft, "cat", *blend::concat::blend(peft.adapters, peft.weights));
    check_combined(peft, "linear", *blend::peft_linear<>::blend(peft.adapters, peft.weights));
  }
}

TEST_CASE("PEFT: ties, with both ways to elect a sign, and magnitude_prune") {
  for (const char* model : {"llama", "gpt2"}) {
    const auto peft = peft_fixture::load(model);
    const auto& [file, set, weights] = peft;
    blend::sparse_options options{.density = peft_density};
    check_combined(peft, "ties", *blend::peft_ties::blend(set, weights, options));
    check_combined(peft, "magnitude_prune",
                   *blend::peft_magnitude_prune::blend(set, weights, options));
    options.elect = blend::majority_sign::frequency;
    check_combined(peft, "ties_frequency", *blend::peft_ties::blend(set, weights, options));
  }
}

TEST_CASE("PEFT: dare_linear and dare_ties of what torch happened to drop") {
  for (const char* model : {"llama", "gpt2"}) {
    const auto peft = peft_fixture::load(model);
    const blend::sparse_options all{.density = 1};
    check_combined(
        peft, "dare_linear",
        *blend::peft_dare_linear::blend(dropped(peft, "dare_linear"), peft.weights, all));
    check_combined(peft, "dare_ties",
                   *blend::peft_dare_ties::blend(dropped(peft, "dare_ties"), peft.weights, all));
  }
}

// crayon prunes no dense matrices; its rules on vectors are PEFT's all the same.
TEST_CASE("PEFT: the rules applied to dense deltas, then the best rank, are the svd types") {
  for (const char* model : {"llama", "gpt2"}) {
    const auto peft = peft_fixture::load(model);
    for (std::size_t i = 0; i < peft.adapters.sites(); ++i) {
      const std::string module(peft.adapters.module(i));
      INFO(module);
      std::vector<std::size_t> slots;
      std::vector<double> weights;
      for (const auto& [slot, weight] : peft.weights) {
        if (peft.adapters.rank(slot, i) == 0) continue;
        slots.push_back(slot);
        weights.push_back(double{weight});
      }
      const std::size_t n = peft.adapters.out(i) * peft.adapters.in(i);
      const auto check = [&](const std::string& type, bool trim, bool elect, const char* mask) {
        std::vector<double> rows, merged(n);
        for (const std::size_t slot : slots) {
          const auto& one = peft.adapters.adapter(slot);
          auto row = delta_at(one, *one.find(module));
          if (trim) blend::keep_largest(std::span(row), blend::number_kept(peft_density, n));
          if (mask != nullptr) {
            const auto kept = peft.tensor(type + "." + module + ".mask.a" + std::to_string(slot));
            for (std::size_t j = 0; j < n; ++j) row[j] *= kept[j] / peft_density;
          }
          rows.insert(rows.end(), row.begin(), row.end());
        }
        const matrix_view<const double> view(rows.data(), slots.size(), n);
        if (elect) {
          blend::merge_unweighted_majority(view, weights.data(), blend::majority_sign::total,
                                           merged.data());
        } else {
          blend::sum_rows(view, weights.data(), merged.data());
        }
        const std::size_t rank = peft.adapters.adapter(0).shape(0).rank;
        const auto expected = peft.tensor(type + "." + module + ".delta");
        CHECK(distance(best_approximation(merged, peft.adapters.out(i), rank), expected) <=
              1e-5 * norm(expected));
      };
      check("svd", false, false, nullptr);
      check("ties_svd", true, true, nullptr);
      check("magnitude_prune_svd", true, false, nullptr);
      check("dare_linear_svd", false, false, "mask");
      check("dare_ties_svd", false, true, "mask");
    }
  }
}

TEST_CASE("PEFT: svd without pruning is the core form at density 1, of equal and other ranks") {
  for (const char* model : {"llama", "gpt2", "llama-ranks"}) {
    const auto peft = peft_fixture::load(model);
    std::size_t rank = 0;
    for (std::size_t k = 0; k < peft.adapters.size(); ++k) {
      rank = std::max(rank, peft.adapters.adapter(k).shape(0).rank);
    }
    const blend::sparse_options options{.density = 1, .rank = rank};
    const auto core = blend::magnitude_prune<>::blend(peft.adapters, peft.weights, options);
    const auto knots = blend::knots_magnitude_prune<>::blend(peft.adapters, peft.weights, options);
    REQUIRE(core);
    REQUIRE(knots);
    for (std::size_t i = 0; i < core->size(); ++i) {
      const auto expected = peft.tensor("svd." + std::string(core->module(i)) + ".delta");
      CHECK(distance(delta_at(*core, i), expected) <= 1e-5 * norm(expected));
      CHECK(distance(delta_at(*knots, i), expected) <= 1e-5 * norm(expected));
    }
    check_combined(peft, "cat", *blend::concat::blend(peft.adapters, peft.weights));
  }
}

TEST_CASE("PEFT: LoRA of embeddings") {
  const auto peft = peft_fixture::load("llama-embedding");
  const blend::sparse_options options{.density = peft_density};
  check_combined(peft, "cat", *blend::concat::blend(peft.adapters, peft.weights));
  check_combined(peft, "linear", *blend::peft_linear<>::blend(peft.adapters, peft.weights));
  check_combined(peft, "ties", *blend::peft_ties::blend(peft.adapters, peft.weights, options));
  CHECK(peft.adapters.kind(
            *blend::concat::blend(peft.adapters, peft.weights)->find("model.embed_tokens")) ==
        adapter::site_kind::embedding);
}

// PEFT gives the combined adapter alpha = r and keeps use_rslora of the first one, so that its
// scale is r / sqrt(r) instead of 1, whatever the type. The sum of what PEFT itself says that each
// adapter adds is the judge: concat gives it, PEFT sqrt(r) times it.
TEST_CASE("PEFT: with use_rslora its combinations are sqrt(r) too strong, crayon's are not") {
  const auto check = [](const char* model, double wrong) {
    auto peft = peft_fixture::load(model);
    const auto exact = blend::concat::blend(peft.adapters, peft.weights);
    for (std::size_t i = 0; i < exact->size(); ++i) {
      const std::string module(exact->module(i));
      const auto sum = peft.exact(module);
      CHECK(distance(delta_at(*exact, i), sum) <= 1e-6 * norm(sum));
      const auto theirs = peft.tensor("cat." + module + ".delta");
      CHECK(distance(theirs, times(sum, wrong)) <= 1e-6 * norm(theirs));
    }
    return peft;
  };
  const auto peft = check("llama-rslora", std::sqrt(8.0));  // two adapters of rank 4
  check("llama-rslora-first", std::sqrt(8.0));
  check("llama-rslora-second", 1);  // only the first one's use_rslora counts
  const auto linear = blend::peft_linear<>::blend(peft.adapters, peft.weights);
  const auto ties = blend::peft_ties::blend(peft.adapters, peft.weights, {.density = peft_density});
  const auto best_rank =
      blend::magnitude_prune<>::blend(peft.adapters, peft.weights, {.density = 1});
  for (std::size_t i = 0; i < linear->size(); ++i) {
    const std::string module(linear->module(i));
    const auto same_times_2 = [&](const char* type, const lora_adapter<float>& ours) {
      const auto theirs = peft.tensor(type + ("." + module) + ".delta");
      CHECK(distance(theirs, times(delta_at(ours, i), 2)) <= 1e-5 * norm(theirs));
    };
    same_times_2("linear", *linear);
    same_times_2("ties", *ties);
    same_times_2("svd", *best_rank);
  }
}

// The bias of a combined adapter is 0 in PEFT. What PEFT adds to the layer when it merges the same
// adapters is the judge: that is their sum, as crayon has it.
TEST_CASE("PEFT: add_weighted_adapter loses lora_bias, crayon sums it") {
  const auto peft = peft_fixture::load("gpt2-bias");
  const std::string layer = "transformer.h.0.attn.c_attn";
  const auto merged = peft.tensor("both." + layer + ".bias");
  REQUIRE(norm(merged) > 1);
  const auto check = [&](const auto& blended) {
    REQUIRE(blended);
    const auto site = blended->find(layer + ".bias");
    REQUIRE(site);
    CHECK(distance(delta_at(*blended, *site), merged) <= 1e-5 * norm(merged));
  };
  for (const char* type : {"cat", "linear", "svd"}) {
    CHECK(norm(peft.tensor(type + ("." + layer) + ".bias")) == 0);
  }
  check(blend::concat::blend(peft.adapters, peft.weights));
  check(blend::peft_linear<>::blend(peft.adapters, peft.weights));
  check(blend::peft_magnitude_prune::blend(peft.adapters, peft.weights, {.density = 1}));
  check(blend::magnitude_prune<>::blend(peft.adapters, peft.weights, {.density = 1}));
}
