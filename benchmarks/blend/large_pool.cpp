// SPDX-License-Identifier: MIT
// large_pool FILE ADAPTERS BUDGET_MB: blends from a pool file that does not have to fit into
// memory. The file, if it is not there, is made first, a row of tiles at a time: adapters of rank
// 16 on the shapes of Llama-2-7B, bf16, 80 MB each. Prints the time of a linear blend and the most
// memory that the process held while it blended; each policy of what stays in memory is measured in
// a process of its own.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/mapped_pool.hpp>
#include <crayon/adapter/pool_write.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/simd/highway_dynamic.hpp>

#include "shapes.hpp"

namespace {

using namespace crayon_benchmark;

result<void> make_file(const std::string& path, std::size_t adapters) {
  const auto sites = sites_of(llama_7b, 16);
  adapter::pool_info info;
  for (std::size_t k = 0; k < adapters; ++k) info.names.push_back("adapter-" + std::to_string(k));
  const adapter::pool_parts parts{dtype::bf16, sites,    info, {nullptr, adapters, 0},
                                  2048,        adapters, {}};
  rng random{1};
  std::vector<bf16> numbers(262'139);
  for (auto& e : numbers) e = from_float<bf16>(0.04F * (random.uniform() - 0.5F));
  std::size_t at = 0;
  return adapter::write_pool(path, parts,
                             [&](std::size_t, std::size_t, std::size_t, std::byte* to) {
                               at = (at + 7919) % (numbers.size() - 2048);
                               std::memcpy(to, numbers.data() + at, parts.tile_bytes());
                             });
}

/// Kilobytes of a line of /proc/self/status.
long status_of(const char* key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(key, 0) == 0) return std::atol(line.c_str() + std::strlen(key));
  }
  return -1;
}

template <class Residency>
int blend_within(const char* name, const std::string& path, Residency residency) {
  const auto pool = adapter::mapped_pool<bf16, Residency>::open(
      path, adapter::verification::by_caller, std::move(residency));
  if (!pool) {
    std::printf("%-9s %s\n", name, pool.error().text.c_str());
    return 1;
  }
  const auto weights = weights_of(pool->size());
  adapter::lora_adapter<bf16> out(pool->shapes());
  std::vector<double> seconds;
  for (int repeat = 0; repeat < 3; ++repeat) {
    const double start = now(2);
    const auto made = blend::linear<simd::highway_dynamic>::blend_into(*pool, weights, out);
    seconds.push_back(now(2) - start);
    if (!made) return 1;
  }
  double sum = 0;
  for (std::size_t j = 0; j < out.a(0).size(); ++j) sum += double{to_float(out.a(0).data[j])};
  std::printf(
      "%-9s pool %6.0f MB, most memory held %6.0f MB (the result is %.0f MB), blend %.2f s "
      "(%.2f to %.2f), %.2f GB/s, sum %.6f\n",
      name, double(pool->bytes()) / 1e6, double(status_of("VmHWM:")) * 1.024e-3,
      double(out.bytes()) / 1e6, median(seconds), *std::min_element(seconds.begin(), seconds.end()),
      *std::max_element(seconds.begin(), seconds.end()),
      double(pool->bytes()) / 1e9 / median(seconds), sum);
  std::fflush(stdout);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "large_pool FILE ADAPTERS BUDGET_MB\n");
    return 2;
  }
  const std::string path = argv[1];
  const auto budget = static_cast<std::size_t>(std::atol(argv[3])) * 1'000'000;
  if (::access(path.c_str(), R_OK) != 0) {
    const auto made = make_file(path, static_cast<std::size_t>(std::atol(argv[2])));
    if (!made) {
      std::fprintf(stderr, "%s\n", made.error().text.c_str());
      return 1;
    }
  }
  int failed = 0;
  for (int policy = 0; policy < 3; ++policy) {
    std::fflush(stdout);
    const ::pid_t child = ::fork();
    if (child == 0) {
      const int status = policy == 0   ? blend_within("keep_all", path, adapter::keep_all())
                         : policy == 1 ? blend_within("lru", path, adapter::lru(budget))
                                       : blend_within("pinned", path, adapter::pinned(budget));
      std::fflush(stdout);
      std::_Exit(status);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    failed += status != 0;
  }
  return failed;
}
