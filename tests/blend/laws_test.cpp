// SPDX-License-Identifier: MIT
// The laws of the algebra, for every policy, over random shapes, ranks and weights: each yes of
// `promises_of` holds, and each no has a case that breaks it.
#include <crayon/blend/promises.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <crayon/adapter/mapped_pool.hpp>
#include <crayon/adapter/peft.hpp>
#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/dare.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/magnitude_prune.hpp>
#include <crayon/blend/merge.hpp>
#include <crayon/blend/peft_linear.hpp>
#include <crayon/blend/peft_sparse.hpp>
#include <crayon/blend/recompress.hpp>
#include <crayon/blend/ties.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/highway_static.hpp>
#include <crayon/simd/xsimd_static.hpp>

#include "../io/scratch.hpp"
#include "laws.hpp"

using namespace crayon;
using namespace crayon_test;

namespace {

/// Adapters that need not agree, and a note of every slot whose bytes were read.
template <element E>
class watched {
 public:
  using element_type = E;

  explicit watched(const std::vector<lora_adapter<E>>& adapters)
      : read_(adapters.size()), set_(*adapter_set<E>::build(adapters)) {}

  [[nodiscard]] std::size_t size() const { return set_.size(); }
  [[nodiscard]] std::size_t sites() const { return set_.sites(); }
  [[nodiscard]] std::string_view module(std::size_t i) const { return set_.module(i); }
  [[nodiscard]] std::size_t out(std::size_t i) const { return set_.out(i); }
  [[nodiscard]] std::size_t in(std::size_t i) const { return set_.in(i); }
  [[nodiscard]] adapter::site_kind kind(std::size_t i) const { return set_.kind(i); }
  [[nodiscard]] std::size_t rank(std::size_t k, std::size_t i) const { return set_.rank(k, i); }
  [[nodiscard]] float scale(std::size_t k, std::size_t i) const { return set_.scale(k, i); }
  void copy_a(std::size_t k, std::size_t i, matrix_view<E> to) const {
    read_[k] = true;
    set_.copy_a(k, i, to);
  }
  void copy_b(std::size_t k, std::size_t i, matrix_view<E> to) const {
    read_[k] = true;
    set_.copy_b(k, i, to);
  }
  [[nodiscard]] bool was_read(std::size_t k) const { return read_[k]; }

 private:
  mutable std::vector<std::atomic<bool>> read_;
  adapter_set<E> set_;
};
static_assert(blend::factor_source<watched<float>>);

/// The tiles of a pool, in memory or in its file. One type for both: every policy is compiled for
/// it once.
template <element E>
class seen_tiles {
 public:
  using element_type = E;
  using view = adapter::interleaved_view<const E>;

  template <class P>
  explicit seen_tiles(const P& pool)
      : shapes_(pool.shapes()), size_(pool.size()), tile_(pool.tile()) {
    for (std::size_t i = 0; i < shapes_.size(); ++i) {
      a_.push_back(pool.a(i));
      b_.push_back(pool.b(i));
    }
  }

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::size_t sites() const { return shapes_.size(); }
  [[nodiscard]] const std::vector<adapter::site_shape>& shapes() const { return shapes_; }
  [[nodiscard]] std::string_view module(std::size_t i) const { return shapes_[i].module; }
  [[nodiscard]] std::size_t out(std::size_t i) const { return shapes_[i].out; }
  [[nodiscard]] std::size_t in(std::size_t i) const { return shapes_[i].in; }
  [[nodiscard]] adapter::site_kind kind(std::size_t i) const { return shapes_[i].kind; }
  [[nodiscard]] std::size_t rank(std::size_t, std::size_t i) const { return shapes_[i].rank; }
  [[nodiscard]] float scale(std::size_t, std::size_t i) const { return shapes_[i].scale; }
  [[nodiscard]] view a(std::size_t i) const { return a_[i]; }
  [[nodiscard]] view b(std::size_t i) const { return b_[i]; }
  [[nodiscard]] std::size_t tile() const { return tile_; }
  void copy_a(std::size_t k, std::size_t i, matrix_view<E> to) const {
    adapter::copy_factor(a_[i], k, to);
  }
  void copy_b(std::size_t k, std::size_t i, matrix_view<E> to) const {
    adapter::copy_factor(b_[i], k, to);
  }

