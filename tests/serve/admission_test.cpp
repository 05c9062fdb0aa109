// SPDX-License-Identifier: MIT
#include <crayon/serve/admission.hpp>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "../catch.hpp"

namespace {

using namespace std::chrono_literals;
using crayon::serve::admission;
using crayon::serve::refusal;

}  // namespace

TEST_CASE("slots are given once, to those who wait in their order, and refused when full",
          "[serve]") {
  admission places(2, 3);
  refusal why{};
  auto one = places.enter(0ms, why);
  auto two = places.enter(0ms, why);
  REQUIRE(one);
  REQUIRE(two);
  CHECK(one->slot() != two->slot());
  CHECK(places.working() == 2);
  CHECK_FALSE(places.enter(1ms, why));
  CHECK(why == refusal::late);
  CHECK(places.waiting() == 0);

  std::vector<std::thread> threads;
  std::atomic<int> next{0};
  int order[3] = {-1, -1, -1};
  for (std::size_t i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      refusal mine{};
      const auto place = places.enter(10s, mine);
      if (place) order[i] = next++;
    });
    while (places.waiting() != i + 1) std::this_thread::yield();
  }
  CHECK_FALSE(places.enter(10s, why));
  CHECK(why == refusal::full);
  { const auto released = std::move(*two); }
  for (auto& t : threads) t.join();
  CHECK(order[0] == 0);
  CHECK(order[1] == 1);
  CHECK(order[2] == 2);
  CHECK(places.waiting() == 0);
  CHECK(places.working() == 1);
}

TEST_CASE("closing sends away who waits, and waits for who works", "[serve]") {
  admission places(1, 3);
  refusal why{};
  std::atomic<bool> refused{false};
  auto held = places.enter(0ms, why);
  REQUIRE(held);
  std::thread waiting([&] {
    refusal mine{};
    refused = !places.enter(10s, mine) && mine == refusal::closing;
  });
  while (places.waiting() != 1) std::this_thread::yield();
  CHECK_FALSE(places.close(10ms));
  waiting.join();
  CHECK(refused);
  CHECK_FALSE(places.enter(0ms, why));
  CHECK(why == refusal::closing);
  std::thread finishing([&] {
    std::this_thread::sleep_for(20ms);
    const auto released = std::move(*held);
  });
  CHECK(places.close(10s));
  finishing.join();
}

TEST_CASE("many threads, few slots: never two in one", "[serve]") {
  admission places(3, 100);
  std::atomic<int> inside[3] = {};
  std::atomic<int> done{0}, wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 12; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        refusal why{};
        const auto place = places.enter(20s, why);
        if (!place) continue;
        if (++inside[place->slot()] != 1) ++wrong;
        std::this_thread::yield();
        --inside[place->slot()];
        ++done;
      }
    });
  }
  for (auto& t : threads) t.join();
  CHECK(done == 2400);
  CHECK(wrong == 0);
}
