// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdio>
#include <span>
#include <utility>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/by_site.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/recorded.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/engine/few_shot_search.hpp>
#include <crayon/match/blend_request.hpp>
#include <crayon/serve/curl_transport.hpp>
#include <crayon/serve/remote_pool.hpp>

#include "commands.hpp"
#include "matching.hpp"

namespace crayon::cli {
namespace {

result<void> customize_remotely(const customize_options& o, json& report);

void print_weights(const std::vector<float>& weights, const std::vector<std::string>& names) {
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const float share = std::clamp(weights[i], 0.0F, 1.0F);  // a search may go beyond
    const auto bar = static_cast<std::size_t>(40 * share + 0.5F);
    std::printf("%-16s %5.1f %% %s\n", names[i].c_str(), 100 * double{weights[i]},
                std::string(bar, '#').c_str());
  }
}

/// With a weight per site and adapter where there are such.
template <class Policy>
result<adapter::lora_adapter<float>> blend_by(const adapter::pool<float>& pool,
                                              const std::vector<float>& weights,
                                              const std::vector<float>& per_site,
                                              thread_pool& threads) {
  if (per_site.empty())
    return Policy::blend(pool, blend::slots_of(weights, blend::negligible), threads);
  const matrix_view<const float> rows(per_site.data(), pool.sites(), pool.size());
  return blend::by_site<Policy>(pool, rows, blend::negligible, threads);
}

/// The weights of each site, by its name.
json sites_of(const adapter::pool<float>& pool, const std::vector<float>& per_site) {
  json all = json::array();
  for (std::size_t i = 0; i < pool.sites(); ++i) {
    const auto row = std::span(per_site).subspan(i * pool.size(), pool.size());
    all.push_back(
        {{"site", pool.module(i)}, {"weights", std::vector<float>(row.begin(), row.end())}});
  }
  return all;
}

}  // namespace

