// SPDX-License-Identifier: MIT
#include <cstdio>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/cores.hpp>
#include <crayon/blend/error_report.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/recompress.hpp>

int main() {
  using namespace crayon;
  const auto pool = adapter::load_pool<float>("pool.safetensors");
  if (!pool) return 1;
  const auto cores = blend::compute_cores(*pool);  // once per pool, whatever the weights
  if (!cores) return 1;
  const std::vector<weighted_slot> weights = {{1, 0.4F}, {4, 0.3F}, {10, 0.2F}, {16, 0.1F}};

  const auto show = [&](const char* name, const auto& made) {
    if (!made) return;
    const auto report = blend::report_error(*pool, weights, *made);
    if (!report) return;
    std::size_t numbers = 0;
    for (const auto& site : made->shapes()) numbers += site.rank * (site.in + site.out);
    std::printf("%-16s %6zu numbers, error %.3f\n", name, numbers, report->total().relative());
  };
  show("concat, exact", blend::concat::blend(*pool, weights));
  show("error 0.1", blend::recompress<>::blend(*pool, weights, {.error = 0.1, .cores = *cores}));
  show("error 0.3", blend::recompress<>::blend(*pool, weights, {.error = 0.3, .cores = *cores}));
  show("rank 2", blend::recompress<>::blend(*pool, weights, {.rank = 2, .cores = *cores}));
  show("linear, rank 2", blend::linear<>::blend(*pool, weights));
}
