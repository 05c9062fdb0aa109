// SPDX-License-Identifier: MIT
// Merging adjacent tokens, the best pair first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <queue>
#include <utility>
#include <vector>

namespace crayon::tokenizer {

/// What an adjacent pair would become; `id` < 0 if it does not merge.
struct scored_merge {
  std::int32_t id = -1;
  float score = 0;
};

/// Replaces the best-scoring adjacent pair (the leftmost of equal ones) by its merge until no pair
/// merges. `merge_of(left, right)` -> scored_merge. Each merge costs a logarithm: pairs wait in a
/// heap, and those whose tokens have changed since are skipped when they come up.
template <class MergeOf>
void merge_pairs(std::vector<std::int32_t>& ids, MergeOf&& merge_of) {
  struct node {
    std::size_t previous, next;
  };
  struct candidate {
    float score;
    std::size_t at;  // of the left token
    std::int32_t left, right, merged;

    bool operator<(const candidate& other) const noexcept {  // true: `other` comes first
      return score != other.score ? score < other.score : at > other.at;
    }
  };
  const std::size_t end = ids.size();
  constexpr std::int32_t gone = -1;
  std::vector<node> nodes(end);
  std::priority_queue<candidate> queue;
  const auto offer = [&](std::size_t at) {
    const std::size_t next = nodes[at].next;
    if (next == end) return;
    const scored_merge merge = merge_of(ids[at], ids[next]);
    if (merge.id >= 0) queue.push({merge.score, at, ids[at], ids[next], merge.id});
  };
  for (std::size_t i = 0; i < end; ++i) nodes[i] = {i == 0 ? end : i - 1, i + 1};
  for (std::size_t i = 0; i < end; ++i) offer(i);
  while (!queue.empty()) {
    const candidate best = queue.top();
    queue.pop();
    const std::size_t next = nodes[best.at].next;
    if (ids[best.at] != best.left || next == end || ids[next] != best.right) continue;
    ids[best.at] = best.merged;
    ids[next] = gone;
    nodes[best.at].next = nodes[next].next;
    if (nodes[next].next != end) nodes[nodes[next].next].previous = best.at;
    if (nodes[best.at].previous != end) offer(nodes[best.at].previous);
    offer(best.at);
  }
  std::erase(ids, gone);
}

}  // namespace crayon::tokenizer
