// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/core/function_ref.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/engine/completion_loss.hpp>
#include <crayon/train/pool_start.hpp>
#include <crayon/train/simulated_users.hpp>

#include "commands.hpp"
#include "matching.hpp"

namespace crayon::cli {
namespace {

/// One simulated user: what is matched, and what the adapter is then measured on.
struct tuning_user {
  std::vector<std::size_t> own;
  std::vector<std::size_t> held_out;
};

/// One choice, and the loss of its blended adapters: nats per token, the mean over users.
struct tuning_point {
  std::size_t layer = 0, top_k = 0;
  float tau = 0;
  double loss = 0;
  double deviation = 0;  ///< standard error of the mean
};

/// The loss of one completion by the model with an adapter.
using sample_loss =
    function_ref<engine::loss_sum(const engine::encoded_sample&, const cli::delta&)>;

/// Losses of users whose weights over the pool are given.
class user_losses {
 public:
  user_losses(const model::llama_config& config, const adapter::pool<float>& pool,
              std::span<const engine::encoded_sample> samples, std::span<const tuning_user> users,
              sample_loss loss)
      : config_(config), pool_(pool), samples_(samples), users_(users), loss_(loss) {}

  [[nodiscard]] std::size_t users() const noexcept { return users_.size(); }

  /// `weights_of(user)` -> result<weights>; empty weights: no adapter.
  template <class WeightsOf>
  [[nodiscard]] result<tuning_point> measure(WeightsOf&& weights_of) const {
    double sum = 0, squares = 0;
    for (const auto& user : users_) {
      CRAYON_TRY(const std::vector<float> w, weights_of(user));
      CRAYON_TRY(const double loss, loss_of(user, w));
      sum += loss;
      squares += loss * loss;
    }
    const double n = static_cast<double>(users_.size());
    tuning_point point;
    point.loss = sum / n;
    const double variance = std::max(0.0, squares / n - point.loss * point.loss);
    point.deviation = n > 1 ? std::sqrt(variance / (n - 1)) : 0;
    return point;
  }

 private:
  result<double> loss_of(const tuning_user& user, const std::vector<float>& w) const {
    cli::delta with(config_);
    adapter::lora_adapter<float> made;
    if (!w.empty()) {
      CRAYON_TRY(made, blend::concat::blend(pool_, blend::slots_of(w, blend::negligible)));
      CRAYON_CHECK(with.append(made));
    }
    engine::loss_sum sum;
    for (const std::size_t i : user.held_out) {
      sum += loss_(samples_[i], with);
    }
    return sum.mean();
  }