 private:
  std::vector<adapter::site_shape> shapes_;
  std::size_t size_, tile_;
  std::vector<view> a_, b_;
};
static_assert(blend::interleaved_source<seen_tiles<float>>);

template <element E>
void fill_nan(adapter::interleaved_view<E> view, std::size_t slot) {
  for (std::size_t t = 0; t < view.tiles(); ++t) {
    for (std::size_t j = 0; j < view.tile; ++j) {
      view.at(t, slot)[j] = from_float<E>(std::nanf(""));
    }
  }
}

/// One policy behind run-time names: blends adapters, after checking that none of weight 0 is read.
template <element E>
struct policy_case {
  const blend::promises* promised;
  std::function<result<lora_adapter<E>>(const std::vector<lora_adapter<E>>&,
                                        const std::vector<weighted_slot>&, bool threads)>
      blend;
};

template <class Policy, class Source>
result<lora_adapter<typename Source::element_type>> run(const Source& source,
                                                        const std::vector<weighted_slot>& weights,
                                                        bool threaded) {
  thread_pool threads(threaded ? 2 : 1);
  if constexpr (requires { Policy::blend(source, weights, {}, threads); }) {
    return Policy::blend(source, weights, {}, threads);
  } else if constexpr (requires { Policy::blend(source, weights, threads); }) {
    return Policy::blend(source, weights, threads);
  } else {
    return Policy::blend(source, weights);
  }
}

bool takes_part(const std::vector<weighted_slot>& weights, std::size_t k) {
  return std::any_of(weights.begin(), weights.end(),
                     [&](const auto& w) { return w.slot == k && w.weight != 0; });
}

/// Adapters one by one.
template <class Policy, element E>
result<lora_adapter<E>> run_watched(const std::vector<lora_adapter<E>>& adapters,
                                    const std::vector<weighted_slot>& weights, bool threaded) {
  const watched<E> source(adapters);
  auto blended = run<Policy>(source, weights, threaded);
  for (std::size_t k = 0; k < adapters.size(); ++k) {
    INFO("adapter " << k);
    CHECK(source.was_read(k) == (blended && takes_part(weights, k)));
  }
  return blended;
}

/// A pool and the same in its file, with a spare slot there: the same bits.
template <class Policy, element E>
result<lora_adapter<E>> run_tiled(const std::vector<lora_adapter<E>>& adapters,
                                  const std::vector<weighted_slot>& weights, bool threaded) {
  auto pool_of_all = pool<E>::build(adapters, {}, {}, alignment / sizeof(E));
  if (!pool_of_all) return pool_of_all.error();
  const scratch directory;
  const std::string path = directory / "pool";
  REQUIRE(adapter::save_pool(path, *pool_of_all, {1, {}}));
  const auto mapped = adapter::mapped_pool<E>::open(path);
  REQUIRE(mapped);
  for (std::size_t k = 0; k < adapters.size(); ++k) {
    for (std::size_t i = 0; !takes_part(weights, k) && i < pool_of_all->sites(); ++i) {
      fill_nan(pool_of_all->a(i), k);
      fill_nan(pool_of_all->b(i), k);
    }
  }
  const pool<E>& filled = *pool_of_all;
  auto blended = run<Policy>(seen_tiles<E>(filled), weights, threaded);
  const auto from_file = run<Policy>(seen_tiles<E>(*mapped), weights, threaded);
  INFO(Policy::name() << " of a pool and of its file");
  REQUIRE(bool(from_file) == bool(blended));
  if (blended) CHECK(same(*from_file, *blended));
  return blended;
}

/// The weighted parts as one adapter, for `activations`.
struct kept_apart {
  static constexpr std::string_view name() { return blend::activations::name(); }
  template <blend::factor_source P>
  static result<lora_adapter<typename P::element_type>> blend(
      const P& pool, std::span<const weighted_slot> weights) {
    using E = typename P::element_type;
    CRAYON_TRY(const auto kept, blend::activations::blend(pool, weights));
    std::vector<adapter::site_shape> shapes;
    for (std::size_t i = 0; i < kept.size(); ++i) {
      for (std::size_t k = 0; k < kept.parts(i).size(); ++k) {
        const auto part = kept.parts(i)[k];
        shapes.push_back({std::string(kept.module(i)) + "#" + std::to_string(k), part.b.rows,
                          part.a.cols, part.rank(), part.scale, pool.kind(i)});
      }
    }
    lora_adapter<E> joined(shapes);
    for (std::size_t i = 0, j = 0; i < kept.size(); ++i) {
      for (const auto& part : kept.parts(i)) {
        std::copy_n(part.a.data, part.a.size(), joined.a(j).data);
        std::copy_n(part.b.data, part.b.size(), joined.b(j++).data);
      }
    }
    return joined;
  }
};

/// W + dW with W = 0, as the adapter A = 1, B = W.
template <kernel_backend B = simd::scalar>
struct merged_into_zeros {
  static constexpr std::string_view name() { return blend::merge<B>::name(); }
  template <blend::factor_source P, executor_reference X = serial_executor>
  static result<lora_adapter<typename P::element_type>> blend(
      const P& pool, std::span<const weighted_slot> weights, X&& threads = X{}) {
    using E = typename P::element_type;
    std::vector<adapter::site_shape> shapes;
    for (std::size_t i = 0; i < pool.sites(); ++i) {
      shapes.push_back(
          {std::string(pool.module(i)), pool.out(i), pool.in(i), pool.in(i), 1.0F, pool.kind(i)});
    }
    lora_adapter<E> sums(shapes);
    std::vector<adapter::base_matrix<E>> base;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      for (std::size_t c = 0; c < shapes[i].in; ++c) sums.a(i)(c, c) = from_float<E>(1);
      base.push_back({shapes[i].module, sums.b(i)});
    }
    CRAYON_CHECK(blend::merge<B>::blend(pool, weights,
                                        std::span<const adapter::base_matrix<E>>(base), threads));
    return sums;
  }
};

