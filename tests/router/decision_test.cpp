// SPDX-License-Identifier: MIT
#include <crayon/router/decision.hpp>

#include <array>

#include <crayon/router/all_of.hpp>
#include <crayon/router/always.hpp>
#include <crayon/router/any_of.hpp>
#include <crayon/router/budgeted.hpp>
#include <crayon/router/chance.hpp>
#include <crayon/router/learned.hpp>
#include <crayon/router/oracle.hpp>
#include <crayon/router/rules.hpp>
#include <crayon/router/scope.hpp>

#include "../catch.hpp"

namespace {

namespace reasons {

using namespace crayon::router;
using crayon::route;
using crayon::signals;

constexpr signals near_and_sure{0.9F, 0.8F, 0.2F, -0.1F, 0.3F, 4};
constexpr signals far_and_sure{0.9F, 0.8F, 0.2F, -0.1F, 5.0F, 4};
constexpr signals near_and_unsure{0.3F, 0.1F, 2.5F, -1.7F, 0.3F, 4};

/// Why it decides as it does.
template <class P>
decision why(const P& policy, const signals& seen) {
  return explain(policy, seen, policy.decide(seen));
}

/// Knows nothing of reasons, and changes when it is asked.
struct own_policy {
  int* asked;
  [[nodiscard]] route decide(const signals& seen) const {
    ++*asked;
    return seen.margin < 0.5F ? route::server : route::device;
  }
};

/// Inherits reasons that are not its own.
struct stubborn : confidence {
  [[nodiscard]] static route decide(const signals&) { return route::server; }
};

bounded_risk bounded(risk_share share = risk_share::of_all) {
  bounded_risk policy;
  policy.at.risk = -0.5F;
  policy.at.made = {promise_kind::with_confidence, share, 0.1, 0.05, 500};
  policy.on = signal_kind::margin;
  return policy;
}

}  // namespace reasons

}  // namespace

TEST_CASE("a policy says which signal decided, its score and its threshold", "[router]") {
  using namespace reasons;
  const auto is = [](const decision& d, route to, std::string_view by, float score, float limit) {
    CAPTURE(by);
    CHECK(d.to == to);
    CHECK(d.by == by);
    CHECK((d.score == score || (d.score != d.score && score != score)));
    CHECK((d.threshold == limit || (d.threshold != d.threshold && limit != limit)));
    CHECK(d.made.kind == promise_kind::none);
  };
  constexpr float none = not_measured;
  is(why(scope{2}, far_and_sure), route::server, "scope_distance", 5, 2);
  is(why(scope{2}, near_and_sure), route::device, "scope_distance", 0.3F, 2);
  const confidence margin{signal_kind::margin, 0.4F};
  is(why(margin, near_and_unsure), route::server, "margin", 0.1F, 0.4F);
  const linear line{{signal_kind::margin}, {-2}, 1, 0.5F};
  is(why(line, near_and_unsure), route::server, "linear", line.risk(near_and_unsure), 0.5F);
  // Those without a threshold say so.
  is(why(always_device{}, far_and_sure), route::device, "always_device", none, none);
  is(why(always_server{}, near_and_sure), route::server, "always_server", none, none);
  is(explain(chance(0.5, 1), near_and_sure, route::server), route::server, "chance", none, none);
  is(explain(oracle({}), near_and_sure, route::device), route::device, "oracle", none, none);
  // What is not due yet has not decided.
  signals early = near_and_sure;
  early.tokens = 0;
  is(why(confidence{signal_kind::perplexity, 2}, early), route::device, "", none, none);

  // Of several parts, the deciding one.
  const any_of either{scope{2}, margin};
  is(why(either, far_and_sure), route::server, "scope_distance", 5, 2);
  is(why(either, near_and_unsure), route::server, "margin", 0.1F, 0.4F);
  is(why(either, near_and_sure), route::device, "scope_distance", 0.3F, 2);
  const all_of both{margin, scope{2}};
  is(why(both, far_and_sure), route::device, "margin", 0.8F, 0.4F);
  is(why(both, near_and_unsure), route::device, "scope_distance", 0.3F, 2);
  is(why(all_of{always_server{}, scope{2}}, far_and_sure), route::server, "scope_distance", 5, 2);
  is(why(any_of<>{}, far_and_sure), route::device, "", none, none);
  for (const auto& seen : {near_and_sure, far_and_sure, near_and_unsure}) {
    // The same at run time.
    const rules any{rules::combination::any_of, {{signal_kind::scope_distance, 2}, margin}};
    const rules all{rules::combination::all_of, {margin, {signal_kind::scope_distance, 2}}};
    const decision a = why(either, seen), b = why(both, seen);
    is(why(any, seen), a.to, a.by, a.score, a.threshold);
    is(why(all, seen), b.to, b.by, b.score, b.threshold);
  }
  is(why(rules{}, far_and_sure), route::device, "always_device", none, none);
}

