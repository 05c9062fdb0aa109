// SPDX-License-Identifier: MIT
// Embedding, index spaces and matchers by the names that a pool file has for them.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <crayon/adapter/pool.hpp>
#include <crayon/match/index_space.hpp>
#include <crayon/match/score_noise.hpp>
#include <crayon/serve/pool_index.hpp>

#include "embedding_options.hpp"
#include "encoded.hpp"

namespace crayon::cli {

/// (samples, elements of an embedding), and how many parts an embedding has.
struct embedded {
  std::vector<float> rows;
  std::size_t width = 0;
  std::size_t parts = 1;

  [[nodiscard]] matrix_view<const float> view() const noexcept {
    return {rows.data(), width == 0 ? 0 : rows.size() / width, width};
  }
};

/// Errors: a name that is no embedding policy, a layer that the model does not have.
[[nodiscard]] result<embedded> embed_by_name(const std::string& name, std::size_t layer,
                                             const stored_model& model,
                                             std::span<const engine::encoded_sample> samples,
                                             thread_pool& threads);

/// The index of a pool whose adapter i is for the samples with group[i].
struct placed_index {
  match::index_space space;
  std::vector<float> index;   ///< (adapters, centroids * width)
  std::vector<float> places;  ///< (samples, width)
  std::size_t width = 0;
};
[[nodiscard]] result<placed_index> make_index(const embedded& samples,
                                              std::span<const std::size_t> group,
                                              std::size_t adapters,
                                              const embedding_options& options);

/// Places (samples, width) and an index -> one weight per adapter, by `info.matcher` with its tau
/// and top_k. No name: cosine_softmax.
[[nodiscard]] result<std::vector<float>> match_by_name(const adapter::pool_info& info,
                                                       matrix_view<const float> index,
                                                       matrix_view<const float> places);

/// One weight per adapter, and of a pool for arrow one per site and adapter (sites, N), of which
/// the others are the mean.
struct user_weights {
  std::vector<float> weights;
  std::vector<float> per_site;
};

/// The weights of a pool's adapters from samples, with the embedding and the matcher that the pool
/// was made with. Errors: a pool of another base model, samples that do not fit.
[[nodiscard]] result<user_weights> match_samples(const adapter::pool<float>& pool,
                                                 const stored_model& model, const std::string& hash,
                                                 std::span<const engine::encoded_sample> samples,
                                                 thread_pool& threads);

/// The same for a pool that is elsewhere: its index, and noise on the scores, which are the only
/// thing that is sent (match/score_noise.hpp); null: none. Pools for arrow are refused.
[[nodiscard]] result<std::vector<float>> score_samples(
    const serve::pool_index& pool, const stored_model& model, const std::string& hash,
    std::span<const engine::encoded_sample> samples, const match::privacy* noise,
    thread_pool& threads);

/// A pool's embeddings of samples in its index space, (samples, width).
[[nodiscard]] result<std::vector<float>> place_samples_of(
    const adapter::pool_info& info, const stored_model& model,
    std::span<const engine::encoded_sample> samples, thread_pool& threads);

}  // namespace crayon::cli