/// dW at a module of the pool.
template <element E>
std::vector<double> change(const lora_adapter<E>& adapter, const std::string& module,
                           std::size_t size) {
  std::vector<double> sum(size, 0.0);
  for (std::size_t i = 0; i < adapter.size(); ++i) {
    if (adapter.module(i).substr(0, adapter.module(i).find('#')) == module) {
      add_delta(sum, adapter.factors(i));
    }
  }
  return sum;
}

double norm_of_factors(const std::vector<double>& squares) {
  return std::sqrt(squares[0] * squares[1]);
}

/// What rounding to E may do to a product of these factors.
template <element E>
double rounding(const lora_adapter<E>& adapter, const std::string& module) {
  double sum = 0;
  for (std::size_t i = 0; i < adapter.size(); ++i) {
    if (adapter.module(i).substr(0, adapter.module(i).find('#')) != module) continue;
    std::vector<double> squares(2, 0.0);
    const auto f = adapter.factors(i);
    for (std::size_t j = 0; j < f.a.size(); ++j) {
      squares[0] += std::pow(double{to_float(f.a.data[j])}, 2);
    }
    for (std::size_t j = 0; j < f.b.size(); ++j) {
      squares[1] += std::pow(double{to_float(f.b.data[j])}, 2);
    }
    sum += std::abs(double{f.scale}) * norm_of_factors(squares);
  }
  return double{unit_roundoff<E>} * sum;
}

/// Whether two results change the model in the same way, but for `factor`.
template <element E>
bool agree(const lora_adapter<E>& x, const lora_adapter<E>& y,
           const std::vector<adapter::site_shape>& sites, double factor = 1) {
  for (const auto& site : sites) {
    auto expected = change(y, site.module, site.out * site.in);
    for (double& e : expected) e *= factor;
    const double bound =
        4 * (rounding(x, site.module) + rounding(y, site.module)) + 1e-5 * norm(expected) + 1e-30;
    if (!(distance(change(x, site.module, site.out * site.in), expected) <= bound)) return false;
  }
  return true;
}

template <class Policy, element E>
policy_case<E> policy() {
  const blend::promises* promised = blend::promises_of(Policy::name());
  REQUIRE(promised != nullptr);
  return {promised, run_watched<Policy, E>};
}
template <class Policy, element E>
policy_case<E> of_tiles() {
  return {blend::promises_of(Policy::name()), run_tiled<Policy, E>};
}
/// Both, and the same from both: for policies that read tiles in another way than adapters.
template <class Policy, element E>
policy_case<E> of_both() {
  return {blend::promises_of(Policy::name()),
          [](const std::vector<lora_adapter<E>>& adapters,
             const std::vector<weighted_slot>& weights, bool threaded) {
            auto blended = run_watched<Policy, E>(adapters, weights, threaded);
            const auto all = pool<E>::build(adapters, {}, {});
            if (!all) return blended;  // ranks or sites differ
            const auto from_tiles = run_tiled<Policy, E>(adapters, weights, threaded);
            INFO(Policy::name() << " of a set and of a pool");
            REQUIRE(bool(from_tiles) == bool(blended));
            if (blended) {
              CHECK(agree(*from_tiles, *blended, adapters[0].shapes()));
            } else {
              CHECK(from_tiles.error().text == blended.error().text);
            }
            return blended;
          }};
}

