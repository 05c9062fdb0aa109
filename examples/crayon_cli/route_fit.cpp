// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstdio>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/engine/router_binding.hpp>
#include <crayon/router/conformal_risk_control.hpp>
#include <crayon/router/fixed_sequence.hpp>
#include <crayon/serve/router_file.hpp>

#include "models.hpp"
#include "route.hpp"

namespace crayon::cli {
namespace {

using router::signal_kind;

/// Rows of one signal, as calibrators take them.
struct calibration_rows {
  std::vector<float> risks, losses;
  std::vector<router::calibration_point> points;
};

calibration_rows rows_of(const route_rows& rows) {
  calibration_rows made;
  const auto risk = rows.scores.front().risk();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    made.risks.push_back(static_cast<float>(risk[i]));
    made.losses.push_back(rows.device_ok[i] != 0 ? 0.0F : 1.0F);
    made.points.push_back({made.risks[i], rows.device_ok[i] != 0, rows.server_ok[i] != 0});
  }
  return made;
}

/// Thresholds that are fixed before any score is looked at: over the range that a signal has.
result<std::vector<float>> grid_of(signal_kind signal, const std::vector<float>& asked) {
  if (!asked.empty()) {
    const float a = router::as_risk(asked[0], signal), b = router::as_risk(asked[1], signal);
    return router::even_grid(std::min(a, b), std::max(a, b), 401);
  }
  switch (signal) {
    case signal_kind::max_probability:
    case signal_kind::margin:
      return router::even_grid(-1, 0, 401);
    case signal_kind::entropy:
    case signal_kind::mean_log_prob:
    case signal_kind::low_log_prob:
    case signal_kind::median_log_prob:
      return router::even_grid(0, 12, 401);  // nats; log of the largest vocabularies
    case signal_kind::scope_distance:
      return router::even_grid(0, 14, 401);  // -log of the floor of weights, 1e-6
    default:                                 // logits have no scale that is known beforehand
      return error{errc::bad_value,
                   std::string("the range of ") + std::string(name(signal)) +
                       " is not known: --grid LOW HIGH, chosen without the scores"};
  }
}

template <class WhenInfeasible>
result<router::calibrated_threshold> promise(const route_fit_options& o, signal_kind signal,
                                             const calibration_rows& rows, WhenInfeasible when) {
  if (o.promise == "mean") {
    return router::conformal_risk_control(o.alpha, when).fit(rows.risks, rows.losses);
  }
  CRAYON_TRY(auto grid, grid_of(signal, o.grid));
  router::fixed_sequence_options options;
  options.alpha = o.alpha;
  options.delta = o.delta;
  options.share = o.of_kept ? router::risk_share::of_kept : router::risk_share::of_all;
  return router::fixed_sequence(std::move(grid), options, when).fit(rows.risks, rows.losses);
}

/// What the threshold holds for: as `crayon ask` will find it.
result<router::binding> bind(const route_fit_options& o) {
  CRAYON_TRY(device made, open_device(o.model, o.adapters, 0));
  auto bound = engine::binding_of(made.base());
  if (made.blended() != nullptr) bound.adapter = engine::adapter_hash(*made.blended());
  if (!o.pool.empty()) {
    CRAYON_TRY(const auto pool, adapter::load_pool<float>(o.pool));
    bound.blend = engine::blend_of<config>(pool);
    bound.adapter = router::binding::any_of_them;
  }
  bound.server =
      o.server_model.empty() ? std::string(router::binding::any_of_them) : o.server_model;
  return bound;
}

json realised_json(const router::curve_point& at) {
  return {{"call_rate", at.call_rate}, {"quality", at.quality}, {"cost", at.cost}};
}

}  // namespace

result<void> run(const route_fit_options& o, json& report) {
  CRAYON_TRY(const route_rows rows, read_route_rows(o.columns));
  if (rows.scores.size() != 1) {
    return error{errc::bad_value, o.columns.file + ": " + std::to_string(rows.scores.size()) +
                                      " scores; a threshold is fitted on one, named by --score"};
  }
  const auto signal = router::signal_of(rows.scores.front().name);
  if (!signal) {
    return error{errc::bad_value, "\"" + rows.scores.front().name +
                                      "\" is no signal: crayon ask could not measure it"};
  }
  if (o.of_kept && o.promise != "probability") {
    return error{errc::bad_value,
                 "--of-kept: only --promise probability bounds the risk among the "
                 "queries that are kept"};
  }
  if (o.call_rate >= 0 && o.promise != "none") {
    return error{errc::bad_value, "--call-rate: a promise chooses the threshold"};
  }
  if (o.after_prefill && needs_tokens(*signal)) {
    return error{errc::bad_value, std::string(name(*signal)) + " is not known after prefill"};
  }
  const route_rows fit = rows.part(1), held = rows.part(0);
  const auto known = rows_of(fit);
  CRAYON_TRY(auto bound, bind(o));

  serve::router_file file;
  file.bound_to = std::move(bound);
  float risk = 0;
  if (o.promise == "none") {
    CRAYON_TRY(const auto fitted,
               o.call_rate < 0
                   ? router::fit_accuracy(known.points)
                   : router::fit_call_rate(known.risks, static_cast<float>(o.call_rate)));
    risk = fitted.risk;
    file.policy.thresholds.push_back({*signal, router::as_risk(risk, *signal)});
    report["promise"] = nullptr;
    std::printf("nothing is promised: %s\n", o.call_rate < 0
                                                 ? "the threshold that was right most often"
                                                 : "a threshold for a call rate");
  } else {
    CRAYON_TRY(const auto fitted, o.all_to_server
                                      ? promise(o, *signal, known, router::all_to_server{})
                                      : promise(o, *signal, known, router::refuse{}));
    risk = fitted.risk;
    file.policy.promised = router::bounded_risk{
        fitted, *signal,
        o.after_prefill ? router::seen_at::after_prefill : router::seen_at::after_answer};
    report["promise"] = words(fitted.made);
    std::printf("%s\n", words(fitted.made).c_str());
  }
  CRAYON_CHECK(serve::write_router(o.out, file));

  const bool some = std::isfinite(risk);
  report["signal"] = name(*signal);
  report["threshold"] = some ? json(router::as_risk(risk, *signal)) : json();
  report["queries"] = fit.size();
  if (some) {
    std::printf("to the server: %s %s %.6g\n", std::string(name(*signal)).c_str(),
                rises_with_risk(*signal) ? "above" : "below",
                double{router::as_risk(risk, *signal)});
  } else {
    std::printf("to the server: everything\n");
  }
  const auto show = [&](const char* which, const route_rows& seen) {
    if (seen.size() == 0) return;
    const auto at = router::route_rows(seen.scores.front().risk(), double{risk}, seen.outcomes());
    std::printf("%-22s %6zu queries  sent %5.1f %%  right %5.1f %%  cost %.4g\n", which,
                seen.size(), 100 * at.call_rate, 100 * at.quality, at.cost);
    report[which] = realised_json(at);
  };
  show("fitted on", fit);
  show("other rows", held);
  return {};
}

}  // namespace crayon::cli
