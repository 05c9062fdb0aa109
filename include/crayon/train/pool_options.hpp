// SPDX-License-Identifier: MIT
// How a pool is made from texts, and what came of it.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <crayon/adapter/pool.hpp>
#include <crayon/core/function_ref.hpp>
#include <crayon/core/hash.hpp>
#include <crayon/core/result.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/model/llama_config.hpp>
#include <crayon/tokenizer/sample.hpp>
#include <crayon/train/balance.hpp>
#include <crayon/train/base_weights.hpp>
#include <crayon/train/checkpoint.hpp>
#include <crayon/train/gate_policy.hpp>
#include <crayon/train/simulated_users.hpp>
#include <crayon/train/trainer.hpp>

namespace crayon::train {

/// What the index vectors are at first.
enum class pool_init {
  automatic,  ///< tasks where every sample has one and there are as many as adapters, else k_means
  k_means,    ///< k-means++ centres of the embeddings; labels are not looked at
  tasks,      ///< one adapter per task: the mean direction of its samples
};

/// What the adapters are at first.
enum class pool_start {
  copies,  ///< of one adapter that was trained on all samples: that aligns their factors
  random,  ///< A ~ N(0, 1 / in), B = 0, each drawn for itself
};

/// A gate policy chosen at run time.
struct chosen_gates {
  enum class kind { leave_one_out, whole_group, per_sample } which = kind::leave_one_out;

  static constexpr std::string_view name() noexcept { return "chosen"; }
  [[nodiscard]] std::string_view chosen() const noexcept {
    std::string_view name;
    use([&](const auto& gates) { name = gates.name(); });
    return name;
  }

  template <matcher M>
  void operator()(const M& match, matrix_view<const float> index, matrix_view<const float> samples,
                  matrix_view<float> weights) const {
    use([&](const auto& gates) { gates(match, index, samples, weights); });
  }
  template <differentiable_matcher M>
  void backward(const M& match, matrix_view<const float> index, matrix_view<const float> samples,
                matrix_view<const float> d_weights, matrix_view<float> d_index) const {
    use([&](const auto& gates) { gates.backward(match, index, samples, d_weights, d_index); });
  }

 private:
  template <class Use>
  void use(Use&& policy) const {
    switch (which) {
      case kind::leave_one_out:
        return policy(leave_one_out{});
      case kind::whole_group:
        return policy(whole_group{});
      case kind::per_sample:
        return policy(per_sample{});
    }
  }
};
static_assert(differentiable_gate_policy<chosen_gates, match::cosine_softmax>);

/// Numbers of `count` samples, those that one simulated user brings.
using user_draw = function_ref<std::vector<std::size_t>(std::size_t count, rng& random)>;

/// Sees how many of `count` samples have been embedded, about: one task tells of its part as if it
/// were all, from the thread that it runs on.
using embedding_progress = function_ref<void(std::size_t done, std::size_t count)>;

struct pool_options {
  std::size_t adapters = 8;
  std::size_t rank = 4;                    ///< of each, at every target
  std::vector<model::projection> targets;  ///< of every layer; empty: all seven
  float alpha = 0;                         ///< scale is alpha / rank; 0: twice the rank
  float tau = 0.1F;
  std::size_t layer = 0;  ///< blocks that the embedded states have been through; 0: all
  pool_init init = pool_init::automatic;
  pool_start start = pool_start::copies;
  chosen_gates weights;
  bool by_factors = false;   ///< blend as `blend::linear` does it; else the exact sum
  bool independent = false;  ///< each adapter alone on the samples of its cluster or task
  bool train_index = false;
  float index_rate = 1;          ///< see `trained_index`
  float balance = 0;             ///< weight of `imbalance`; acts through trained index vectors only
  std::size_t steps = 600;       ///< of joint training; of each adapter that is trained alone
  std::size_t shared_steps = 0;  ///< of the adapter that all start from; 0: a quarter of the steps
  std::size_t users = 8;         ///< simulated ones per step
  std::size_t samples = 8;       ///< of each; a batch of one adapter has users * samples
  user_mix mix;                  ///< tasks of each
  std::span<const std::string> groups =
      {};                           ///< (n): of each sample, see `simulated_users`; or none
  const user_draw* draw = nullptr;  ///< what users bring; null: `simulated_users`
  training_options<> training;      ///< but for its steps
  std::uint64_t seed = 1;
  std::size_t memory = 0;  ///< bytes that a run may take: what needs more is refused; 0: no limit
  std::string base_model;  ///< name or path, for people
  const embedding_progress* embedding = nullptr;  ///< before the first stage; or nobody looks
  checkpoint_options checkpoint;

