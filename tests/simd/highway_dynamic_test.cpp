// SPDX-License-Identifier: MIT
#include <crayon/simd/highway_dynamic.hpp>

#include <string>

#include "kernel_checks.hpp"

using namespace crayon;
using simd::highway_dynamic;

namespace {

/// Runs `check` on every target that this CPU has, and goes back to the best one.
template <class Check>
void on_every_target(Check check) {
  for (const auto target : highway_dynamic::targets()) {
    REQUIRE(highway_dynamic::use_target(target));
    REQUIRE(highway_dynamic::name() == "highway_dynamic/" + std::string(target));
    check();
  }
  REQUIRE(highway_dynamic::use_target(highway_dynamic::targets().front()));
}

}  // namespace

TEMPLATE_TEST_CASE("dispatched kernels of one element type, every target", "", float, bf16, f16) {
  on_every_target([] { test::check_element_kernels<highway_dynamic, TestType>(); });
}

TEST_CASE("dispatched kernels of f32, every target") {
  on_every_target([] { test::check_float_kernels<highway_dynamic>(); });
}

TEST_CASE("the best target comes first and is the one in use") {
  REQUIRE_FALSE(highway_dynamic::targets().empty());
  const std::string best(highway_dynamic::targets().front());
  REQUIRE(highway_dynamic::name() == "highway_dynamic/" + best);
}

TEST_CASE("an unknown target is refused and changes nothing") {
  const auto before = highway_dynamic::name();
  REQUIRE_FALSE(highway_dynamic::use_target("AVX3000"));
  REQUIRE_FALSE(highway_dynamic::use_target(""));
  REQUIRE(highway_dynamic::name() == before);
}

#if defined(__x86_64__)
TEST_CASE("a program for baseline x86-64 runs AVX-512 or AVX2 where the CPU has it") {
#if defined(__AVX__)
  WARN("this test was compiled with -mavx or more: it shows nothing");
#endif
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd") &&
                      __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const std::string best(highway_dynamic::name());
  CAPTURE(best);
  if (avx512) {
    REQUIRE(best.rfind("highway_dynamic/AVX3", 0) == 0);
  } else if (avx2) {
    REQUIRE(best == "highway_dynamic/AVX2");
  }
}
#endif
