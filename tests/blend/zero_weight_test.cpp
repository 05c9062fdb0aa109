// SPDX-License-Identifier: MIT
// An adapter of weight zero costs nothing: its bytes are not read.
#include <crayon/blend/peft_linear.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <vector>

#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/peft_sparse.hpp>
#include <crayon/blend/recompress.hpp>
#include <crayon/blend/ties.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/simd/highway_static.hpp>

#include "laws.hpp"

using namespace crayon;
using namespace crayon_test;

namespace {

/// Whole pages of one adapter's tiles, which a read would make the program crash at.
class forbidden_pages {
 public:
  forbidden_pages(adapter::interleaved_view<float> view, std::size_t slot) {
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    for (std::size_t t = 0; t < view.tiles(); ++t) {
      const auto from = reinterpret_cast<std::uintptr_t>(view.at(t, slot));
      const auto first = (from + page - 1) / page * page;
      const auto last = (from + view.tile * sizeof(float)) / page * page;
      REQUIRE(first < last);
      ranges_.push_back({reinterpret_cast<void*>(first), last - first});
      REQUIRE(::mprotect(ranges_.back().first, ranges_.back().bytes, PROT_NONE) == 0);
    }
  }
  forbidden_pages(const forbidden_pages&) = delete;
  forbidden_pages& operator=(const forbidden_pages&) = delete;
  ~forbidden_pages() {
    for (const auto& r : ranges_) ::mprotect(r.first, r.bytes, PROT_READ | PROT_WRITE);
  }

 private:
  struct range {
    void* first;
    std::size_t bytes;
  };
  std::vector<range> ranges_;
};

}  // namespace

TEST_CASE("a pool's adapter of weight zero may lie in memory that cannot be read") {
  rng random(67);
  const std::vector<adapter::site_shape> shapes{{"q", 3000, 2000, 4, 0.5F}};
  std::vector<lora_adapter<float>> adapters;
  for (int k = 0; k < 3; ++k) adapters.push_back(random_adapter<float>(shapes, random));
  auto p = *pool<float>::build(adapters, {}, {}, 4096);
  const std::vector<weighted_slot> weights{{0, 0.5F}, {1, 0.0F}, {2, 0.5F}};
  const auto blend_all = [&] {
    return std::vector{*blend::linear<>::blend(p, weights),
                       *blend::linear<simd::highway_static>::blend(p, weights),
                       *blend::peft_linear<simd::highway_static>::blend(p, weights),
                       *blend::peft_ties::blend(p, weights),
                       *blend::concat::blend(p, weights),
                       *blend::ties<>::blend(p, weights)};
  };
  const auto before = blend_all();
  const auto of_forbidden = [&] {
    const forbidden_pages a(p.a(0), 1), b(p.b(0), 1);
    return blend_all();
  }();
  for (std::size_t k = 0; k < before.size(); ++k) CHECK(same(before[k], of_forbidden[k]));
}

TEST_CASE("a pool's adapters that all have weight zero blend to zeros") {
  rng random(68);
  const std::vector<adapter::site_shape> shapes{{"q", 70, 50, 8, 0.5F}};
  const std::vector<lora_adapter<float>> adapters{random_adapter<float>(shapes, random),
                                                  random_adapter<float>(shapes, random)};
  const auto p = *pool<float>::build(adapters, {}, {});
  const std::vector<weighted_slot> none{{0, 0.0F}, {1, -0.0F}};
  thread_pool threads(2);
  for (const auto& blended :
       {blend::linear<>::blend(p, none, threads), blend::concat::blend(p, none, threads),
        blend::peft_linear<>::blend(p, none, threads), blend::peft_ties::blend(p, none),
        blend::recompress<>::blend(p, none), blend::ties<>::blend(p, none)}) {
    REQUIRE(blended);
    CHECK(norm(delta(blended->factors(0))) == 0);
  }
}
