// SPDX-License-Identifier: MIT
// Right and wrong answers, and how sure one can be of a share of them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <crayon/core/executor.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/engine/sample.hpp>
#include <crayon/model/generate.hpp>

#include "../models.hpp"
#include "tasks.hpp"

namespace crayon::demo {

/// Tokens; the longest completion has 13.
inline constexpr std::size_t longest_answer = 24;

/// 1 for each question that greedy decoding answers exactly, else 0.
template <adapter_delta D>
[[nodiscard]] std::vector<std::uint8_t> answered(const cli::weights& model,
                                                 const cli::llama2c_tokenizer& tokens,
                                                 std::span<const sample> questions, const D& delta,
                                                 thread_pool& threads) {
  std::vector<std::uint8_t> right(questions.size());
  const std::array stop{tokens.eos()};
  threads.parallel_for(threads.concurrency(), [&](std::size_t part) {
    cli::session session(model);
    const auto [first, last] = part_of(questions.size(), part, threads.concurrency());
    for (std::size_t i = first; i < last; ++i) {
      const auto s = engine::encode_sample(tokens, {questions[i].prompt, questions[i].completion});
      session.reset();
      const std::span<const std::int32_t> ids(s.ids);
      std::vector<std::int32_t> given;
      model::greedy draw;
      const auto made = model::generate(
          session, ids.first(s.prompt_tokens), draw, [&](std::int32_t id) { given.push_back(id); },
          {.max_tokens = longest_answer, .tokens = stop}, delta);
      const auto wanted = ids.subspan(s.prompt_tokens, ids.size() - s.prompt_tokens - 1);
      right[i] = made && made->reason == model::stop_reason::stop_token &&
                 std::equal(wanted.begin(), wanted.end(), given.begin(), given.end());
    }
  });
  return right;
}

[[nodiscard]] inline double share(std::span<const std::uint8_t> right) {
  std::size_t sum = 0;
  for (const auto r : right) sum += r;
  return right.empty() ? 0 : static_cast<double>(sum) / static_cast<double>(right.size());
}

/// A 95 % interval.
struct interval {
  double low, high;
};

/// Of the mean of `values` over the questions: percentile bootstrap, 2000 draws (Efron 1979).
[[nodiscard]] inline interval bootstrap(std::span<const double> values, std::uint64_t seed = 1) {
  rng random(seed);
  std::vector<double> means(2000);
  for (double& mean : means) {
    double sum = 0;
    for (std::size_t i = 0; i < values.size(); ++i) sum += values[random.below(values.size())];
    mean = sum / static_cast<double>(values.size());
  }
  std::sort(means.begin(), means.end());
  return {means[50], means[1949]};
}

/// Of the difference in the share of right answers to the same questions (paired).
[[nodiscard]] inline interval difference(std::span<const std::uint8_t> a,
                                         std::span<const std::uint8_t> b) {
  std::vector<double> values(a.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    values[i] = static_cast<double>(a[i]) - static_cast<double>(b[i]);
  return bootstrap(values);
}

/// The chance that a value of `high` is above one of `low`; equal ones count half.
[[nodiscard]] inline double auroc(std::span<const float> low, std::span<const float> high) {
  double above = 0;
  for (const float h : high) {
    for (const float l : low) above += h > l ? 1 : h == l ? 0.5 : 0;
  }
  return above / (static_cast<double>(low.size()) * static_cast<double>(high.size()));
}

}  // namespace crayon::demo
