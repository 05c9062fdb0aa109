// SPDX-License-Identifier: MIT
#include <crayon/engine/hot_swap.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/engine/device_engine.hpp>
#include <crayon/model/llama.hpp>
#include <crayon/simd/highway_dynamic.hpp>

#include "../catch.hpp"
#include "../model/allocations.hpp"
#include "tiny.hpp"

using namespace crayon;

namespace {

using swap_backend = simd::highway_dynamic;
using swap_type = engine::hot_swap<swap_backend, float>;
using swap_session = model::llama_session<swap_backend, float>;

const std::vector<std::int32_t> swap_prompt{1, 65, 66, 67, 68, 69, 70, 71, 72};

/// A model, a pool, and what the model says with each of some blends of it.
struct swap_story {
  static constexpr std::size_t blends = 5;

  model::llama_weights<float> weights = test::tiny_weights(7);
  adapter::pool<float> pool = test::tiny_pool(weights);
  std::vector<std::vector<float>> logits;

  static std::array<weighted_slot, 3> mix(std::uint64_t version) {
    const auto k = static_cast<float>(version % blends);
    return {{{0, 0.1F * k}, {1, 1 - 0.15F * k}, {2, 0.05F * k + 0.01F}}};
  }
  auto blend(std::uint64_t version) const {
    return [this, version](adapter::lora_adapter<float>& idle) {
      return blend::linear<swap_backend>::blend_into(pool, mix(version), idle);
    };
  }
  adapter::lora_adapter<float> blended(std::uint64_t version) const {
    return *blend::linear<swap_backend>::blend(pool, mix(version));
  }
  std::shared_ptr<swap_type> live() const { return *swap_type::make(weights.config(), blended(0)); }

  swap_story() {
    for (std::size_t k = 0; k < blends; ++k) {
      const auto made = blended(k);
      const auto delta = model::lora_delta<swap_backend, float>::bind(weights.config(), made);
      swap_session s(weights);
      const auto out = s.prefill(swap_prompt, *delta);
      logits.emplace_back(out.begin(), out.end());
    }
    REQUIRE(logits[0] != logits[1]);
  }

  bool says(swap_session& s, const swap_type::pinned& now) const {
    s.reset();
    const auto out = s.prefill(swap_prompt, *now);
    return std::vector<float>(out.begin(), out.end()) == logits[now.version() % blends];
  }
};

}  // namespace

TEST_CASE("a decode sees the old adapter or the new one, never a mix", "[engine]") {
  const swap_story story;
  const auto live = story.live();
  constexpr std::size_t readers = 2;
  std::atomic<bool> stop{false};
  std::array<std::atomic<std::size_t>, readers> versions{};
  std::atomic<std::size_t> wrong{0}, backwards{0};
  std::vector<std::thread> threads;
  for (std::size_t r = 0; r < readers; ++r) {
    threads.emplace_back([&, r] {
      swap_session s(story.weights);
      std::uint64_t last = 0;
      for (bool first = true; !stop; first = false) {
        const auto now = live->pin();
        backwards += now.version() < last;
        versions[r] += first || now.version() != last;
        last = now.version();
        wrong += !story.says(s, now);
      }
    });
  }
  std::uint64_t version = 0;
  const auto seen = [&](std::size_t r) { return versions[r].load(); };
  while (version < 200 || ((seen(0) < 20 || seen(1) < 20) && version < 200'000)) {
    ++version;
    if (!live->update(story.blend(version))) ++wrong;
    std::this_thread::yield();
  }
  stop = true;
  for (auto& t : threads) t.join();
  CHECK(wrong == 0);
  CHECK(backwards == 0);
  CHECK(seen(0) >= 20);  // swaps happened under both
  CHECK(seen(1) >= 20);
  CHECK(live->version() == version);
}

TEST_CASE("no update touches an adapter that is pinned", "[engine]") {
  // As little as possible between the steps of pinning and of updating, so that they meet often.
  const auto config = test::tiny_weights(7).config();
  const auto live = *swap_type::make(
      config, adapter::lora_adapter<float>({{model::llama_config::module(0), 16, 16, 1, 1.0F}}));
  std::atomic<bool> stop{false};
  std::atomic<std::size_t> torn{0};
  std::thread reader([&] {
    std::size_t found = 0;
    while (!stop) {
      for (int i = 0; i < 1000; ++i) {
        const auto now = live->pin();
        const auto a = now.adapter().factors(0).a;
        for (std::size_t j = 0; j < a.size(); ++j) {
          found += a.data[j] != static_cast<float>(now.version() % 1024);
        }
      }
    }
    torn = found;
  });
  for (std::uint64_t version = 1; version <= 100'000; ++version) {
    const auto done = live->update([&](auto& idle) -> result<void> {
      const auto a = idle.a(0);
      for (std::size_t j = 0; j < a.size(); ++j) a.data[j] = static_cast<float>(version % 1024);
      return {};
    });
    if (!done) ++torn;
  }
  stop = true;
  reader.join();
  CHECK(torn == 0);
}

TEST_CASE("swapping and pinning allocate nothing after the first time", "[engine]") {
  const swap_story story;
  const auto live = story.live();
  swap_session s(story.weights);
  std::size_t wrong = 0;
  const auto swap = [&](std::uint64_t version) {
    if (!live->update(story.blend(version))) ++wrong;
    const auto now = live->pin();
    s.reset();
    wrong += s.prefill(swap_prompt, *now)[0] != story.logits[version % swap_story::blends][0];
  };
  swap(1);
  const std::size_t before = allocations();
  for (std::uint64_t version = 2; version < 12; ++version) swap(version);
  const std::size_t after = allocations();
  CHECK(after == before);
  CHECK(before > 0);
  CHECK(wrong == 0);
}

TEST_CASE("a pin keeps its adapter; an update waits for it, try_update refuses", "[engine]") {
  const swap_story story;
  const auto live = story.live();
  swap_session s(story.weights);
  auto held = live->pin();
  REQUIRE(live->update(story.blend(1)));  // the other buffer is free
  CHECK(held.version() == 0);
  CHECK(story.says(s, held));
  CHECK(live->pin().version() == 1);
  const auto refused = live->try_update(story.blend(2));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == errc::timed_out);
  CHECK(refused.error().text.find("1 readers") != std::string::npos);

  std::atomic<bool> updated{false};
  std::thread writer([&] { updated = bool(live->update(story.blend(2))); });
  CHECK(story.says(s, held));  // untouched while the writer waits
  CHECK_FALSE(updated);
  auto moved = std::move(held);
  CHECK_FALSE(held);  // NOLINT: a moved-from pin holds nothing
  CHECK(moved.version() == 0);
  moved = {};
  writer.join();
  CHECK(updated);
  CHECK(live->version() == 2);
  CHECK(story.says(s, live->pin()));
  CHECK(live->try_update(story.blend(3)));
}

