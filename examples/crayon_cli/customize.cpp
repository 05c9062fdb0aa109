// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdio>
#include <span>
#include <utility>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/engine/few_shot_search.hpp>

#include "commands.hpp"
#include "matching.hpp"

namespace crayon::cli {
result<void> run(const customize_options& o, json& report) {
  CRAYON_TRY(const weights model, load_model(o.model.model));
  CRAYON_TRY(const llama2c_tokenizer tokens, load_tokenizer(o.model, model.config()));
  CRAYON_TRY(const auto pool, adapter::load_pool<float>(o.pool));
  const std::string policy =
      o.policy.empty() ? (pool.info().blend == "linear" ? "linear" : "concat") : o.policy;
  if (o.search > 0 && policy == "linear") {
    return error{errc::unsupported,
                 o.pool +
                     ": --search tries negative weights, which the linear blend does not take; "
                     "--policy concat does"};
  }
  CRAYON_TRY(const auto samples, read_samples(o.samples));
  CRAYON_TRY(const auto encoded, encode_samples(samples, tokens, model.config(), o.samples));

  const std::string hash = model.hash();
  thread_pool threads;
  const stopwatch embedding;
  auto matched = match_samples(pool, model, hash, encoded, threads);
  if (!matched) return error{matched.error().code, o.pool + ": " + matched.error().text};
  std::vector<float> weights_of_user = *std::move(matched);
  const double embed_seconds = embedding.seconds();

  if (o.search > 0) {
    match::search_options search;
    search.evaluations = o.search;
    search.l1 = o.search_l1;
    search.seed = o.seed;
    const stopwatch searching;
    CRAYON_TRY(auto found, (engine::few_shot_search<backend, blend::concat>(
                               model, pool, std::span<const engine::encoded_sample>(encoded),
                               std::span<const float>(weights_of_user), search, threads)));
    std::printf("search: loss %.4f -> %.4f in %zu evaluations, %.2f s\n", found.start_loss,
                found.loss, found.evaluations, searching.seconds());
    report["search"] = {{"start_loss", found.start_loss},
                        {"loss", found.loss},
                        {"evaluations", found.evaluations},
                        {"seconds", searching.seconds()},
                        {"start_weights", weights_of_user}};
    weights_of_user = std::move(found.weights);
  }

  const stopwatch blending;
  const auto slots = blend::slots_of(weights_of_user, blend::negligible);
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
    const float share = std::clamp(weights_of_user[i], 0.0F, 1.0F);  // a search may go beyond
    const auto bar = static_cast<std::size_t>(40 * share + 0.5F);
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
