// SPDX-License-Identifier: MIT
#include <array>
#include <cstdint>
#include <cstdio>
#include <map>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/match/index_space.hpp>
#include <crayon/train/joint_pool.hpp>
#include <crayon/train/k_means.hpp>
#include <crayon/train/pretrain.hpp>

#include "commands.hpp"
#include "encoded.hpp"

namespace crayon::cli {
namespace {

/// Draws what one simulated user brings: samples of one to three tasks. Without task labels the
/// clusters of the samples are the tasks.
class user_source {
 public:
  user_source(const std::vector<sample>& samples, std::span<const std::size_t> clusters) {
    std::map<std::string, std::vector<std::size_t>> groups;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      groups[samples[i].task.empty() ? "cluster " + std::to_string(clusters[i]) : samples[i].task]
          .push_back(i);
    }
    for (auto& [name, members] : groups) tasks_.push_back(std::move(members));
  }

  [[nodiscard]] std::size_t tasks() const noexcept { return tasks_.size(); }

  [[nodiscard]] std::vector<std::size_t> draw(std::size_t count, rng& random) const {
    std::array<std::size_t, 3> chosen{};
    const std::size_t of = 1 + random.below(chosen.size());
    for (std::size_t i = 0; i < of; ++i) chosen[i] = random.below(tasks_.size());
    std::vector<std::size_t> drawn;
    for (std::size_t i = 0; i < count; ++i) {
      const auto& task = tasks_[chosen[i % of]];
      drawn.push_back(task[random.below(task.size())]);
    }
    return drawn;
  }

 private:
  std::vector<std::vector<std::size_t>> tasks_;
};

}  // namespace

result<void> run(const pool_options& o, json& report) {
  CRAYON_TRY(const match::cosine_softmax match, match::cosine_softmax::with_tau(o.tau));
  CRAYON_TRY(const weights model, load_model(o.model.model));
  CRAYON_TRY(const llama2c_tokenizer tokens, load_tokenizer(o.model, model.config()));
  CRAYON_TRY(const auto samples, read_samples(o.data));
  if (samples.size() < o.adapters) {
    return error{errc::bad_value, o.data + ": " + std::to_string(samples.size()) + " samples for " +
                                      std::to_string(o.adapters) + " adapters"};
  }
  CRAYON_TRY(const auto encoded, encode_samples(samples, tokens, model.config(), o.data));

  const stopwatch watch;
  thread_pool threads;
  using pooling = config::embedding;
  const std::vector<float> embedded = embed_samples<pooling>(model, encoded, threads);
  const std::size_t width = embedded.size() / encoded.size();
  const matrix_view<const float> rows(embedded.data(), encoded.size(), width);
  const match::index_space space{match::mean_of(rows), {}};
  std::vector<float> placed(embedded.size());
  const matrix_view<float> points(placed.data(), encoded.size(), width);
  for (std::size_t i = 0; i < rows.rows; ++i) {
    space.place({rows.row(i), width}, {points.row(i), width});
  }
  rng random(o.seed);
  CRAYON_TRY(const auto clusters,
             train::k_means<backend>(matrix_view<const float>(points), o.adapters, random));
  const matrix_view<const float> index(clusters.centres.data(), o.adapters, width);
  const user_source users(samples, clusters.assignment);

  using model::projection;
  constexpr std::array sites{projection::q,    projection::k,  projection::v,   projection::o,
                             projection::gate, projection::up, projection::down};
  train::training_options<> training;
  training.schedule.peak = o.rate;
  training.schedule.warm_up = 30;
  const auto shapes = train::lora_shapes(
      model.config(), o.rank, o.alpha > 0 ? o.alpha : 2 * static_cast<float>(o.rank), sites);

  // All adapters start from one that has seen everything: that aligns their factors.
  auto shared = train::initial_adapter(shapes, random);
  training.steps = o.shared_steps == 0 ? o.steps / 4 : o.shared_steps;
  {
    progress_bar bar("first adapter");
    CRAYON_TRY(const auto done, train::train_adapter<backend>(
                                    model, shared, training,
                                    [&](std::size_t, train::packed_batch& batch) {
                                      for (std::size_t i = 0; i < o.users * o.samples; ++i) {
                                        const auto& s = encoded[random.below(encoded.size())];
                                        batch.add(s.ids, s.prompt_tokens);
                                      }
                                    },
                                    threads,
                                    [&](const train::training_progress& p) {
                                      bar.show(p.step + 1, training.steps,
                                               "loss " + std::to_string(p.loss));
                                    }));
    report["shared_loss"] = done.last_loss;
  }

  std::vector<adapter::lora_adapter<float>> adapters(o.adapters, shared);
  training.steps = o.steps;
  progress_bar bar("pool");
  CRAYON_TRY(const auto done,
             train::joint_pool<backend>(
                 model, std::span(adapters), index, match, train::leave_one_out{}, training,
                 [&](std::size_t, train::grouped_batch& batch) {
                   for (std::size_t user = 0; user < o.users; ++user) {
                     batch.begin_group();
                     for (const std::size_t i : users.draw(o.samples, random)) {
                       batch.add(encoded[i].ids, encoded[i].prompt_tokens, {points.row(i), width});
                     }
                   }
                 },
                 threads,
                 [&](const train::training_progress& p) {
                   bar.show(p.step + 1, training.steps, "loss " + std::to_string(p.loss));
                 }));

  adapter::pool_info info;
  info.base_model = o.model.model;
  info.base_hash = model.hash();
  info.embedding = pooling::name();
  info.matcher = match::cosine_softmax::name();
  info.tau = o.tau;
  info.blend = blend::concat::name();
  info.centre = space.centre;
  info.notes["weights in training"] = train::leave_one_out::name();
  CRAYON_TRY(const auto pool, adapter::pool<float>::build(adapters, index, std::move(info)));
  CRAYON_CHECK(adapter::save_pool(o.out, pool));

  std::printf("%s: %zu adapters of rank %zu, %zu samples of %zu tasks, loss %.4f, %.1f s\n",
              o.out.c_str(), pool.size(), o.rank, samples.size(), users.tasks(), done.last_loss,
              watch.seconds());
  report["out"] = o.out;
  report["adapters"] = pool.size();
  report["rank"] = o.rank;
  report["samples"] = samples.size();
  report["tasks"] = users.tasks();
  report["steps"] = done.steps;
  report["loss"] = done.last_loss;
  report["cluster_sizes"] = clusters.sizes;
  report["bytes"] = pool.bytes();
  report["seconds"] = watch.seconds();
  report["backend"] = backend::name();
  return {};
}

}  // namespace crayon::cli
