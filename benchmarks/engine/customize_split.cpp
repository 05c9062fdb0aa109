// SPDX-License-Identifier: MIT
// From 8 samples of 32 tokens to the adapter in use, on the shape of Llama-3.2-1B with random bf16
// weights (2.5 GB): where the time goes. crayon_customize_split [adapters] [threads] [rounds]
#include <crayon/engine/hot_swap.hpp>

#include <crayon/blend/by_site.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/engine/arrow.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/match/index_space.hpp>
#include <crayon/model/llama.hpp>
#include <crayon/simd/highway_dynamic.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "../blend/shapes.hpp"

using namespace crayon_benchmark;

namespace {

using backend = simd::highway_dynamic;
using live_type = engine::hot_swap<backend, bf16>;
using wall = std::chrono::steady_clock;

constexpr std::size_t samples = 8, tokens = 32, prompt_tokens = 20;

double ms(wall::time_point from, wall::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

model::llama_weights<bf16> random_model() {
  model::llama_config c;
  c.dim = llama_1b.dim;
  c.hidden = llama_1b.hidden;
  c.layers = llama_1b.layers;
  c.head_dim = 64;
  c.heads = llama_1b.dim / c.head_dim;
  c.kv_heads = llama_1b.kv / c.head_dim;
  c.vocab = 128256;
  c.context = 2048;
  model::llama_weights<bf16> weights(c);
  rng random(1);
  for (bf16& w : weights.matrices()) w = from_float<bf16>(0.04F * (random.uniform() - 0.5F));
  return weights;
}

struct split {
  std::vector<double> embedding, matching, blending, swap;

  void print(const char* name) {
    std::printf(
        "%-22s embedding %8.1f   matching %6.3f   blending %7.3f   swap %6.4f   all but the "
        "embedding %7.3f ms\n",
        name, median(embedding), median(matching), median(blending), median(swap),
        median(matching) + median(blending) + median(swap));
  }
};

/// Tokens of sample i.
std::vector<std::int32_t> sample_ids(std::size_t i) {
  std::vector<std::int32_t> ids(tokens);
  for (std::size_t t = 0; t < tokens; ++t) {
    ids[t] = static_cast<std::int32_t>((7919 * (i + 1) * (t + 1)) % 128000);
  }
  return ids;
}

/// `embed()`, then `blend(match(), idle)` fills the adapter that is not in use.
template <class Embed, class Match, class Blend>
void round(live_type& live, const Embed& embed, const Match& match, const Blend& blend,
           split& times) {
  const auto start = wall::now();
  embed();
  const auto embedded = wall::now();
  const auto weights = match();
  const auto matched = wall::now();
  auto blended = matched;
  const auto swapped = live.update([&](auto& idle) -> result<void> {
    const auto done = blend(weights, idle);
    blended = wall::now();
    return done;
  });
  const auto pinned = live.pin();
  const auto end = wall::now();
  if (!swapped) {
    std::fprintf(stderr, "%s\n", swapped.error().text.c_str());
    std::exit(1);
  }
  times.embedding.push_back(ms(start, embedded));
  times.matching.push_back(ms(embedded, matched));
  times.blending.push_back(ms(matched, blended));
  times.swap.push_back(ms(blended, end));
}

using slots_type = std::vector<weighted_slot>;

template <class Pooling>
void measure(const model::llama_weights<bf16>& weights, std::size_t adapters, thread_pool& threads,
             std::size_t rounds) {
  model::llama_session<backend, bf16> session(weights, 64);
  const auto pool = pool_of<bf16>(sites_of(llama_1b, 8), adapters);
  const auto live = *live_type::make(weights.config(), adapter::lora_adapter<bf16>(pool.shapes()));
  const std::size_t width = Pooling::size(llama_1b.dim);
  std::vector<float> index(adapters * width);
  rng random(2);
  for (float& x : index) x = random.normal();
  for (std::size_t k = 0; k < adapters; ++k) {
    match::normalise(std::span(index).subspan(k * width, width));
  }
  match::index_space space;
  space.centre.assign(width, 0.01F);
  const auto linear = [&](const slots_type& slots, auto& idle) {
    return blend::linear<backend>::blend_into(pool, slots, idle, threads);
  };
  // The exact blend: an adapter of the ranks' sum.
  const auto exact_live = *live_type::make(
      weights.config(), adapter::lora_adapter<bf16>(
                            blend::basic_concat<backend>::shapes(pool, weights_of(adapters))));
  const auto exact = [&](const slots_type& slots, auto& idle) {
    return blend::basic_concat<backend>::blend_into(pool, slots, idle, threads);
  };
  std::vector<float> rows(samples * width), places(samples * width);
  const auto embed = [&] {
    for (std::size_t i = 0; i < samples; ++i) {
      match::embed<Pooling>(session, sample_ids(i), prompt_tokens,
                            std::span(rows).subspan(i * width, width), model::no_delta{}, threads);
    }
  };
  const auto matched = [&] {
    for (std::size_t i = 0; i < samples; ++i) {
      space.place(std::span(rows).subspan(i * width, width),
                  std::span(places).subspan(i * width, width));
    }
    return blend::slots_of(match::cosine_softmax{}.weights({index.data(), adapters, width},
                                                           {places.data(), samples, width}));
  };
  split times, exact_times;
  for (std::size_t i = 0; i < rounds; ++i) {
    round(*live, embed, matched, linear, times);
    round(*exact_live, embed, matched, exact, exact_times);
  }
  const std::string name(Pooling::name());
  times.print((name + ", linear").c_str());
  exact_times.print((name + ", concat").c_str());
}

/// Arrow instead of an index: each site has weights of its own.
void measure_arrow(const model::llama_weights<bf16>& weights, std::size_t adapters,
                   thread_pool& threads, std::size_t rounds) {
  model::llama_session<backend, bf16> session(weights, 64);
  const auto pool = pool_of<bf16>(sites_of(llama_1b, 8), adapters);
  const auto start = wall::now();
  const auto prototypes = *match::arrow_prototypes::of(pool);
  const auto where = *engine::sites_of(weights.config(), prototypes);
  std::printf("%-22s prototypes from the factors, once per pool: %.0f ms\n", "arrow",
              ms(start, wall::now()));
  const std::size_t width = prototypes.sites() * adapters;
  std::vector<float> places(samples * width);
  const auto embed = [&] {
    for (std::size_t i = 0; i < samples; ++i) {
      engine::place_by_site(session, prototypes, match::arrow{}, where, sample_ids(i),
                            prompt_tokens, std::span(places).subspan(i * width, width), {},
                            threads);
    }
  };
  const auto matched = [&] {
    return engine::site_weights_of({places.data(), samples, width}, prototypes.sites());
  };
  const auto blend_by = [&]<class Policy>(Policy, std::vector<adapter::site_shape> shapes,
                                          const char* name) {
    const auto live =
        *live_type::make(weights.config(), adapter::lora_adapter<bf16>(std::move(shapes)));
    split times;
    for (std::size_t i = 0; i < rounds; ++i) {
      round(
          *live, embed, matched,
          [&](const std::vector<float>& w, auto& idle) {
            return blend::by_site_into<Policy>(pool, {w.data(), prototypes.sites(), adapters}, idle,
                                               0, threads);
          },
          times);
    }
    times.print(name);
  };
  blend_by(blend::linear<backend>{}, pool.shapes(), "arrow, linear");
  blend_by(blend::basic_concat<backend>{},
           blend::basic_concat<backend>::shapes(pool, weights_of(adapters)), "arrow, concat");
}

}  // namespace

int main(int argc, char** argv) {
  const auto number = [&](int i, long fallback) {
    return static_cast<std::size_t>(argc > i ? std::atol(argv[i]) : fallback);
  };
  const std::size_t adapters = number(1, 8), rounds = number(3, 5);
  thread_pool threads(number(2, 2));
  std::printf(
      "Llama-3.2-1B shape, bf16; 8 samples of 32 tokens; %zu adapters of rank 8; "
      "%zu threads, %s, medians of %zu\n",
      adapters, threads.concurrency(), std::string(backend::name()).c_str(), rounds);
  const auto weights = random_model();
  measure<match::mean_pooling>(weights, adapters, threads, rounds);
  measure<match::error_pooling>(weights, adapters, threads, rounds);
  measure_arrow(weights, adapters, threads, rounds);
}
