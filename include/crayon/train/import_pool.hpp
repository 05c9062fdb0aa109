// SPDX-License-Identifier: MIT
// Adapters that exist already -> a pool, with index vectors from texts. Needs Eigen.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/padded.hpp>
#include <crayon/adapter/peft_set.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/io/text_sample.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/match/discriminant.hpp>
#include <crayon/match/index_space.hpp>
#include <crayon/train/pool_options.hpp>
#include <crayon/train/pool_start.hpp>

namespace crayon::train {

/// A pool of the adapters, in their order: texts[i] are what adapter i is for, and the mean
/// direction of their embeddings is its index vector, in the space that keeps the adapters apart
/// best. They may differ in ranks, scales and modules (adapter/padded.hpp). Their factors have no
/// common gauge, so the pool is for the exact blend. Errors: another base model, texts that are
/// missing or too long, what `adapter::pool` refuses.
template <kernel_backend B, embedding_policy Embedding = match::error_pooling, element E,
          text_tokenizer T, executor X>
[[nodiscard]] result<adapter::pool<float>> import_pool(
    const model::llama_weights<E>& weights, const T& tokens, const adapter::peft_set<float>& set,
    std::span<const std::vector<io::text_sample>> texts, X& threads, float tau = 0.1F) {
  CRAYON_TRY(const auto match, match::cosine_softmax::with_tau(tau));
  const std::size_t count = set.adapters.size();
  const std::string hash = weights.hash();
  if (!set.info.base_hash.empty() && set.info.base_hash != hash) {
    return error{errc::mismatch, "the adapters were made for the base model " + set.info.base_hash +
                                     ", this one is " + hash};
  }
  if (texts.size() != count) {
    return error{errc::bad_shape, std::to_string(texts.size()) + " texts for " +
                                      std::to_string(count) + " adapters"};
  }
  std::vector<tokenizer::encoded_sample> samples;
  std::vector<std::size_t> owner;
  adapter::pool_info info;
  for (std::size_t k = 0; k < count; ++k) {
    const std::string& name = set.adapters.names()[k];
    if (texts[k].empty()) return error{errc::bad_value, name + ": no texts"};
    auto encoded =
        encode_texts(tokens, std::span<const io::text_sample>(texts[k]), weights.config());
    if (!encoded) return error{encoded.error().code, name + ": " + encoded.error().text};
    std::move(encoded->begin(), encoded->end(), std::back_inserter(samples));
    owner.resize(samples.size(), k);
    info.names.push_back(name);
  }
  const std::vector<float> embedded = embed_all<B, Embedding>(
      weights, std::span<const tokenizer::encoded_sample>(samples), threads);
  const matrix_view<const float> rows(embedded.data(), samples.size(),
                                      Embedding::size(weights.config().dim));
  match::index_space space;
  if (count > 1) {
    CRAYON_TRY(space, match::fit_discriminant(rows, owner, std::min(count - 1, rows.cols),
                                              Embedding::size(1)));
  } else {
    space = match::space_around_mean(rows);
  }
  const std::size_t width = space.size(rows.cols);
  const std::vector<float> places = space.place(rows);
  const std::vector<float> index =
      match::centroids({places.data(), samples.size(), width}, owner, count);
  info.base_model = set.info.base_model;
  info.base_hash = hash;
  info.embedding = Embedding::name();
  info.matcher = match::cosine_softmax::name();
  info.tau = match.tau;
  info.blend = "concat";
  info.centre = std::move(space.centre);
  info.projection = std::move(space.projection);
  return adapter::pool<float>::build(adapter::padded(set.adapters), {index.data(), count, width},
                                     std::move(info));
}

}  // namespace crayon::train
