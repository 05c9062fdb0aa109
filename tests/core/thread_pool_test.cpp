// SPDX-License-Identifier: MIT
#include <crayon/core/thread_pool.hpp>

#include <atomic>
#include <chrono>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <crayon/concepts.hpp>

#include "../catch.hpp"

static_assert(crayon::executor<crayon::thread_pool>);

TEST_CASE("every task runs once, however many threads and tasks there are") {
  for (const std::size_t threads : {1U, 2U, 3U, 8U}) {
    crayon::thread_pool pool(threads);
    CHECK(pool.concurrency() == threads);
    for (const std::size_t count : {0U, 1U, 2U, 7U, 100U}) {
      for (int repeat = 0; repeat < 50; ++repeat) {
        std::vector<int> runs(count);  // a task that ran twice, or on two threads, would race
        pool.parallel_for(count, [&](std::size_t i) { ++runs[i]; });
        std::size_t wrong = 0;
        for (const int n : runs) wrong += n != 1;
        REQUIRE(wrong == 0);
      }
    }
  }
}

TEST_CASE("what the tasks wrote is visible when the region ends") {
  crayon::thread_pool pool(4);
  for (int repeat = 0; repeat < 500; ++repeat) {
    std::vector<std::unique_ptr<int>> made(16);
    pool.parallel_for(16, [&](std::size_t i) { made[i] = std::make_unique<int>(int(i)); });
    int sum = 0;
    for (const auto& m : made) sum += *m;
    REQUIRE(sum == 120);
  }
}

TEST_CASE("workers that have gone to sleep wake up") {
  using namespace std::chrono_literals;
  crayon::thread_pool pool(2);
  for (int repeat = 0; repeat < 5; ++repeat) {
    std::this_thread::sleep_for(5ms);
    std::atomic<int> arrived{0};
    // Each task waits for the other: this ends only if two threads take part.
    pool.parallel_for(2, [&](std::size_t) {
      ++arrived;
      while (arrived.load() < 2) std::this_thread::yield();
    });
    CHECK(arrived == 2);
  }
}

TEST_CASE("a region ends when the workers inside it are done") {
  using namespace std::chrono_literals;
  crayon::thread_pool pool(2);
  const auto caller = std::this_thread::get_id();
  for (int repeat = 0; repeat < 3; ++repeat) {
    std::atomic<bool> begun{false}, done{false};
    pool.parallel_for(2, [&](std::size_t) {
      if (std::this_thread::get_id() == caller) {
        while (!begun.load()) std::this_thread::yield();
      } else {
        begun = true;
        std::this_thread::sleep_for(10ms);
        done = true;
      }
    });
    CHECK(done.load());
  }
}

TEST_CASE("what a task throws comes out of the region, on whichever thread it ran") {
  for (const std::size_t threads : {1U, 2U, 4U}) {
    crayon::thread_pool pool(threads);
    for (std::size_t thrower = 0; thrower < 8; ++thrower) {
      std::atomic<std::size_t> ran{0};
      CHECK_THROWS_AS(pool.parallel_for(8,
                                        [&](std::size_t i) {
                                          ++ran;
                                          if (i == thrower) throw std::bad_alloc();
                                        }),
                      std::bad_alloc);
      CHECK(ran > thrower);  // tasks begin in order
      std::atomic<std::size_t> after{0};
      pool.parallel_for(100, [&](std::size_t) { ++after; });
      CHECK(after == 100);
    }
  }
}

TEST_CASE("of several exceptions one comes out, and none is left for the next region") {
  crayon::thread_pool pool(3);
  for (int repeat = 0; repeat < 200; ++repeat) {
    std::atomic<int> inside{0};
    try {
      pool.parallel_for(3, [&](std::size_t i) {
        ++inside;
        while (inside.load() < 3) std::this_thread::yield();  // all three are begun
        throw std::runtime_error("task " + std::to_string(i));
      });
      FAIL("nothing was thrown");
    } catch (const std::runtime_error& e) {
      CHECK(std::string(e.what()).starts_with("task "));
    }
    pool.parallel_for(3, [](std::size_t) {});
  }
}