TEST_CASE("what cannot be used leaves the adapter in use", "[engine]") {
  const swap_story story;
  const auto live = story.live();
  swap_session s(story.weights);
  const auto failed = live->update([](auto&) -> result<void> {
    return error{errc::bad_value, "no"};
  });
  REQUIRE_FALSE(failed);
  CHECK(failed.error().text == "no");
  const auto foreign = live->update([](auto& idle) -> result<void> {
    idle = adapter::lora_adapter<float>({{"elsewhere", 4, 4, 1, 1.0F}});
    return {};
  });
  REQUIRE_FALSE(foreign);
  CHECK(foreign.error().text.find("elsewhere") != std::string::npos);
  CHECK(live->version() == 0);
  CHECK(story.says(s, live->pin()));
  // The idle buffer is not what it was: an adapter of any shapes may be put there.
  REQUIRE(live->update([&](auto& idle) -> result<void> {
    CRAYON_TRY(idle, blend::concat::blend(story.pool, swap_story::mix(1)));
    return {};
  }));
  const auto exact = live->pin();
  CHECK(exact.version() == 1);
  CHECK(exact.adapter().shape(0).rank == 6);
  const auto same =
      model::lora_delta<swap_backend, float>::bind(story.weights.config(), exact.adapter());
  REQUIRE(same);
  const auto of = [&](const auto& delta) {
    s.reset();
    const auto out = s.prefill(swap_prompt, delta);
    return std::vector<float>(out.begin(), out.end());
  };
  CHECK(of(*exact) == of(*same));

  const auto made = swap_type::make(story.weights.config(),
                                    adapter::lora_adapter<float>({{"elsewhere", 4, 4, 1, 1.0F}}));
  CHECK_FALSE(made);
}

TEST_CASE("an engine that follows gives each answer with one adapter", "[engine]") {
  const swap_story story;
  auto engine =
      *engine::device_engine<test::tiny_config>::make(story.weights, tokenizer::byte_tokenizer{});
  const generation_options options{.max_tokens = 24};
  const auto answer_with = [&](std::uint64_t version) {
    REQUIRE(engine.use(story.blended(version)));
    return engine.answer("abc", options)->text;
  };
  const std::string base = engine.answer("abc", options)->text;
  const std::string first = answer_with(0), second = answer_with(4);
  REQUIRE(first != second);
  REQUIRE(first != base);

  using live_type = engine::device_engine<test::tiny_config>::live_type;
  const auto live = *live_type::make(story.weights.config(), story.blended(0));
  engine.follow(live);
  CHECK(engine.blended() == nullptr);
  auto other = engine.fork();
  bool updated = false;
  const auto swap = [&](std::string_view) {
    if (!updated) updated = bool(live->update(story.blend(4)));
    return true;
  };
  CHECK(engine.answer("abc", options, swap)->text == first);  // to its end
  CHECK(updated);
  CHECK(engine.answer("abc", options)->text == second);
  CHECK(other.answer("abc", options)->text == second);
  CHECK(live->try_update(story.blend(0)));  // no answer is under way: nothing is pinned
  CHECK(live->try_update(story.blend(0)));
  CHECK(engine.answer("abc", options)->text == first);
  engine.use_base();
  CHECK(engine.answer("abc", options)->text == base);
}
