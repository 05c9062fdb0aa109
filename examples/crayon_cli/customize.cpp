// SPDX-License-Identifier: MIT
#include <cstdio>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/engine/pool_checks.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/match/index_space.hpp>

#include "commands.hpp"
#include "encoded.hpp"

namespace crayon::cli {
namespace {

template <class Pooling>
struct config_with : config {
  using embedding = Pooling;
};

/// Weights over the pool, with the embedding policy that it was made with.
template <class Pooling>
result<std::vector<float>> match_samples(const customize_options& o, const weights& model,
                                         const std::string& hash, const adapter::pool<float>& pool,
                                         std::span<const engine::encoded_sample> samples,
                                         thread_pool& threads) {
  engine::pool_overrides overrides;
  overrides.blend = true;  // `--policy` names it
  const std::size_t length = Pooling::size(model.config().dim);
  if (const auto fits = engine::check_pool<config_with<Pooling>>(pool, hash, length, overrides);
      !fits) {
    return error{fits.error().code, o.pool + ": " + fits.error().text};
  }
  CRAYON_TRY(const auto match, match::cosine_softmax::with_tau(pool.info().tau));
  const std::vector<float> rows = embed_samples<Pooling>(model, samples, threads);
  const match::index_space space{pool.info().centre, pool.info().projection};
  const std::size_t width = pool.index().cols;
  std::vector<float> placed(samples.size() * width);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    space.place(std::span(rows).subspan(i * length, length),
                std::span(placed).subspan(i * width, width));
  }
  return match.weights(pool.index(),
                       matrix_view<const float>(placed.data(), samples.size(), width));
}

}  // namespace

result<void> run(const customize_options& o, json& report) {
  CRAYON_TRY(const weights model, load_model(o.model.model));
  CRAYON_TRY(const llama2c_tokenizer tokens, load_tokenizer(o.model, model.config()));
  CRAYON_TRY(const auto pool, adapter::load_pool<float>(o.pool));
  CRAYON_TRY(const auto samples, read_samples(o.samples));
  CRAYON_TRY(const auto encoded, encode_samples(samples, tokens, model.config(), o.samples));

  const std::string hash = model.hash();
  thread_pool threads;
  const stopwatch embedding;
  CRAYON_TRY(const auto weights_of_user,
             pool.info().embedding == match::error_pooling::name()
                 ? match_samples<match::error_pooling>(o, model, hash, pool, encoded, threads)
                 : match_samples<match::mean_pooling>(o, model, hash, pool, encoded, threads));
  const double embed_seconds = embedding.seconds();

  const stopwatch blending;
  const auto slots = blend::slots_of(weights_of_user);
  const std::string policy =
      o.policy.empty() ? (pool.info().blend == "linear" ? "linear" : "concat") : o.policy;
  adapter::lora_adapter<float> made;
  if (policy == "linear") {
    CRAYON_TRY(made, blend::linear<backend>::blend(pool, slots));
  } else {
    CRAYON_TRY(made, blend::concat::blend(pool, slots));
  }
  const double blend_seconds = blending.seconds();

  adapter::peft_info info;
  info.base_model = pool.info().base_model;
  info.base_hash = hash;
  CRAYON_CHECK(adapter::save_peft(o.out, made, info));

  for (std::size_t i = 0; i < weights_of_user.size(); ++i) {
    const auto bar = static_cast<std::size_t>(40 * weights_of_user[i] + 0.5F);
    std::printf("%-16s %5.1f %% %s\n", pool.info().names[i].c_str(),
                100 * double{weights_of_user[i]}, std::string(bar, '#').c_str());
  }
  std::printf("%s: %s blend of %zu adapters in %.2f ms\n", o.out.c_str(), policy.c_str(),
              pool.size(), 1000 * blend_seconds);
  report["out"] = o.out;
  report["policy"] = policy;
  report["samples"] = samples.size();
  report["names"] = pool.info().names;
  report["weights"] = weights_of_user;
  report["embed_ms"] = 1000 * embed_seconds;
  report["blend_ms"] = 1000 * blend_seconds;
  report["backend"] = backend::name();
  return {};
}

}  // namespace crayon::cli
