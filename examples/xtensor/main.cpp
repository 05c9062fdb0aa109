// SPDX-License-Identifier: MIT
#include <cstdio>
#include <vector>

#include <crayon/blend/linear.hpp>
#include <crayon/interop/xtensor.hpp>
#include <crayon/match/cosine_softmax.hpp>

int main() {
  using namespace crayon;
  // In: factors, index vectors and embedded samples as xtensor arrays.
  const xt::xtensor<float, 2> a0 = {{1, 0, 2}}, b0 = {{1}, {3}};  // (rank, in), (out, rank)
  const xt::xtensor<float, 2> a1 = {{0, 1, 1}}, b1 = {{2}, {-1}};
  const xt::xtensor<float, 2> index = {{1, 0}, {0, 1}}, samples = {{0.8F, 0.6F}};
  const auto adapter_of = [](const auto& a, const auto& b) {
    adapter::lora_adapter<float> made({{"model.layers.0.mlp.up_proj", 2, 3, 1}});
    interop::as_xtensor(made.a(0)) = a;
    interop::as_xtensor(made.b(0)) = b;
    return made;
  };
  const std::vector adapters = {adapter_of(a0, b0), adapter_of(a1, b1)};
  const auto pool = adapter::pool<float>::build(adapters, interop::as_matrix(index), {});
  if (!pool) return 1;
  const auto w = match::cosine_softmax{0.5F}.weights(pool->index(), interop::as_matrix(samples));
  auto made = blend::linear<>::blend(*pool, blend::slots_of(w));
  if (!made) return 1;

  // Out: the blend's own memory, to be read and written by any xtensor expression.
  auto b = interop::as_xtensor(made->b(0));
  const xt::xtensor<float, 2> expected = w[0] * b0 + w[1] * b1;
  std::printf("weights %.3f %.3f\n", double{w[0]}, double{w[1]});
  for (std::size_t i = 0; i < 2; ++i) {
    std::printf("b(%zu) %.3f, by hand %.3f\n", i, double{b(i, 0)}, double{expected(i, 0)});
  }
  b *= 2;
  std::printf("twice %.3f %.3f\n", double{made->b(0)(0, 0)}, double{made->b(0)(1, 0)});
}
