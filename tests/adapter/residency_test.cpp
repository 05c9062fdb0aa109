// SPDX-License-Identifier: MIT
#include <crayon/adapter/residency.hpp>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/mapped_pool.hpp>
#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/core/thread_pool.hpp>

#include "../catch.hpp"
#include "../io/scratch.hpp"
#include "random_pool.hpp"

using namespace crayon;
using namespace crayon_test;
using adapter::keep_all;
using adapter::lora_adapter;
using adapter::lru;
using adapter::mapped_pool;
using adapter::pinned;
using adapter::pool;
using adapter::verification;

namespace {

using site_list = std::vector<std::size_t>;

template <class R>
site_list gone_after(R& policy, std::size_t site) {
  site_list gone;
  policy.use(site, [&](std::size_t other) { gone.push_back(other); });
  return gone;
}

/// Bytes of this process's memory that hold pages of the file; nothing where /proc has no smaps.
std::size_t resident(const std::string& path) {
  std::ifstream maps("/proc/self/smaps");
  std::size_t bytes = 0;
  bool of_file = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') != std::string::npos && line.find(" r") != std::string::npos) {
      of_file = line.ends_with(path);
    } else if (of_file && line.rfind("Rss:", 0) == 0) {
      bytes += 1024 * std::stoul(line.substr(4));
    }
  }
  return bytes;
}

/// 12 sites of 504 KB in a file: 6 adapters with A of 32 KB and B of 52 KB each.
struct large_file {
  scratch dir;
  std::string path = dir / "large.safetensors";
  pool<bf16> written;
  std::size_t site = 0;  ///< bytes of one

  large_file() {
    rng random(71);
    std::vector<adapter::site_shape> shapes;
    for (int i = 0; i < 12; ++i) {
      shapes.push_back({"layers." + std::to_string(i) + ".q", 3328, 2048, 8, 1.0F});
    }
    std::vector<lora_adapter<bf16>> adapters;
    for (int k = 0; k < 6; ++k) {
      adapters.emplace_back(shapes);
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        for (const auto m : {adapters.back().a(i), adapters.back().b(i)}) {
          for (std::size_t j = 0; j < m.size(); ++j) {
            m.data[j] = from_float<bf16>(static_cast<float>(random.below(256)) / 128 - 1);
          }
        }
      }
    }
    written = pool_of(adapters, 256);
    REQUIRE(adapter::save_pool(path, written));
    site = written.bytes() / shapes.size();
    REQUIRE(site == 516096);
  }
};

/// Keeps all, and a note of the sites that were used, one after the other.
struct noted : keep_all {
  void use(std::size_t site, function_ref<void(std::size_t)>) noexcept {
    if (used.empty() || used.back() != site) used.push_back(site);
  }
  site_list used;
};
static_assert(residency_policy<noted>);

const std::vector<weighted_slot> some_weights{{0, 0.5F}, {2, 0.25F}, {5, 0.25F}};

}  // namespace

TEST_CASE("the least recently used sites leave first, as many as the budget needs") {
  const site_list bytes{10, 20, 30, 5};
  lru policy(50);
  REQUIRE(policy.start(bytes, [](std::size_t) { return result<void>(); }));
  CHECK(gone_after(policy, 0).empty());
  CHECK(gone_after(policy, 1).empty());
  CHECK(gone_after(policy, 0).empty());
  CHECK(gone_after(policy, 2) == site_list{1});
  CHECK(gone_after(policy, 3).empty());
  CHECK(gone_after(policy, 1) == site_list{0, 2});
  CHECK(gone_after(policy, 3).empty());
}

TEST_CASE("the first sites that fit are pinned, the others pass through one at a time") {
  const site_list bytes{10, 20, 30, 5, 25};
  pinned policy(60);
  site_list kept;
  REQUIRE(policy.start(bytes, [&](std::size_t site) {
    kept.push_back(site);
    return result<void>();
  }));
  CHECK(kept ==
        site_list{0, 1});  // beside them the 30 of site 2 fit, beside site 2 too nothing would
  CHECK(policy.sites() == 2);
  for (int round = 0; round < 2; ++round) {
    CHECK(gone_after(policy, 0).empty());
    CHECK(gone_after(policy, 1).empty());
    CHECK(gone_after(policy, 2) == (round == 0 ? site_list{} : site_list{4}));
    CHECK(gone_after(policy, 2).empty());
    CHECK(gone_after(policy, 3) == site_list{2});
    CHECK(gone_after(policy, 4) == site_list{3});
  }
  pinned whole(90);
  REQUIRE(whole.start(bytes, [](std::size_t) { return result<void>(); }));
  CHECK(whole.sites() == 5);
  pinned locked_out(90);
  CHECK(locked_out.start(bytes,
                         [](std::size_t) {
                           return error{errc::io_failed, "no"};
                         })
            .error()
            .text == "no");
}

TEST_CASE("a budget that no site of that size fits into is refused") {
  const large_file f;
  const auto small = mapped_pool<bf16, lru>::open(f.path, verification::by_caller, lru(1000));
  REQUIRE(!small);
  CHECK(small.error().text == f.path + ": a budget of 1000 bytes, but site 0 alone has 516096");
  CHECK(!mapped_pool<bf16, pinned>::open(f.path, verification::by_caller, pinned(1000)));
}

TEST_CASE("linear and concat use the sites that they read, one after the other") {
  const large_file f;
  site_list in_order;
  for (std::size_t i = 0; i < f.written.sites(); ++i) in_order.push_back(i);
  const auto used_by = [&](auto policy) {
    const auto mapped = mapped_pool<bf16, noted>::open(f.path, verification::by_caller);
    REQUIRE(mapped);
    REQUIRE(decltype(policy)::blend(*mapped, some_weights));
    return mapped->residency().used;
  };
  CHECK(used_by(blend::linear<>{}) == in_order);
  CHECK(used_by(blend::concat{}) == in_order);
}

TEST_CASE("a pool larger than the budget blends the same bits within it") {
  const large_file f;
  const auto want = *blend::linear<>::blend(f.written, some_weights);
  // The kernel maps up to 64 KB around a page that is read.
  const std::size_t slack = 2 * 65536 + 65536, whole = f.written.bytes();

  const auto blend = [&](auto residency) {
    using policy = decltype(residency);
    const auto mapped =
        mapped_pool<bf16, policy>::open(f.path, verification::by_caller, std::move(residency));
    if (!mapped) INFO(mapped.error().text);
    REQUIRE(mapped);
    for (int repeat = 0; repeat < 3; ++repeat) {
      CHECK(same(*blend::linear<>::blend(*mapped, some_weights), want));
    }
    thread_pool threads(2);
    CHECK(same(*blend::linear<>::blend(*mapped, some_weights, threads), want));
    CHECK(same(mapped->extract(3), f.written.extract(3)));
    return resident(f.path);
  };
  const std::size_t all = blend(keep_all{});
  if (all == 0) {
    WARN("resident memory is not measured: no /proc/self/smaps");
  } else {
    CHECK(all > whole * 9 / 10);
  }
  // Two threads may be at two sites, and what one of them still reads comes back.
  CHECK(blend(lru(3 * f.site)) <= 5 * f.site + slack);
  CHECK(blend(pinned(4 * f.site)) <= 6 * f.site + slack);
}