result<void> run(const customize_options& o, json& report) {
  CRAYON_CHECK(check_output_directory(o.out));
  if (!o.server.empty()) return customize_remotely(o, report);
  CRAYON_TRY(const stored_model model, load_model(o.model.model));
  CRAYON_TRY(const llama2c_tokenizer tokens, load_tokenizer(o.model, model.config()));
  CRAYON_TRY(const auto pool, adapter::load_pool<float>(o.pool));
  std::string policy = o.policy;
  if (policy.empty()) {
    const auto recorded = blend::recorded<backend>::policy(pool.info());
    if (!recorded) {
      return error{recorded.error().code,
                   o.pool + ": " + recorded.error().text + "; --policy names another"};
    }
    policy = *recorded;
  }
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
  std::vector<float> weights_of_user = std::move(matched->weights);
  std::vector<float> per_site = std::move(matched->per_site);
  const double embed_seconds = embedding.seconds();

  if (o.search > 0) {
    match::search_options search;
    search.evaluations = o.search;
    search.l1 = o.search_l1;
    search.seed = o.seed;
    const stopwatch searching;
    CRAYON_TRY(auto found, model.visit([&](const auto& base) {
      return engine::few_shot_search<backend, blend::concat>(
          base, pool, std::span<const engine::encoded_sample>(encoded),
          std::span<const float>(weights_of_user), search, threads);
    }));
    std::printf("search: loss %.4f -> %.4f in %zu evaluations, %.2f s\n", found.start_loss,
                found.loss, found.evaluations, searching.seconds());
    report["search"] = {{"start_loss", found.start_loss},
                        {"loss", found.loss},
                        {"evaluations", found.evaluations},
                        {"seconds", searching.seconds()},
                        {"start_weights", weights_of_user}};
    weights_of_user = std::move(found.weights);
    per_site.clear();  // the search is over one weight per adapter, for all sites
  }

  const stopwatch blending;
  auto blended =
      policy == "linear"
          ? blend_by<blend::linear<backend>>(pool, weights_of_user, per_site, threads)
          : blend_by<blend::basic_concat<backend>>(pool, weights_of_user, per_site, threads);
  if (!blended) return error{blended.error().code, o.pool + ": " + blended.error().text};
  const auto made = *std::move(blended);
  const double blend_seconds = blending.seconds();

  adapter::peft_info info;
  info.base_model = pool.info().base_model;
  info.base_hash = hash;
  CRAYON_CHECK(adapter::save_peft(o.out, made, info));

  print_weights(weights_of_user, pool.info().names);
  if (!per_site.empty()) {
    std::printf("mean over %zu sites, each of which is blended by weights of its own (arrow)\n",
                pool.sites());
    report["site_weights"] = sites_of(pool, per_site);
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

namespace {

/// The pool is a server's: its index comes here, scores go there, the adapter comes back.
result<void> customize_remotely(const customize_options& o, json& report) {
  CRAYON_TRY(const stored_model model, load_model(o.model.model));
  CRAYON_TRY(const llama2c_tokenizer tokens, load_tokenizer(o.model, model.config()));
  CRAYON_TRY(const auto samples, read_samples(o.samples));
  CRAYON_TRY(const auto encoded, encode_samples(samples, tokens, model.config(), o.samples));
  serve::remote_pool_options options;
  options.base_url = o.server;
  serve::remote_pool<serve::curl_transport> remote(options);
  CRAYON_TRY(const serve::pool_index pool, remote.index());

  const std::string hash = model.hash();
  thread_pool threads;
  const match::privacy promise{o.epsilon, o.delta};
  const bool noisy = o.epsilon > 0;
  const stopwatch embedding;
  const auto scored =
      score_samples(pool, model, hash, encoded, noisy ? &promise : nullptr, threads);
  if (!scored) return error{scored.error().code, o.server + ": " + scored.error().text};
  const double embed_seconds = embedding.seconds();
  const auto encoding = o.bytes ? match::score_encoding::u8 : match::score_encoding::f32;
  CRAYON_TRY(const auto request, match::blend_request::make(pool.hash, *scored, encoding));
  const stopwatch blending;
  CRAYON_TRY(auto made, remote.blend(request, hash));
  const double blend_seconds = blending.seconds();
  if (const auto fits = delta::bind(model.config(), made.adapter); !fits) {
    return error{fits.error().code, o.server + ": " + fits.error().text};
  }
  CRAYON_CHECK(adapter::save_peft(o.out, made.adapter, made.info));

  const std::vector<float> sent(request.scores().begin(), request.scores().end());
  print_weights(sent, pool.info.names);
  const auto& bytes = remote.record();
  std::printf(
      "sent to %s: %zu bytes, that is %zu scores%s%s and the pool's hash (8); no text, no "
      "token, no embedding\n",
      o.server.c_str(), bytes.sent_bytes, request.size(), o.bytes ? " of 8 bits" : " of 4 bytes",
      noisy ? " with noise" : "");
  if (noisy) {
    CRAYON_TRY(const double sigma,
               match::gaussian_sigma(promise, match::score_sensitivity(samples.size())));
    std::printf(
        "noise: sigma %.4g, so that this request is (%g, %g)-differentially private in any "
        "one of the %s\n",
        sigma, o.epsilon, o.delta, counted(samples.size(), "sample").c_str());
    report["noise"] = {{"epsilon", o.epsilon}, {"delta", o.delta}, {"sigma", sigma}};
  }
  std::printf(
      "in all %zu bytes of HTTP went out; an index of %zu bytes came in, an adapter of %zu\n",
      bytes.http_bytes, bytes.index_bytes, bytes.adapter_bytes);
  std::printf("%s: the server's blend of %zu adapters in %.2f ms\n", o.out.c_str(), pool.size(),
              1000 * blend_seconds);
  report["out"] = o.out;
  report["server"] = o.server;
  report["policy"] = pool.info.blend;
  report["samples"] = samples.size();
  report["names"] = pool.info.names;
  report["weights"] = sent;
  report["scores"] = o.bytes ? "8bit" : "f32";
  report["sent_bytes"] = bytes.sent_bytes;
  report["http_bytes"] = bytes.http_bytes;
  report["index_bytes"] = bytes.index_bytes;
  report["adapter_bytes"] = bytes.adapter_bytes;
  report["embed_ms"] = 1000 * embed_seconds;
  report["blend_ms"] = 1000 * blend_seconds;
  report["backend"] = backend::name();
  return {};
}

}  // namespace

}  // namespace crayon::cli