  const model::llama_config& config_;
  const adapter::pool<float>& pool_;
  std::span<const engine::encoded_sample> samples_;
  std::span<const tuning_user> users_;
  sample_loss loss_;
};

std::vector<tuning_user> draw_users(const pool_tune_options& o,
                                    const train::simulated_users& source) {
  rng random(o.seed);
  std::vector<tuning_user> users(o.users);
  for (auto& user : users) {
    // A sample is either the user's own or held out, however often it is drawn.
    for (const std::size_t i : source.draw(2 * o.per_user, random)) {
      const bool seen = std::count(user.own.begin(), user.own.end(), i) > 0;
      if (user.own.size() < o.per_user || seen) {
        if (!seen) user.own.push_back(i);
      } else {
        user.held_out.push_back(i);
      }
    }
  }
  std::erase_if(users, [](const tuning_user& u) { return u.held_out.empty(); });
  return users;
}

json json_of(const tuning_point& p) {
  return {{"layer", p.layer},
          {"tau", p.tau},
          {"top_k", p.top_k},
          {"loss", p.loss},
          {"standard_error", p.deviation}};
}

/// The curve, told as it comes, and the pool with its best point.
result<void> tune(const pool_tune_options& o, const adapter::pool_contents& file,
                  const adapter::pool<float>& pool, const stored_model& model,
                  const llama2c_tokenizer& tokens, std::span<const engine::encoded_sample> encoded,
                  const user_losses& losses, thread_pool& threads, json& report) {
  const stopwatch watch;
  CRAYON_TRY(const auto base, losses.measure([](const tuning_user&) -> result<std::vector<float>> {
    return std::vector<float>();
  }));
  CRAYON_TRY(const auto uniform,
             losses.measure([&](const tuning_user&) -> result<std::vector<float>> {
               return std::vector<float>(pool.size(), 1.0F / static_cast<float>(pool.size()));
             }));
  std::printf("%s, %s each; loss of held-out completions, nats per token\n",
              counted(losses.users(), "user").c_str(), counted(o.per_user, "sample").c_str());
  const auto or_all = [](std::size_t n) { return n == 0 ? std::string("all") : std::to_string(n); };
  std::printf("%8s %8s %8s %10s\n", "layer", "tau", "top_k", "loss");
  std::printf("%26s %10.4f +- %.4f\n", "no adapter", base.loss, base.deviation);
  std::printf("%26s %10.4f +- %.4f\n", "uniform", uniform.loss, uniform.deviation);

  std::vector<engine::encoded_sample> texts;
  std::vector<std::size_t> owner;
  for (std::size_t k = 0; k < o.samples.size(); ++k) {
    CRAYON_TRY(const auto own, read_samples(o.samples[k]));
    CRAYON_TRY(auto ids, encode_samples(own, tokens, model.config(), o.samples[k]));
    owner.insert(owner.end(), ids.size(), k);
    std::move(ids.begin(), ids.end(), std::back_inserter(texts));
  }
  const auto layers = o.layers.empty() ? std::vector<std::size_t>{pool.info().layer} : o.layers;
  std::vector<tuning_point> curve;
  tuning_point best;
  best.loss = INFINITY;
  adapter::pool_info best_info;
  std::vector<float> best_index;
  for (const std::size_t layer : layers) {
    adapter::pool_info info = pool.info();
    info.matcher = "top_k";
    std::vector<float> index(pool.index().data, pool.index().data + pool.index().size());
    if (!o.samples.empty()) {
      embedding_options how = o.index;
      how.layer = layer;
      CRAYON_TRY(const auto rows, embed_by_name(how.embedding, layer, model, texts, threads));
      CRAYON_TRY(auto made, make_index(rows, owner, pool.size(), how));
      index = std::move(made.index);
      info.embedding = how.embedding;
      info.layer = layer;
      info.centroids = how.centroids;
      info.centre = std::move(made.space.centre);
      info.projection = std::move(made.space.projection);
    }
    CRAYON_TRY(const auto places, place_samples_of(info, model, encoded, threads));
    const std::size_t width = places.size() / encoded.size();
    const matrix_view<const float> rows(index.data(), pool.size(), index.size() / pool.size());
    if (width * info.centroids != rows.cols) {
      return error{errc::bad_shape, o.pool + ": index vectors for embeddings of length " +
                                        std::to_string(rows.cols / info.centroids) +
                                        ", this model's have " + std::to_string(width)};
    }
    const auto try_out = [&](float tau, std::size_t k) -> result<void> {
      info.tau = tau;
      info.top_k = k;
      CRAYON_TRY(tuning_point point,
                 losses.measure([&](const tuning_user& user) -> result<std::vector<float>> {
                   std::vector<float> own;
                   for (const std::size_t i : user.own) {
                     const float* from = places.data() + i * width;
                     own.insert(own.end(), from, from + width);
                   }
                   return match_by_name(info, rows, {own.data(), user.own.size(), width});
                 }));
      point.layer = layer;
      point.tau = tau;
      point.top_k = k;
      curve.push_back(point);
      std::printf("%8s %8.3g %8s %10.4f +- %.4f\n", or_all(layer).c_str(), double{tau},
                  or_all(k).c_str(), point.loss, point.deviation);
      if (point.loss < best.loss) {
        best = point;
        best_info = info;
        best_index = index;
      }
      return {};
    };
    tuning_point of_layer;
    of_layer.loss = INFINITY;
    for (const float tau : o.taus) {
      CRAYON_CHECK(try_out(tau, 0));
      if (curve.back().loss < of_layer.loss) of_layer = curve.back();
    }
    for (const std::size_t k : o.top_ks) {
      if (k < pool.size()) CRAYON_CHECK(try_out(of_layer.tau, k));
    }
  }
  std::printf("best: layer %s, tau %.3g, top_k %s, loss %.4f\n", or_all(best.layer).c_str(),
              double{best.tau}, or_all(best.top_k).c_str(), best.loss);
  report["users"] = losses.users();
  report["no_adapter"] = base.loss;
  report["uniform"] = uniform.loss;
  report["curve"] = json::array();
  for (const auto& point : curve) report["curve"].push_back(json_of(point));
  report["best"] = json_of(best);
  report["seconds"] = watch.seconds();
  if (o.out.empty()) return {};

  if (best.top_k == 0) best_info.matcher = "cosine_softmax";
  const matrix_view<const float> index(best_index.data(), pool.size(),
                                       best_index.size() / pool.size());
  CRAYON_CHECK(adapter::save_reindexed(o.out, file, index, best_info));
  std::printf("%s: the pool with that choice\n", o.out.c_str());
  report["out"] = o.out;
  return {};
}

}  // namespace

result<void> run(const pool_tune_options& o, json& report) {
  CRAYON_CHECK(check_output_file(o.out));
  for (const float tau : o.taus) CRAYON_CHECK(match::cosine_softmax::with_tau(tau));
  CRAYON_TRY(const stored_model model, load_model(o.model.model));
  CRAYON_TRY(const llama2c_tokenizer tokens, load_tokenizer(o.model, model.config()));
  CRAYON_TRY(const auto file, adapter::pool_contents::open(o.pool));
  CRAYON_TRY(const auto pool, adapter::load_pool<float>(file));
  const std::string hash = model.hash();
  if (!pool.info().base_hash.empty() && pool.info().base_hash != hash) {
    return error{errc::mismatch, o.pool + ": the pool was made with the base model " +
                                     pool.info().base_hash + ", this model has " + hash};
  }
  const bool retrains_index = !o.samples.empty();
  if (retrains_index && o.samples.size() != pool.size()) {
    return error{errc::bad_value, std::to_string(o.samples.size()) + " files of samples, " +
                                      o.pool + " has " + std::to_string(pool.size()) +
                                      " adapters: one each, in the pool's order, or none"};
  }
  if (!retrains_index && !o.layers.empty()) {
    return error{errc::bad_value,
                 "--layer moves the index vectors: it needs --samples, one file per adapter"};
  }
  if (!retrains_index && (pool.index().cols == 0 || pool.info().matcher == "arrow")) {
    return error{errc::bad_value,
                 o.pool +
                     ": has no index vectors of texts; --samples, one file per adapter, give "
                     "it some"};
  }
  CRAYON_TRY(const auto samples, read_samples(o.data));
  CRAYON_TRY(const auto encoded, encode_samples(samples, tokens, model.config(), o.data));
  std::vector<std::string> tasks, groups;
  for (const auto& s : samples) {
    tasks.push_back(s.task);
    groups.push_back(s.group);
  }
  const auto of_group = train::number_groups(groups);
  const auto of_task = train::number_groups(tasks);  // "" is one of its own, too
  const auto users = draw_users(o, train::simulated_users(of_task, of_group, o.mix));
  if (users.empty()) {
    return error{errc::bad_value, o.data + ": " + std::to_string(samples.size()) +
                                      " samples are too few to hold some out"};
  }

  std::size_t longest = 1;
  for (const auto& one : encoded) longest = std::max(longest, one.ids.size());
  thread_pool threads;
  return model.visit([&](const auto& base) {
    session_of<std::decay_t<decltype(base)>> s(base, longest);
    const auto loss = [&](const engine::encoded_sample& one, const cli::delta& with) {
      return engine::completion_loss(s, one, with, threads);
    };
    const user_losses losses(model.config(), pool, encoded, users, loss);
    return tune(o, file, pool, model, tokens, encoded, losses, threads, report);
  });
}

}  // namespace crayon::cli
