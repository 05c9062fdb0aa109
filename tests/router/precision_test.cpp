// SPDX-License-Identifier: MIT
// What a model in bf16 or f16 does to each signal, against the same model in f32 on the same
// tokens.
#include <crayon/router/signals.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/model/llama.hpp>
#include <crayon/model/llama2c.hpp>
#include <crayon/model/sampler.hpp>
#include <crayon/router/index_distance.hpp>
#include <crayon/simd/highway_dynamic.hpp>

#include "../catch.hpp"

namespace {

using namespace crayon;
using precision_backend = simd::highway_dynamic;

constexpr std::size_t answers = 32, answer_tokens = 24;

/// The signals of each answer, in the order of `all_signals`.
using signal_table = std::vector<std::array<double, router::all_signals.size()>>;

/// Each answer begins with token 1 (BOS) and goes on with its own tokens.
using token_table = std::vector<std::vector<std::int32_t>>;

/// Rows of unit length that the last hidden state of an answer is compared with.
struct scope_rows {
  std::vector<float> rows;
  std::size_t dim = 0;
};

template <element E>
model::llama_weights<E> precision_of(const model::llama_weights<float>& from) {
  model::llama_weights<E> made(from.config());
  std::transform(from.matrices().begin(), from.matrices().end(), made.matrices().begin(),
                 [](float w) { return from_float<E>(w); });
  std::copy(from.norms().begin(), from.norms().end(), made.norms().begin());
  return made;
}

/// Draws the tokens where `tokens` is empty. A scope without rows gets the last states.
template <element E>
signal_table signals_of(const model::llama_weights<E>& weights, token_table& tokens,
                        scope_rows& scope, std::uint64_t seed = 0) {
  model::llama_session<precision_backend, E> session(weights);
  signal_table table;
  const bool draws = tokens.empty(), collects = scope.rows.empty();
  for (std::size_t a = 0; a < answers; ++a) {
    model::random_sampler draw({.temperature = 1}, seed + a);
    if (draws) tokens.emplace_back();
    session.reset();
    router::answer_signals seen;
    auto logits = session.forward(1);
    for (std::size_t t = 0; t < answer_tokens; ++t) {
      seen.look(router::measure<precision_backend>(logits));
      if (draws) {
        std::vector<float> copy(logits.begin(), logits.end());
        tokens[a].push_back(draw(copy));
      }
      const std::int32_t token = tokens[a][t];
      seen.take(logits[static_cast<std::size_t>(token)]);
      logits = session.forward(token);
    }
    signals now = seen.value();
    const auto hidden = session.hidden();
    if (collects) {
      const float length = std::sqrt(precision_backend::sum_squares(hidden.data(), hidden.size()));
      for (const float h : hidden) scope.rows.push_back(h / length);
      scope.dim = hidden.size();
    }
    if (collects) continue;
    const std::size_t count = scope.rows.size() / scope.dim;
    std::vector<float> scratch(count);
    now.scope_distance = router::cosine_distance<precision_backend>(
        {scope.rows.data(), count, scope.dim}, hidden, 1, scratch);
    table.emplace_back();
    for (std::size_t s = 0; s < router::all_signals.size(); ++s) {
      table.back()[s] = double{value_of(now, router::all_signals[s])};
    }
  }
  return table;
}

/// Of one signal: how far it moved, in deviations that it has over the answers, and how many of
/// the answers change sides of a threshold at its median.
struct signal_change {
  double mean = 0, most = 0;
  std::size_t flips = 0;
};

signal_change change_of(const signal_table& exact, const signal_table& rounded, std::size_t s) {
  signal_change made;
  std::vector<double> sorted;
  double mean = 0, squares = 0;
  for (const auto& row : exact) {
    sorted.push_back(row[s]);
    mean += row[s] / answers;
  }
  for (const double x : sorted) squares += (x - mean) * (x - mean) / answers;
  const double deviation = std::sqrt(squares);
  std::sort(sorted.begin(), sorted.end());
  const double median = (sorted[answers / 2 - 1] + sorted[answers / 2]) / 2;
  for (std::size_t a = 0; a < answers; ++a) {
    const double moved = std::fabs(rounded[a][s] - exact[a][s]) / deviation;
    made.mean += moved / answers;
    made.most = std::max(made.most, moved);
    made.flips += (rounded[a][s] > median) != (exact[a][s] > median);
  }
  return made;
}

/// At most so many deviations in the mean: of the margin, of the other worst-of-all-tokens, of
/// the rest.
struct precision_limits {
  double margin, worst_token, rest;
};

void check_precision(const model::llama_weights<float>& weights, precision_limits in_bf16) {
  token_table others, tokens;
  scope_rows scope;
  signals_of(weights, others, scope, answers);
  const auto exact = signals_of(weights, tokens, scope);
  const auto as_bf16 = signals_of(precision_of<bf16>(weights), tokens, scope);
  const auto as_f16 = signals_of(precision_of<f16>(weights), tokens, scope);
  double sum_bf16 = 0, sum_f16 = 0;
  for (std::size_t s = 0; s < router::all_signals.size(); ++s) {
    const auto which = router::all_signals[s];
    // These are not of an answer: what engines measure of the question before it.
    if (which == router::signal_kind::domain_mismatch ||
        which == router::signal_kind::question_surprise) {
      continue;
    }
    const auto half = change_of(exact, as_f16, s), brain = change_of(exact, as_bf16, s);
    CAPTURE(name(which), brain.mean, brain.most, brain.flips, half.mean, half.most, half.flips);
    const bool average = needs_tokens(which) || which == router::signal_kind::scope_distance;
    const double limit = which == router::signal_kind::margin ? in_bf16.margin
                         : average                            ? in_bf16.rest
                                                              : in_bf16.worst_token;
    CHECK(brain.mean <= limit);
    CHECK(half.mean <= limit / 2);
    CHECK(half.flips <= answers / 8);
    sum_bf16 += brain.mean;
    sum_f16 += half.mean;
  }
  // Three bits more of each weight.
  CHECK(sum_bf16 > 4 * sum_f16);
  CHECK(sum_f16 > 0);
}

}  // namespace

TEST_CASE("lower precision moves signals of a random model", "[router]") {
  model::llama_config c;
  c.dim = 64;
  c.hidden = 128;
  c.layers = 3;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 16;
  c.vocab = 512;
  c.context = 32;
  model::llama_weights<float> weights(c);
  rng random(12);
  for (float& w : weights.matrices()) w = 0.2F * random.normal();
  check_precision(weights, {0.8, 0.2, 0.1});
}

TEST_CASE("lower precision moves signals of a trained model", "[router]") {
  const char* chosen = std::getenv("CRAYON_DATA");
  const std::string folder = chosen != nullptr ? chosen : CRAYON_SOURCE_DIR "/../shared/data";
  const std::string path = folder + "/models/stories260K/stories260K.bin";
  if (!std::ifstream(path).good()) {
    WARN("skipped: " << path << " is not there (set CRAYON_DATA)");
    return;
  }
  const auto weights = model::read_llama2c<float>(path);
  REQUIRE(weights);
  check_precision(*weights, {0.2, 0.04, 0.02});
}
