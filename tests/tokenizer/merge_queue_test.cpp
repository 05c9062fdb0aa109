// SPDX-License-Identifier: MIT
#include <crayon/tokenizer/merge_queue.hpp>

#include <map>

#include <crayon/core/rng.hpp>

#include "../catch.hpp"

using crayon::tokenizer::scored_merge;

namespace {

/// One scan over all pairs for each merge, as run.c does it.
template <class MergeOf>
std::vector<std::int32_t> merge_by_scanning(std::vector<std::int32_t> symbols, MergeOf&& merge_of) {
  for (;;) {
    scored_merge best;
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const scored_merge merge = merge_of(symbols[i], symbols[i + 1]);
      if (merge.id >= 0 && (best.id < 0 || merge.score > best.score)) {
        best = merge;
        at = i;
      }
    }
    if (best.id < 0) return symbols;
    symbols[at] = best.id;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

}  // namespace

TEST_CASE("merging through a queue equals scanning for the best pair", "[tokenizer]") {
  crayon::rng g(3);
  for (int round = 0; round < 200; ++round) {
    // Random merges over few symbols, with few different scores so that ties matter.
    std::map<std::pair<std::int32_t, std::int32_t>, scored_merge> merges;
    for (std::int32_t id = 4; id < 24; ++id) {
      const auto any = [&] {
        return static_cast<std::int32_t>(g.below(static_cast<std::size_t>(id)));
      };
      merges.try_emplace({any(), any()}, scored_merge{id, static_cast<float>(g.below(6))});
    }
    const auto merge_of = [&](std::int32_t left, std::int32_t right) {
      const auto at = merges.find({left, right});
      return at == merges.end() ? scored_merge{} : at->second;
    };
    std::vector<std::int32_t> symbols(g.below(60));
    for (auto& id : symbols) id = static_cast<std::int32_t>(g.below(4));
    auto merged = symbols;
    crayon::tokenizer::merge_pairs(merged, merge_of);
    CHECK(merged == merge_by_scanning(symbols, merge_of));
  }
}