/// One of each kind of arithmetic.
template <element E>
std::vector<policy_case<E>> policies() {
  using namespace blend;
  if constexpr (std::same_as<E, f16>) {  // other than bf16 in its conversions alone
    return {of_tiles<concat, E>(), of_tiles<recompress<>, E>(),  of_tiles<linear<>, E>(),
            of_tiles<ties<>, E>(), of_tiles<peft_linear<>, E>(), policy<peft_dare_linear, E>()};
  } else {
    return {
        policy<kept_apart, E>(),      of_both<concat, E>(),       policy<merged_into_zeros<>, E>(),
        of_both<recompress<>, E>(),   of_tiles<linear<>, E>(),    policy<ties<>, E>(),
        policy<dare<>, E>(),          policy<peft_linear<>, E>(), policy<peft_ties, E>(),
        policy<peft_dare_linear, E>()};
  }
}

/// All of them: in f32, since the others differ from those above by a rule and not by what E is.
template <>
std::vector<policy_case<float>> policies<float>() {
  using namespace blend;
  using E = float;
  return {policy<kept_apart, E>(),
          of_both<concat, E>(),
          policy<merged_into_zeros<>, E>(),
          of_both<recompress<>, E>(),
          of_tiles<linear<>, E>(),
          of_both<ties<>, E>(),
          policy<dare<>, E>(),
          policy<dare_ties<>, E>(),
          policy<magnitude_prune<>, E>(),
          policy<knots_ties<>, E>(),
          policy<knots_dare<>, E>(),
          policy<knots_dare_ties<>, E>(),
          policy<knots_magnitude_prune<>, E>(),
          of_both<peft_linear<>, E>(),
          policy<peft_ties, E>(),
          policy<peft_dare_linear, E>(),
          policy<peft_dare_ties, E>(),
          policy<peft_magnitude_prune, E>()};
}

/// Those whose arithmetic is a backend's, from tiles.
template <class B>
std::vector<policy_case<float>> of_backend() {
  using namespace blend;
  return {of_tiles<basic_concat<B>, float>(),       of_tiles<merged_into_zeros<B>, float>(),
          of_tiles<recompress<B>, float>(),         of_tiles<linear<B>, float>(),
          of_tiles<ties<domain::core, B>, float>(), of_tiles<peft_linear<B>, float>()};
}

/// Adapters of the sites of the first, in other dimensions of the same space.
template <element E>
struct trial {
  std::uint64_t seed;
  rng random;
  std::vector<adapter::site_shape> sites;
  std::vector<lora_adapter<E>> adapters;
  std::vector<weighted_slot> weights;

  trial(std::uint64_t s, bool positive) : seed(s), random(s), sites(random_shapes(random)) {
    for (auto& site : sites) {  // small: every trial is a dozen blends
      site.out = 2 + site.out % 24;
      site.in = 2 + site.in % 24;
      site.rank = 1 + site.rank % 4;
      if (random.below(2) == 0) site.in = 32;  // rows that are whole tiles of a pool
    }
    const std::size_t count = 2 + random.below(4);
    for (std::size_t k = 0; k < count; ++k) {
      adapters.push_back(random_adapter<E>(sites, random));
      const float size = 0.3F + random.uniform();
      weights.push_back({k, positive || random.below(2) == 0 ? size : -size});
    }
    // At least two take part; one of the others may have weight 0.
    if (count > 2 && random.below(2) == 0) weights[random.below(count)].weight = 0;
  }

  [[nodiscard]] std::vector<weighted_slot> scaled(float factor) const {
    auto other = weights;
    for (auto& w : other) w.weight *= factor;
    return other;
  }
};