  pool_options() {
    training.schedule.peak = 5e-3F;
    training.schedule.warm_up = 30;
  }
};

struct pool_report {
  std::size_t steps = 0;
  double loss = 0;                    ///< of the last step
  std::vector<double> losses;         ///< of every step of the pool (or of the one adapter)
  std::vector<double> shared_losses;  ///< of the adapter that all start from
  std::vector<std::size_t> sizes;     ///< samples of each cluster or task
  usage_report usage;                 ///< over all samples, with the final index
  std::size_t tasks = 0;              ///< that simulated users draw from
  std::size_t groups = 0;             ///< likewise
  std::size_t resumed = 0;            ///< steps that were done before, of the stage under way
  std::size_t rows = 0;               ///< tokens read in training, but for what was done before
  double seconds = 0;                 ///< of training, likewise
  std::size_t bytes = 0;              ///< `training_report::bytes` of the largest stage
};

struct built_pool {
  adapter::pool<float> pool;
  pool_report report;
};

/// Sees every step of every stage; false stops. The checkpoint, if there is one, stays.
using stage_progress =
    function_ref<bool(std::string_view stage, const training_progress& now, std::size_t steps)>;

namespace detail {
inline constexpr auto go_on = [](std::string_view, const training_progress&, std::size_t) {
  return true;
};
}  // namespace detail
inline const stage_progress nobody_looks{detail::go_on};

namespace detail {

/// What a checkpoint of a run is bound to, but for what kind of run it is.
[[nodiscard]] inline checkpoint::identity identity_of(
    const pool_options& o, std::string_view kind, std::string_view base_hash, stored_as storage,
    std::span<const tokenizer::encoded_sample> samples, std::span<const std::string> tasks,
    std::string_view backend, std::size_t threads) {
  hasher data;
  for (const auto& s : samples) {
    data.add(s.ids.data(), s.ids.size() * sizeof s.ids[0]);
    data.add(&s.prompt_tokens, sizeof s.prompt_tokens);
  }
  for (const auto& t : tasks) {
    data.add(t);
    data.add("\n");
  }
  for (const auto& g : o.groups) {
    data.add(g);
    data.add("\n");
  }
  const auto text = [](auto number) { return std::to_string(number); };
  std::string targets = o.targets.empty() ? "all" : "";
  for (const auto p : o.targets) targets += text(static_cast<int>(p)) + " ";
  const auto& t = o.training;
  const auto real = [](float x) {
    char digits[32];
    return std::string(digits, std::to_chars(digits, digits + sizeof digits, x).ptr);
  };
  return {{"kind", std::string(kind)},
          {"base model", std::string(base_hash)},
          {"base type", storage == stored_as::f32    ? "f32"
                        : storage == stored_as::bf16 ? "bf16"
                                                     : "f16"},
          {"data", data.hex()},
          {"backend", std::string(backend)},
          {"threads", text(threads)},
          {"shards", text(t.spread.shards)},
          {"rows", text(t.spread.rows)},
          {"panels", text(t.spread.panels)},
          {"merge_rows", text(t.spread.merge_rows)},
          {"activations", t.spread.activations == activation_type::f32 ? "f32"
                          : t.spread.recompute ? "bf16, inputs of layers only"
                                               : "bf16"},
          {"accumulate", text(t.accumulate)},
          {"dropout", real(t.dropout.rate) + ", seed " + text(t.dropout.seed)},
          {"adapters", text(o.adapters)},
          {"rank", text(o.rank)},
          {"targets", targets},
          {"alpha", real(o.alpha)},
          {"tau", real(o.tau)},
          {"layer", text(o.layer)},
          {"init", text(static_cast<int>(o.init))},
          {"start", o.start == pool_start::copies ? "copies" : "random"},
          {"weights", std::string(o.weights.chosen())},
          {"policy", o.by_factors ? "linear" : "concat"},
          {"independent", o.independent ? "yes" : "no"},
          {"trained index", o.train_index ? real(o.index_rate) : "no"},
          {"balance", real(o.balance)},
          {"steps", text(o.steps)},
          {"shared steps", text(o.shared_steps)},
          {"users", text(o.users)},
          {"samples", text(o.samples)},
          {"users drawn by", o.draw != nullptr  ? "the caller"
                             : o.groups.empty() ? "tasks"
                                                : "groups and tasks"},
          {"tasks of a user", text(o.mix.fewest) + " to " + text(o.mix.most)},
          {"rate", real(t.schedule.peak)},
          {"schedule", std::string(chosen_schedule::name_of(t.schedule.which))},
          {"warm-up", text(t.schedule.warm_up)},
          {"floor", real(t.schedule.floor)},
          {"decay", real(t.optimizer.decay)},
          {"clip", real(t.clip)},
          {"seed", text(o.seed)}};
}

/// Errors of options that no run could be made of.
[[nodiscard]] inline result<void> check_options(const pool_options& o, std::size_t samples) {
  CRAYON_TRY(const auto match, match::cosine_softmax::with_tau(o.tau));
  static_cast<void>(match);
  if (o.adapters == 0 || o.rank == 0 || o.steps == 0 || o.users == 0 || o.samples == 0) {
    return error{errc::bad_value, "adapters, rank, steps, users and samples must not be 0"};
  }
  CRAYON_CHECK(o.mix.check());
  for (auto p = o.targets.begin(); p != o.targets.end(); ++p) {
    if (std::find(o.targets.begin(), p, *p) != p) {
      return error{errc::bad_value, model::llama_config::module(static_cast<std::size_t>(*p)) +
                                        " and its like in other layers are targets twice"};
    }
  }
  if (!o.groups.empty() && o.groups.size() != samples) {
    return error{errc::bad_shape, std::to_string(o.groups.size()) + " groups for " +
                                      std::to_string(samples) + " samples: one each, or none"};
  }
  if (samples < o.adapters) {
    return error{errc::bad_value, std::to_string(samples) + " samples for " +
                                      std::to_string(o.adapters) + " adapters"};
  }
  if (o.balance > 0 && !o.train_index) {
    return error{errc::bad_value,
                 "the balance term moves index vectors: it needs them to be trained"};
  }
  if (o.train_index && o.independent) {
    return error{errc::bad_value,
                 "index vectors are trained jointly, not with adapters that train alone"};
  }
  if (o.train_index && !(o.index_rate > 0)) {
    return error{errc::bad_value,
                 "the index rate is " + std::to_string(o.index_rate) + ", needs a positive number"};
  }
  return {};
}

}  // namespace detail

/// Texts as tokens. A sample that is longer than the context is an error that names it.
template <text_tokenizer T, class Text>
[[nodiscard]] result<std::vector<tokenizer::encoded_sample>> encode_texts(
    const T& tokens, std::span<const Text> texts, const model::llama_config& config) {
  std::vector<tokenizer::encoded_sample> encoded;
  encoded.reserve(texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    encoded.push_back(tokenizer::encode_sample(tokens, {texts[i].prompt, texts[i].completion}));
    if (const std::size_t n = encoded.back().ids.size(); n > config.context) {
      return error{errc::bad_shape, "sample " + std::to_string(i + 1) + " has " +
                                        std::to_string(n) + " tokens, the model's context is " +
                                        std::to_string(config.context)};
    }
  }
  return encoded;
}

}  // namespace crayon::train
