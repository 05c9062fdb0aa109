// SPDX-License-Identifier: MIT
// Llama models as transformers saves them: a directory with config.json and safetensors files.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <crayon/core/result.hpp>
#include <crayon/io/directory.hpp>
#include <crayon/io/hf_config.hpp>
#include <crayon/io/hf_shards.hpp>
#include <crayon/io/safetensors_write.hpp>
#include <crayon/model/llama_weights.hpp>

namespace crayon::model {

namespace detail {

/// visit(ours, theirs): the same setting under the two names.
template <class Ours, class Theirs, class Visit>
constexpr void for_each_setting(Ours& ours, Theirs& theirs, const Visit& visit) {
  visit(ours.dim, theirs.hidden_size);
  visit(ours.hidden, theirs.intermediate_size);
  visit(ours.layers, theirs.num_hidden_layers);
  visit(ours.heads, theirs.num_attention_heads);
  visit(ours.kv_heads, theirs.num_key_value_heads);
  visit(ours.head_dim, theirs.head_dim);
  visit(ours.vocab, theirs.vocab_size);
  visit(ours.context, theirs.max_position_embeddings);
  visit(ours.rope_theta, theirs.rope_theta);
  visit(ours.norm_epsilon, theirs.rms_norm_eps);
  visit(ours.tied, theirs.tie_word_embeddings);
  visit(ours.scaling.factor, theirs.rope_factor);
  visit(ours.scaling.low, theirs.rope_low_freq_factor);
  visit(ours.scaling.high, theirs.rope_high_freq_factor);
  visit(ours.scaling.original_context, theirs.rope_original_context);
}

}  // namespace detail

/// Reads config.json and model.safetensors (or the shards of model.safetensors.index.json), F32,
/// BF16 or F16. Errors: a missing or malformed file, another architecture or a variant of it that
/// would compute something else, a tensor that is missing, unknown, of another shape or not finite.
template <element E>
[[nodiscard]] result<llama_weights<E>> read_hf_llama(const std::string& directory) {
  CRAYON_TRY(const io::hf_llama_config c, io::hf_config_reader::read(directory + "/config.json"));
  llama_config config;
  detail::for_each_setting(config, c, [](auto& to, const auto& from) { to = from; });
  CRAYON_TRY(const io::hf_shards files, io::hf_shards::open(directory));
  // Shapes are checked against the files before memory of the configuration's size is taken.
  const std::vector<weight_shape> shapes = llama_weight_shapes(config);
  for (const weight_shape& s : shapes) CRAYON_CHECK(files.check(s.name, s.rows, s.cols, s.norm));
  for (const std::string_view name : files.names()) {
    const bool known = std::any_of(shapes.begin(), shapes.end(),
                                   [&](const weight_shape& s) { return s.name == name; }) ||
                       (config.tied && name == "lm_head.weight") ||
                       name.ends_with(".rotary_emb.inv_freq");
    if (!known) {
      return error{errc::mismatch, directory + ": tensor " + std::string(name) +
                                       " is no weight of a Llama model of " +
                                       std::to_string(config.layers) + " layers"};
    }
  }
  const auto names = files.names();
  if (config.tied && std::find(names.begin(), names.end(), "lm_head.weight") != names.end() &&
      !files.same("lm_head.weight", "model.embed_tokens.weight")) {
    return error{errc::mismatch, directory + ": tensor lm_head.weight differs from "
                                             "model.embed_tokens.weight, config.json says "
                                             "tie_word_embeddings is true"};
  }
  llama_weights<E> weights(config);
  for (const weight_shape& s : shapes) {
    if (s.norm) {
      CRAYON_CHECK(files.read(
          s.name, matrix_view<float>(weights.norms().data() + s.offset, s.rows, s.cols)));
    } else {
      CRAYON_CHECK(
          files.read(s.name, matrix_view<E>(weights.matrices().data() + s.offset, s.rows, s.cols)));
    }
  }
  return weights;
}

/// Writes a directory that transformers loads; it appears as a whole. Matrices are stored as
/// `Stored` (void: as they are), norms as F32.
template <class Stored = void, element E>
  requires std::same_as<Stored, void> || element<Stored>
[[nodiscard]] result<void> write_hf_llama(const std::string& directory,
                                          const llama_weights<E>& weights) {
  using S = std::conditional_t<std::same_as<Stored, void>, E, Stored>;
  io::hf_llama_config config;
  detail::for_each_setting(weights.config(), config, [](const auto& from, auto& to) { to = from; });
  aligned_vector<S> stored;
  if constexpr (!std::same_as<S, E>) {
    stored.reserve(weights.matrices().size());
    for (const E value : weights.matrices()) stored.push_back(from_float<S>(to_float(value)));
  }
  const S* matrices = [&] {
    if constexpr (std::same_as<S, E>) {
      return weights.matrices().data();
    } else {
      return std::as_const(stored).data();
    }
  }();
  std::vector<io::tensor> tensors;
  for (const weight_shape& s : weights.shapes()) {
    if (s.norm) {
      tensors.push_back(io::tensor_of(
          s.name, matrix_view<const float>(weights.norms().data() + s.offset, 1, s.cols)));
      tensors.back().shape = {s.cols};
    } else {
      tensors.push_back(
          io::tensor_of(s.name, matrix_view<const S>(matrices + s.offset, s.rows, s.cols)));
    }
  }
  constexpr std::string_view dtype = std::same_as<S, float>  ? "float32"
                                     : std::same_as<S, bf16> ? "bfloat16"
                                                             : "float16";
  CRAYON_TRY(io::directory_writer out, io::directory_writer::create(directory));
  CRAYON_CHECK(io::write_safetensors(out.stage("model.safetensors"), std::move(tensors),
                                     {{"format", "pt"}}));
  CRAYON_CHECK(io::write_text(out.stage("config.json"), io::hf_config_text(config, dtype)));
  return out.commit();
}

}  // namespace crayon::model
