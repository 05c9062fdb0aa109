// SPDX-License-Identifier: MIT
#include "matching.hpp"

#include <algorithm>
#include <type_traits>
#include <utility>

#include <crayon/core/rng.hpp>
#include <crayon/engine/arrow.hpp>
#include <crayon/engine/pool_checks.hpp>
#include <crayon/match/centroid.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/match/discriminant.hpp>
#include <crayon/match/similarity.hpp>
#include <crayon/match/top_k.hpp>
#include <crayon/match/uniform.hpp>
#include <crayon/match/whitening.hpp>
#include <crayon/train/k_means.hpp>

namespace crayon::cli {
namespace {

template <class Pooling>
embedded embed_by(std::size_t layer, const stored_model& model,
                  std::span<const engine::encoded_sample> samples, thread_pool& threads) {
  return {model.visit([&](const auto& base) {
            return embed_samples<Pooling>(base, samples, threads, layer);
          }),
          Pooling::size(model.config().dim), Pooling::size(1)};
}

result<match::index_space> space_of(const embedded& samples, std::span<const std::size_t> group,
                                    std::size_t adapters, const embedding_options& o) {
  const auto rows = samples.view();
  if (o.space == "pca" || o.space == "zca") {
    return match::fit_whitening(rows,
                                o.space == "pca" ? match::whitening::pca : match::whitening::zca,
                                o.directions, samples.parts, o.shrinkage);
  }
  if (o.space == "discriminant" && adapters > 1) {
    return match::fit_discriminant(rows, group, std::min(adapters - 1, rows.cols), samples.parts,
                                   o.shrinkage);
  }
  if (adapters == 1) return match::space_around_mean(rows);
  return match::index_space{match::mean_of(rows), {}};
}

result<void> check_base(const adapter::pool_info& info, const std::string& hash) {
  if (info.base_hash.empty() || info.base_hash == hash) return {};
  return error{errc::mismatch, "the pool was made with the base model " + info.base_hash +
                                   ", this model has " + hash};
}

matrix_view<const float> view_of(const std::vector<float>& rows, std::size_t count) {
  return {rows.data(), count, rows.size() / count};
}

/// The samples in the space of this index.
result<std::vector<float>> places_in(const adapter::pool_info& info, matrix_view<const float> index,
                                     const stored_model& model,
                                     std::span<const engine::encoded_sample> samples,
                                     thread_pool& threads) {
  if (index.cols == 0) {
    return error{errc::bad_value, "the pool has no index vectors: nothing to match samples with"};
  }
  CRAYON_TRY(auto places, place_samples_of(info, model, samples, threads));
  const std::size_t width = places.size() / samples.size();
  if (width * info.centroids == index.cols) return places;
  return error{errc::bad_shape, "the pool's index vectors are for embeddings of length " +
                                    std::to_string(index.cols / info.centroids) +
                                    ", this model's have " + std::to_string(width)};
}

}  // namespace

result<embedded> embed_by_name(const std::string& name, std::size_t layer,
                               const stored_model& model,
                               std::span<const engine::encoded_sample> samples,
                               thread_pool& threads) {
  if (layer > model.config().layers) {
    return error{errc::bad_value, "layer " + std::to_string(layer) + ", the model has " +
                                      std::to_string(model.config().layers)};
  }
  if (name == match::error_pooling::name()) {
    return embed_by<match::error_pooling>(layer, model, samples, threads);
  }
  if (name == match::mean_pooling::name()) {
    return embed_by<match::mean_pooling>(layer, model, samples, threads);
  }
  if (name == match::last_token::name()) {
    return embed_by<match::last_token>(layer, model, samples, threads);
  }
  return error{errc::unsupported,
               "embedding \"" + name + "\", known are error_pooling, mean_pooling, last_token"};
}

result<placed_index> make_index(const embedded& samples, std::span<const std::size_t> group,
                                std::size_t adapters, const embedding_options& o) {
  placed_index made;
  CRAYON_TRY(made.space, space_of(samples, group, adapters, o));
  const auto rows = samples.view();
  made.width = made.space.size(rows.cols);
  made.places.resize(rows.rows * made.width);
  for (std::size_t i = 0; i < rows.rows; ++i) {
    made.space.place({rows.row(i), rows.cols},
                     std::span(made.places).subspan(i * made.width, made.width));
  }
  const matrix_view<const float> places(made.places.data(), rows.rows, made.width);
  if (o.centroids == 1) {
    made.index = match::centroids(places, group, adapters);
    return made;
  }
  rng random(1);
  std::vector<float> centres;
  for (std::size_t k = 0; k < adapters; ++k) {
    std::vector<float> own;
    for (std::size_t i = 0; i < group.size(); ++i) {
      if (group[i] == k) own.insert(own.end(), places.row(i), places.row(i) + made.width);
    }
    const std::size_t count = own.size() / made.width;
    const std::size_t clusters = std::min(o.centroids, count);
    CRAYON_TRY(const auto found,
               train::k_means<backend>({own.data(), count, made.width}, clusters, random));
    for (std::size_t c = 0; c < o.centroids; ++c) {  // too few samples: the first ones again
      const float* from = found.centres.data() + c % clusters * made.width;
      centres.insert(centres.end(), from, from + made.width);
    }
  }
  made.index = match::index_of(centres, o.centroids, made.width);
  return made;
}

result<std::vector<float>> match_by_name(const adapter::pool_info& info,
                                         matrix_view<const float> index,
                                         matrix_view<const float> places) {
  if (info.matcher == match::uniform::name()) return match::uniform{}.weights(index, places);
  if (info.matcher == match::centroid::name()) return match::centroid{}.weights(index, places);
  if (info.matcher == match::top_k::name()) {
    CRAYON_TRY(const auto matcher, match::top_k::with(info.tau, info.top_k));
    return matcher.weights(index, places);
  }
  if (!info.matcher.empty() && info.matcher != match::cosine_softmax::name()) {
    return error{errc::unsupported, "matcher \"" + info.matcher +
                                        "\", known are cosine_softmax, top_k, centroid, uniform, "
                                        "arrow"};
  }
  CRAYON_TRY(const auto matcher, match::cosine_softmax::with_tau(info.tau));
  return matcher.weights(index, places);
}

result<std::vector<float>> place_samples_of(const adapter::pool_info& info,
                                            const stored_model& model,
                                            std::span<const engine::encoded_sample> samples,
                                            thread_pool& threads) {
  const std::string& name =
      info.embedding.empty() ? std::string(match::mean_pooling::name()) : info.embedding;
  CRAYON_TRY(const auto rows, embed_by_name(name, info.layer, model, samples, threads));
  const match::index_space space{info.centre, info.projection};
  if (!space.centre.empty() && space.centre.size() != rows.width) {
    return error{errc::bad_shape, "index vectors for embeddings of length " +
                                      std::to_string(space.centre.size()) + ", the model's have " +
                                      std::to_string(rows.width)};
  }
  const std::size_t width = space.size(rows.width);
  std::vector<float> places(samples.size() * width);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    space.place(std::span(rows.rows).subspan(i * rows.width, rows.width),
                std::span(places).subspan(i * width, width));
  }
  return places;
}

