// SPDX-License-Identifier: MIT
// A limit on how many queries go to the server, kept while they come.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

#include <crayon/router/decision.hpp>

namespace crayon::router {

/// The promise: after any number n of queries, calls <= share n + burst. With burst 0 the realised
/// rate never exceeds `share`, not even for a moment, so that the first 1 / share queries stay on
/// the device; a burst lets that many calls go ahead of their queries. Engines on several threads
/// may share one. Calls are those that this budget granted: a query that the device cannot take at
/// all goes to the server without a router being asked.
class call_budget {
 public:
  /// share: of the queries, 0 to 1; a NaN is 0.
  explicit call_budget(double share, std::size_t burst = 0) noexcept
      : call_budget(share, burst, 0, 0) {}
  /// Goes on from what was counted before.
  call_budget(double share, std::size_t burst, std::size_t queries, std::size_t calls) noexcept
      : share_(share > 0 ? share : 0),
        burst_(static_cast<double>(burst)),
        queries_(queries),
        calls_(calls) {}

  void count_query() noexcept { queries_.fetch_add(1); }

  /// True, and the call is counted, where one more keeps the promise.
  [[nodiscard]] bool take() noexcept {
    const double allowed = share_ * static_cast<double>(queries_.load()) + burst_;
    std::size_t calls = calls_.load();
    while (static_cast<double>(calls + 1) <= allowed) {
      if (calls_.compare_exchange_weak(calls, calls + 1)) return true;
    }
    return false;
  }

  [[nodiscard]] std::size_t queries() const noexcept { return queries_.load(); }
  [[nodiscard]] std::size_t calls() const noexcept { return calls_.load(); }
  [[nodiscard]] double share() const noexcept { return share_; }
  [[nodiscard]] std::size_t burst() const noexcept { return static_cast<std::size_t>(burst_); }

 private:
  double share_, burst_;
  std::atomic<std::size_t> queries_, calls_;
};

/// Of what was wanted for reasons `why`, with a budget around it, and `said`: kept against them is
/// by "budget", with the share that was sent so far and the share that may be. Nothing is promised:
/// a budget keeps what a promise would send.
[[nodiscard]] inline decision explain_budget(const call_budget& budget, decision why, route said) {
  why.made = {};
  if (why.to == said) return why;
  const auto queries = static_cast<double>(budget.queries());
  const auto calls = static_cast<double>(budget.calls());
  return {said, "budget", static_cast<float>(queries > 0 ? calls / queries : 0),
          static_cast<float>(budget.share())};
}

/// What `Policy` sends, as far as the budget goes: `budgeted(confidence{...}, 0.2)`. A query is
/// counted when it is asked about for the first time, so this goes around other policies and not
/// into any_of or all_of, which do not ask all of theirs.
template <router_policy Policy>
class budgeted {
 public:
  static constexpr bool sees_every_query = true;

  budgeted(Policy policy, std::shared_ptr<call_budget> budget) noexcept
      : policy_(std::move(policy)), budget_(std::move(budget)) {}
  budgeted(Policy policy, double share, std::size_t burst = 0)
      : budgeted(std::move(policy), std::make_shared<call_budget>(share, burst)) {}

  [[nodiscard]] route decide(const signals& seen) const {
    if (seen.asked == 0) budget_->count_query();
    const bool server = policy_.decide(seen) == route::server && budget_->take();
    return server ? route::server : route::device;
  }

  /// What the policy would have sent and was kept is by "budget", if the policy explains itself.
  [[nodiscard]] decision explain(const signals& seen, route said) const {
    decision why = router::explain(policy_, seen, route::server);
    if (said == route::device && why.by.empty()) {
      why = router::explain(policy_, seen, route::device);
    }
    return explain_budget(*budget_, why, said);
  }

  [[nodiscard]] const call_budget& budget() const noexcept { return *budget_; }

 private:
  Policy policy_;
  std::shared_ptr<call_budget> budget_;
};

}  // namespace crayon::router
