// SPDX-License-Identifier: MIT
#include <crayon/model/saved_weights.hpp>

#include <cstring>

#include "fixture.hpp"

using namespace crayon;
using adapter::saved_tensor;

namespace {

saved_tensor saved(const std::string& name, std::vector<std::size_t> shape,
                   std::span<const float> values) {
  saved_tensor t{name, "F32", std::move(shape), std::vector<std::byte>(values.size_bytes())};
  std::memcpy(t.bytes.data(), values.data(), values.size_bytes());
  return t;
}

}  // namespace

TEST_CASE("an adapter's whole weights must be those of the model", "[model]") {
  const auto weights = random_weights<float>(small_config());
  const auto& c = weights.config();
  const std::span<const float> embedding = weights.matrices().first(c.vocab * c.dim);
  const auto text = [&](const saved_tensor& t) {
    const auto checked = model::check_saved(weights, "ad", std::vector{t});
    return checked ? "" : checked.error().text;
  };
  const std::string key = "model.embed_tokens.base_layer.weight";
  CHECK(text(saved(key, {c.vocab, c.dim}, embedding)).empty());
  CHECK(text(saved("model.norm.weight", {c.dim}, {weights.final_norm(), c.dim})).empty());

  std::vector<float> other(embedding.begin(), embedding.end());
  other[7] += 1;
  CHECK(text(saved(key, {c.vocab, c.dim}, other)) ==
        "ad: saved module model.embed_tokens.base_layer.weight F32 [50, 32] has other values than "
        "the model's weight, which would run in its place");
  CHECK(text(saved("score.weight", {1, 2}, std::span(other).first(2))) ==
        "ad: saved module score.weight F32 [1, 2] is no weight of this model, which would run "
        "without it");
  CHECK(text(saved("lm_head.weight", {c.vocab - 1, c.dim},
                   std::span(other).first((c.vocab - 1) * c.dim))) ==
        "ad: tensor lm_head.weight has shape [49, 32], needs [50, 32]");
}

TEST_CASE("a tied head is the embedding, also when an adapter's file has it", "[model]") {
  auto c = small_config();
  c.tied = true;
  const auto weights = random_weights<float>(c);
  const auto head = saved("lm_head.base_layer.weight", {c.vocab, c.dim},
                          weights.matrices().first(c.vocab * c.dim));
  CHECK(model::check_saved(weights, "ad", std::vector{head}));
}