/// (B G, G^-1 A) with G a permutation of the ranks times powers of two of either sign, which is
/// exact in every element type; in f32 followed by a shear.
template <element E>
void regauge(lora_adapter<E>& adapter, rng& random) {
  for (std::size_t i = 0; i < adapter.size(); ++i) {
    const auto a = adapter.a(i), b = adapter.b(i);
    for (std::size_t r = 0; r < a.rows; ++r) {
      const std::size_t other = random.below(a.rows);
      const float g = (random.below(2) == 0 ? 1.0F : -1.0F) * (random.below(2) == 0 ? 2.0F : 0.25F);
      for (std::size_t c = 0; c < a.cols; ++c) {
        std::swap(a(r, c), a(other, c));
        a(r, c) = from_float<E>(to_float(a(r, c)) / g);
      }
      for (std::size_t o = 0; o < b.rows; ++o) {
        std::swap(b(o, r), b(o, other));
        b(o, r) = from_float<E>(to_float(b(o, r)) * g);
      }
    }
    if constexpr (std::same_as<E, float>) {
      if (a.rows < 2) continue;
      for (std::size_t c = 0; c < a.cols; ++c) a(0, c) -= 0.5F * a(1, c);
      for (std::size_t o = 0; o < b.rows; ++o) b(o, 1) += 0.5F * b(o, 0);
    }
  }
}

/// Runs a law over random trials. Kept: it holds in all. Not kept: some trial breaks it.
template <element E, class Law>
void check_law(const char* law, const policy_case<E>& p, bool kept, std::uint64_t first,
               Law holds) {
  constexpr std::uint64_t trials = std::same_as<E, float> ? 8 : 4;
  std::size_t broken = 0;
  for (std::uint64_t seed = first; seed < first + trials; ++seed) {
    trial<E> t(seed, !p.promised->negation);
    const bool held = holds(t);
    INFO(p.promised->policy << ": " << law << ", seed " << seed);
    if (kept) CHECK(held);
    broken += held ? 0 : 1;
  }
  INFO(p.promised->policy << ": " << law << " is not promised, and holds in every trial");
  if (!kept) CHECK(broken > 0);
}

template <element E>
void check_laws(const policy_case<E>& p) {
  const auto& promised = *p.promised;
  const auto blended = [&](const auto& adapters, const auto& weights) {
    auto done = p.blend(adapters, weights, false);
    INFO(promised.policy << ": " << (done ? "" : done.error().text));
    REQUIRE(done);
    return *std::move(done);
  };
  check_law<E>("exact", p, promised.exact, 100, [&](trial<E>& t) {
    const auto expected = *blend::concat::blend(*adapter_set<E>::build(t.adapters), t.weights);
    return agree(blended(t.adapters, t.weights), expected, t.sites);
  });
  check_law<E>("one-hot", p, promised.one_hot, 200, [&](trial<E>& t) {
    const std::size_t k = t.random.below(t.adapters.size());
    for (auto& w : t.weights) w.weight = w.slot == k ? 1.0F : 0.0F;
    return agree(blended(t.adapters, t.weights), t.adapters[k], t.sites);
  });
  check_law<E>("copies", p, promised.copies, 300, [&](trial<E>& t) {
    std::fill(t.adapters.begin(), t.adapters.end(), t.adapters[0]);
    float sum = 0;
    for (auto& w : t.weights) sum += w.weight = std::abs(w.weight);
    for (auto& w : t.weights) w.weight /= sum;
    return agree(blended(t.adapters, t.weights), t.adapters[0], t.sites);
  });
  check_law<E>("order", p, promised.order, 400, [&](trial<E>& t) {
    const auto before = blended(t.adapters, t.weights);
    std::rotate(t.adapters.begin(), t.adapters.begin() + 1, t.adapters.end());
    for (auto& w : t.weights) w.slot = (w.slot + t.adapters.size() - 1) % t.adapters.size();
    return agree(blended(t.adapters, t.weights), before, t.sites);
  });
  check_law<E>("order of the weights", p, true, 500, [&](trial<E>& t) {
    const auto before = blended(t.adapters, t.weights);
    std::reverse(t.weights.begin(), t.weights.end());
    return agree(blended(t.adapters, t.weights), before, t.sites);
  });
  check_law<E>("gauge", p, promised.gauge, 600, [&](trial<E>& t) {
    const auto before = blended(t.adapters, t.weights);
    for (auto& one : t.adapters) regauge(one, t.random);
    return agree(blended(t.adapters, t.weights), before, t.sites);
  });
  check_law<E>("threads", p, true, 700, [&](trial<E>& t) {
    const auto together = p.blend(t.adapters, t.weights, true);
    return same(blended(t.adapters, t.weights), *together);
  });
  if (promised.negation) {
    check_law<E>("negation", p, true, 800, [&](trial<E>& t) {
      return agree(blended(t.adapters, t.scaled(-1)), blended(t.adapters, t.weights), t.sites, -1);
    });
  } else {
    const trial<E> t(800, true);
    const auto refused = p.blend(t.adapters, t.scaled(-1), false);
    REQUIRE(!refused);
    CHECK(refused.error().code == errc::bad_value);
  }
  trial<E> t(900, true);
  for (auto& w : t.weights) w.weight = 0;
  const auto nothing = blended(t.adapters, t.weights);
  for (const auto& site : t.sites) {
    CHECK(norm(change(nothing, site.module, site.out * site.in)) == 0);
  }
  for (auto bad : std::vector<std::vector<weighted_slot>>{
           {}, {{99, 1.0F}}, {{0, 1.0F}, {0, 1.0F}}, {{0, std::nanf("")}}}) {
    const auto refused = p.blend(t.adapters, bad, false);
    REQUIRE(!refused);
    CHECK(refused.error().code == errc::bad_value);
  }
}

