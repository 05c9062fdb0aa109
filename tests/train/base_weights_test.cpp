// SPDX-License-Identifier: MIT
#include <crayon/train/base_weights.hpp>

#include <string>
#include <vector>

#include <crayon/core/executor.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/simd/scalar.hpp>
#include <crayon/train/gradient.hpp>

#include "oracle.hpp"

using namespace crayon;

namespace {

template <element E>
model::llama_weights<E> stored_as_element(const model::llama_weights<float>& from) {
  model::llama_weights<E> to(from.config());
  for (std::size_t i = 0; i < from.matrices().size(); ++i) {
    to.matrices()[i] = from_float<E>(from.matrices()[i]);
  }
  std::copy(from.norms().begin(), from.norms().end(), to.norms().begin());
  return to;
}

/// Gradients of adapter 0 through a frozen model that is stored as E, against PEFT's on a model
/// rounded to E.
template <class Backend, element E>
void check_frozen(bool tied, const std::string& prefix) {
  const oracle::fixture torch;
  const oracle::fixture expected("frozen.safetensors");
  const auto weights =
      stored_as_element<E>(torch.weights(tied, tied ? "tied.weight." : "untied.weight."));
  auto factors =
      train::lora_factors::from(weights.config(), std::vector{torch.adapter("adapter.0.")});
  REQUIRE(factors);
  const auto batch = torch.batch();
  const std::vector<float> ones(batch.sequences(), 1.0F);
  const auto want = expected.flat({expected.adapter(prefix)});
  serial_executor serial;
  train::batch_gradient<Backend> gradient(weights, &*factors, train::trainable::factors, {1, 12},
                                          1);
  const auto sum = gradient.compute(batch, {ones.data(), ones.size(), 1}, serial);
  INFO(prefix);
  CHECK(sum.loss / static_cast<double>(batch.loss_rows()) ==
        Approx(expected.number(prefix + "loss")).epsilon(1e-5));
  CHECK(oracle::relative_difference(gradient.factors(), want) < oracle::tolerance);
}

}  // namespace

TEMPLATE_TEST_CASE("gradients through frozen bf16 and f16 models agree with PEFT", "[train]",
                   simd::scalar, simd::highway_dynamic) {
  check_frozen<TestType, bf16>(false, "bf16.");
  check_frozen<TestType, f16>(true, "f16.");
}

TEST_CASE("a model of any element type is viewed, not copied", "[train]") {
  const oracle::fixture torch;
  const auto weights = stored_as_element<bf16>(torch.weights(false, "untied.weight."));
  const train::base_weights base = weights;
  CHECK(base.storage() == train::stored_as::bf16);
  CHECK(base.matrices_size() == weights.matrices().size());
  CHECK(base.head().data == weights.head().data);
  CHECK(base.linear(1, model::projection::up).data ==
        weights.linear(1, model::projection::up).data);
  CHECK(base.mlp_norm(1) == weights.mlp_norm(1));
  CHECK(base.final_norm() == weights.final_norm());
}