TEST_CASE("a policy's reasons carry the promise that holds for them", "[router]") {
  using namespace reasons;
  const auto of_all = bounded(), of_kept = bounded(risk_share::of_kept);
  decision d = why(of_all, near_and_sure);
  CHECK(d.to == route::device);
  CHECK(d.made == of_all.at.made);
  CHECK(d.score == 0.8F);
  CHECK(d.threshold == 0.5F);  // in the signal's own units
  CHECK(d.due == seen_at::after_answer);

  // Others beside it can only send more, which breaks a promise on those that are kept.
  CHECK(why(any_of{scope{2}, of_all}, near_and_sure).made == of_all.at.made);
  CHECK(why(any_of{scope{2}, of_kept}, near_and_sure).made.kind == promise_kind::none);
  CHECK(why(any_of{of_kept}, near_and_sure).made == of_kept.at.made);
  // Whoever keeps more breaks both.
  CHECK(why(all_of{of_all, scope{2}}, near_and_sure).made.kind == promise_kind::none);
  CHECK(why(budgeted(of_all, 0.5), near_and_sure).made.kind == promise_kind::none);

  rules filed{rules::combination::any_of, {{signal_kind::scope_distance, 2}}, of_all};
  CHECK(why(filed, near_and_sure).made == of_all.at.made);
  CHECK(why(filed, far_and_sure).by == "scope_distance");
  CHECK(why(filed, near_and_unsure).by == "margin");
  filed.promised = of_kept;
  CHECK(why(filed, near_and_sure).made.kind == promise_kind::none);

  // A threshold for prefill decides once, and is silent afterwards.
  auto first = bounded();
  first.when = seen_at::after_prefill;
  signals seen = near_and_sure;
  CHECK(why(first, seen).due == seen_at::after_prefill);
  seen.asked = 1;
  CHECK(why(first, seen).by.empty());
}

TEST_CASE("a budget that ran out is the reason", "[router]") {
  using namespace reasons;
  const budgeted limited(confidence{signal_kind::margin, 0.4F}, 0.5);
  signals seen = near_and_unsure;
  decision d = why(limited, seen);  // the first of one: half a call is none
  CHECK(d.to == route::device);
  CHECK(d.by == "budget");
  CHECK(d.score == 0);
  CHECK(d.threshold == 0.5F);
  d = why(limited, seen);
  CHECK(d.to == route::server);
  CHECK(d.by == "margin");
  CHECK(limited.budget().queries() == 2);  // an explanation is not a query
  CHECK(limited.budget().calls() == 1);
  CHECK(why(limited, near_and_sure).by == "margin");
}

TEST_CASE("own policies that know nothing of reasons work as before", "[router]") {
  using namespace reasons;
  static_assert(!explaining_policy<own_policy>);
  int asked = 0;
  const own_policy own{&asked};
  CHECK(why(own, near_and_unsure).to == route::server);
  CHECK(why(own, near_and_unsure).by.empty());
  CHECK(asked == 2);  // once each
  const any_of mixed{own, scope{2}};
  CHECK(why(mixed, near_and_unsure).to == route::server);
  CHECK(why(mixed, near_and_unsure).by.empty());
  CHECK(why(mixed, near_and_sure).by == "scope_distance");
  CHECK(asked == 5);
  const budgeted limited(own, 0.0);
  CHECK(why(limited, near_and_unsure).to == route::device);
  CHECK(why(limited, near_and_unsure).by.empty());
  CHECK(asked == 7);
  CHECK(why(stubborn{}, near_and_sure).by.empty());
  CHECK(why(stubborn{}, near_and_sure).to == route::server);
}