result<user_weights> match_samples(const adapter::pool<float>& pool, const stored_model& model,
                                   const std::string& hash,
                                   std::span<const engine::encoded_sample> samples,
                                   thread_pool& threads) {
  const auto& info = pool.info();
  CRAYON_CHECK(check_base(info, hash));
  if (info.matcher == match::arrow::name()) {
    CRAYON_TRY(const auto prototypes,
               match::arrow_prototypes::from_index(pool.shapes(), pool.index()));
    std::size_t longest = 1;
    for (const auto& one : samples) longest = std::max(longest, one.ids.size());
    CRAYON_TRY(const auto routing, match::arrow::with(info.tau, info.top_k));
    CRAYON_TRY(auto matched, model.visit([&](const auto& base) {
      session_of<std::decay_t<decltype(base)>> s(base, longest);
      return engine::match_by_arrow(s, prototypes, samples, routing, threads);
    }));
    return user_weights{std::move(matched.weights), std::move(matched.per_site)};
  }
  CRAYON_TRY(const auto places, places_in(info, pool.index(), model, samples, threads));
  CRAYON_TRY(auto found, match_by_name(info, pool.index(), view_of(places, samples.size())));
  return user_weights{std::move(found), {}};
}

result<std::vector<float>> score_samples(const serve::pool_index& pool, const stored_model& model,
                                         const std::string& hash,
                                         std::span<const engine::encoded_sample> samples,
                                         const match::privacy* noise, thread_pool& threads) {
  CRAYON_CHECK(check_base(pool.info, hash));
  if (pool.info.matcher == match::arrow::name()) {
    return error{
        errc::unsupported,
        "the server's pool has the matcher \"arrow\", whose weights differ from site to site, "
        "and a request has one score per adapter and no room for more: import the pool with "
        "--samples, or customize with --pool"};
  }
  CRAYON_TRY(const auto memory, places_in(pool.info, pool.view(), model, samples, threads));
  const auto places = view_of(memory, samples.size());
  const std::string& name = pool.info.matcher;
  if (noise == nullptr || name == match::uniform::name()) {  // of which no sample is part
    return match_by_name(pool.info, pool.view(), places);
  }
  if (name == match::centroid::name()) {
    return match::private_weights(match::centroid{}, pool.view(), places, *noise);
  }
  if (name == match::top_k::name()) {
    CRAYON_TRY(const auto matcher, match::top_k::with(pool.info.tau, pool.info.top_k));
    return match::private_weights(matcher, pool.view(), places, *noise);
  }
  if (!name.empty() && name != match::cosine_softmax::name()) {
    return match_by_name(pool.info, pool.view(), places);  // which says what is wrong
  }
  CRAYON_TRY(const auto matcher, match::cosine_softmax::with_tau(pool.info.tau));
  return match::private_weights(matcher, pool.view(), places, *noise);
}

}  // namespace crayon::cli