/// A pool of f16 or bf16 adapters and one of f32 meet the same laws.
template <element E>
void check_reload(const policy_case<E>& p) {
  const scratch directory;
  trial<E> t(1000, true);
  for (std::size_t i = 0; i < t.sites.size(); ++i) {
    t.sites[i].module = "model.layers." + std::to_string(i) + ".self_attn.q_proj";
  }
  for (auto& one : t.adapters) one = random_adapter<E>(t.sites, t.random);
  const auto made = p.blend(t.adapters, t.weights, false);
  REQUIRE(made);
  if (made->module(0).find('#') != std::string_view::npos) return;  // not one adapter
  INFO(p.promised->policy);
  REQUIRE(adapter::save_peft(directory / "one", *made, {}));
  const auto loaded = adapter::load_peft<E>(directory / "one");
  REQUIRE(loaded);
  CHECK(same(loaded->adapter, *made));
  REQUIRE(adapter::save_peft(directory / "two", loaded->adapter, loaded->info));
  for (const char* file : {"/adapter_model.safetensors", "/adapter_config.json"}) {
    CHECK(get(directory / (std::string("one") + file)) ==
          get(directory / (std::string("two") + file)));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("every policy keeps the laws that it promises, and no other", "", float, bf16,
                   f16) {
  for (const auto& p : policies<TestType>()) check_laws(p);
}

TEMPLATE_TEST_CASE("the laws do not depend on the backend", "", simd::highway_static,
                   simd::highway_dynamic, simd::xsimd_static<>) {
  for (const auto& p : of_backend<TestType>()) check_laws(p);
}

TEMPLATE_TEST_CASE("what a policy makes is the same after saving and loading, to the byte", "",
                   float, bf16, f16) {
  for (const auto& p : policies<TestType>()) check_reload(p);
}

TEST_CASE("adapters of other ranks, scales and modules: blended, or refused with the module") {
  for (const auto& p : policies<float>()) {
    INFO(p.promised->policy);
    rng random(1100);
    std::vector<adapter::site_shape> both{{"q", 9, 7, 2, 0.5F}, {"v", 5, 7, 2, 1.5F}};
    std::vector<adapter::site_shape> one{{"v", 5, 7, 3, 2.0F}};
    std::vector<adapter::site_shape> other{{"k", 4, 6, 2, 1.0F}, {"q", 9, 7, 2, 3.0F}};
    const std::vector<lora_adapter<float>> adapters{random_adapter<float>(both, random),
                                                    random_adapter<float>(one, random),
                                                    random_adapter<float>(other, random)};
    const auto all = p.blend(adapters, {{0, 0.5F}, {1, 0.75F}, {2, 0.25F}}, false);
    CHECK(bool(all) == p.promised->mixed);
    if (!all) CHECK(all.error().code == errc::bad_shape);
    if (p.promised->policy == "linear") continue;  // takes pools alone
    if (!all) {
      CHECK(all.error().text == std::string(p.promised->policy) +
                                    " takes adapters of equal rank: v has rank 2 in adapter 0, 3 "
                                    "in adapter 1");
    }
    // Where each module's adapters have one rank, and where one has it alone.
    const auto some = p.blend(adapters, {{0, 0.5F}, {1, 0.0F}, {2, 0.25F}}, false);
    REQUIRE(some);
    if (!p.promised->mixed) continue;
    CHECK(distance(change(*some, "k", 24), delta(adapters[2].factors(0), 0.25)) <= 1e-5);
  }
}

TEST_CASE("each policy is in the table of promises once") {
  for (const auto& p : blend::promises_of_policies) CHECK(blend::promises_of(p.policy) == &p);
  CHECK(blend::promises_of("of somebody else") == nullptr);
}
