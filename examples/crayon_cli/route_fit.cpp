// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/engine/router_binding.hpp>
#include <crayon/router/conformal_risk_control.hpp>
#include <crayon/router/fit_learned.hpp>
#include <crayon/router/fixed_sequence.hpp>
#include <crayon/serve/router_file.hpp>

#include "domains.hpp"
#include "models.hpp"
#include "route.hpp"

namespace crayon::cli {
namespace {

using router::signal_kind;

/// What a threshold is fitted on: the values of one signal, or a line through several.
struct measured {
  signal_kind signal{};
  std::optional<router::linear> line;

  [[nodiscard]] bool needs_tokens() const {
    if (!line) return router::needs_tokens(signal);
    return std::any_of(line->on.begin(), line->on.end(),
                       [](signal_kind on) { return router::needs_tokens(on); });
  }
  [[nodiscard]] bool looks_at(signal_kind which) const {
    if (!line) return signal == which;
    return std::find(line->on.begin(), line->on.end(), which) != line->on.end();
  }
  /// Of the rows, larger is riskier.
  [[nodiscard]] std::vector<double> risks(const route_rows& rows) const {
    if (!line) return rows.scores.front().risk();
    std::vector<double> all;
    std::vector<float> values(line->on.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::size_t j = 0; j < values.size(); ++j) {
        values[j] = static_cast<float>(rows.scores[j].value[i]);
      }
      all.push_back(double{line->risk(values)});
    }
    return all;
  }
  /// A risk in the units that people read: the signal's own, or a probability.
  [[nodiscard]] float own(float risk) const { return line ? risk : router::as_risk(risk, signal); }
};

/// Rows of one risk, as calibrators take them.
struct calibration_rows {
  std::vector<float> risks, losses;
  std::vector<router::calibration_point> points;
};

calibration_rows rows_of(const route_rows& rows, const std::vector<double>& risk) {
  calibration_rows made;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    made.risks.push_back(static_cast<float>(risk[i]));
    made.losses.push_back(rows.device_ok[i] != 0 ? 0.0F : 1.0F);
    made.points.push_back({made.risks[i], rows.device_ok[i] != 0, rows.server_ok[i] != 0});
  }
  return made;
}

/// Thresholds that are fixed before any score is looked at: over the range that a signal has.
result<std::vector<float>> grid_of(const measured& score, const std::vector<float>& asked) {
  if (!asked.empty()) {
    const float a = score.own(asked[0]), b = score.own(asked[1]);  // turning back is turning
    return router::even_grid(std::min(a, b), std::max(a, b), 401);
  }
  if (score.line) return router::even_grid(0, 1, 401);
  const signal_kind signal = score.signal;
  switch (signal) {
    case signal_kind::max_probability:
    case signal_kind::margin:
      return router::even_grid(-1, 0, 401);
    case signal_kind::entropy:
    case signal_kind::mean_log_prob:
    case signal_kind::low_log_prob:
    case signal_kind::median_log_prob:
      return router::even_grid(0, 12, 401);  // nats; log of the largest vocabularies
    case signal_kind::question_surprise:
      return router::even_grid(0, 12, 401);
    case signal_kind::scope_distance:
      return router::even_grid(0, 14, 401);  // -log of the floor of weights, 1e-6
    case signal_kind::domain_mismatch:
      return router::even_grid(-1, 4.7F, 401);  // between its own ends
    default:                                    // logits have no scale that is known beforehand
      return error{errc::bad_value,
                   std::string("the range of ") + std::string(name(signal)) +
                       " is not known: --grid LOW HIGH, chosen without the scores"};
  }
}

template <class WhenInfeasible>
result<router::calibrated_threshold> promise(const route_fit_options& o, const measured& score,
                                             const calibration_rows& rows, WhenInfeasible when) {
  if (o.promise == "mean") {
    return router::conformal_risk_control(o.alpha, when).fit(rows.risks, rows.losses);
  }
  CRAYON_TRY(auto grid, grid_of(score, o.grid));
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
  if (!o.domains.empty()) {
    CRAYON_TRY(const auto file, open_domains(o.domains, made.base().hash));
    bound.domains = match::domain_hash(file.space);
  }
  bound.server =
      o.server_model.empty() ? std::string(router::binding::any_of_them) : o.server_model;
  return bound;
}

json realised_json(const router::curve_point& at) {
  return {{"call_rate", at.call_rate}, {"quality", at.quality}, {"cost", at.cost}};
}

/// The signals by name, and their columns.
result<route_columns> columns_of(const route_fit_options& o, std::vector<signal_kind>& on) {
  route_columns columns = o.columns;
  if (o.signals.empty()) return columns;
  columns.usual_share = 0.5;
  columns.scores.clear();
  for (const auto& text : o.signals) {
    const auto signal = router::signal_of(text);
    if (!signal || std::find(on.begin(), on.end(), *signal) != on.end()) {
      return error{errc::bad_value, "--signals: \"" + text +
                                        "\" is no signal, or is there twice: crayon ask could not "
                                        "measure it"};
    }
    on.push_back(*signal);
    columns.scores.push_back(text);
  }
  return columns;
}

/// "0.31 - 2.5 margin + 0.2 entropy"
std::string words_of(const router::linear& line) {
  char text[64];
  std::snprintf(text, sizeof text, "%.4g", line.bias);
  std::string all = text;
  for (std::size_t j = 0; j < line.on.size(); ++j) {
    std::snprintf(text, sizeof text, " %c %.4g ", line.weight[j] < 0 ? '-' : '+',
                  std::abs(line.weight[j]));
    all.append(text).append(name(line.on[j]));
  }
  return all;
}

/// The line through its signals, from the rows to fit on.
result<router::linear> fit_line(const route_rows& fit, std::vector<signal_kind> on, json& report) {
  std::vector<float> values;
  for (std::size_t i = 0; i < fit.size(); ++i) {
    for (const auto& s : fit.scores) values.push_back(static_cast<float>(s.value[i]));
  }
  const matrix_view<const float> known(values.data(), fit.size(), fit.scores.size());
  CRAYON_TRY(auto line, router::fit_linear(known, fit.wrong(), std::move(on)));
  std::printf("P(the device is wrong) = 1 / (1 + exp(-(%s))), from %zu queries\n",
              words_of(line).c_str(), fit.size());
  json& out = report["line"];
  for (std::size_t j = 0; j < line.on.size(); ++j) {
    out["weights"][std::string(name(line.on[j]))] = line.weight[j];
  }
  out["bias"] = line.bias;
  out["queries"] = fit.size();
  return line;
}

result<void> check(const route_fit_options& o, const measured& score) {
  const auto wrong = [](const std::string& text) { return error{errc::bad_value, text}; };
  if (o.of_kept && o.promise != "probability") {
    return wrong(
        "--of-kept: only --promise probability bounds the risk among the queries that are kept");
  }
  if (o.call_rate >= 0 && o.promise != "none") {
    return wrong("--call-rate: a promise chooses the threshold");
  }
  if (o.budget >= 0 && o.promise != "none") {
    return wrong("--budget: it would keep what the promise sends");
  }
  if (o.after_prefill && score.needs_tokens()) {
    return wrong(score.line ? "one of --signals is not known after prefill"
                            : std::string(name(score.signal)) + " is not known after prefill");
  }
  if (score.looks_at(signal_kind::domain_mismatch) && o.domains.empty()) {
    return wrong("domain_mismatch needs --domains: the space that it was measured in");
  }
  for (const auto task : {signal_kind::domain_mismatch, signal_kind::scope_distance}) {
    if (score.looks_at(task) && o.pool.empty()) {
      return wrong(std::string(name(task)) +
                   " needs --pool: crayon ask measures it to samples that a pool was blended by");
    }
  }
  return {};
}

}  // namespace

result<void> run(const route_fit_options& o, json& report) {
  std::vector<signal_kind> on;
  CRAYON_TRY(const route_columns columns, columns_of(o, on));
  CRAYON_TRY(const route_rows rows, read_route_rows(columns));
  measured score;
  if (on.empty()) {
    if (rows.scores.size() != 1) {
      return error{errc::bad_value, o.columns.file + ": " + std::to_string(rows.scores.size()) +
                                        " scores; a threshold is fitted on one, named by --score"};
    }
    const auto signal = router::signal_of(rows.scores.front().name);
    if (!signal) {
      return error{errc::bad_value, "\"" + rows.scores.front().name +
                                        "\" is no signal: crayon ask could not measure it"};
    }
    if (rows.scores.front().rises != rises_with_risk(*signal)) {
      return error{errc::bad_value, std::string(name(*signal)) + ": crayon ask sends what is " +
                                        (rises_with_risk(*signal) ? "above" : "below") +
                                        " a threshold on it, not the reverse"};
    }
    score.signal = *signal;
  } else {
    score.line = router::linear{on, std::vector<double>(on.size())};
  }
  CRAYON_CHECK(check(o, score));
  // A line is fitted on the rows that the split gives, and its threshold on the others.
  if (score.line) {
    CRAYON_TRY(score.line, fit_line(rows.part(1), on, report));
  }
  const route_rows fit = rows.part(score.line ? 0 : 1);
  const auto known = rows_of(fit, score.risks(fit));
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
    if (score.line) {
      file.policy.line = score.line;
      file.policy.line->threshold = risk;
    } else {
      file.policy.thresholds.push_back({score.signal, score.own(risk)});
    }
    if (o.budget >= 0) {
      file.policy.budget = std::make_shared<router::call_budget>(o.budget, o.burst);
    }
    report["promise"] = nullptr;
    std::printf("nothing is promised: %s\n", o.call_rate < 0
                                                 ? "the threshold that was right most often"
                                                 : "a threshold for a call rate");
  } else {
    CRAYON_TRY(const auto fitted, o.all_to_server
                                      ? promise(o, score, known, router::all_to_server{})
                                      : promise(o, score, known, router::refuse{}));
    risk = fitted.risk;
    const auto when =
        o.after_prefill ? router::seen_at::after_prefill : router::seen_at::after_answer;
    if (score.line) {
      file.policy.promised_line = router::bounded_line{fitted, *score.line, when};
    } else {
      file.policy.promised = router::bounded_risk{fitted, score.signal, when};
    }
    report["promise"] = words(fitted.made);
    std::printf("%s\n", words(fitted.made).c_str());
  }
  CRAYON_CHECK(serve::write_router(o.out, file));

  const bool some = std::isfinite(risk);
  const std::string what = score.line ? "linear" : std::string(name(score.signal));
  report["signal"] = what;
  report["threshold"] = some ? json(score.own(risk)) : json();
  report["queries"] = fit.size();
  if (some) {
    const bool above = score.line || rises_with_risk(score.signal);
    std::printf("to the server: %s %s %.6g\n", score.line ? "P(the device is wrong)" : what.c_str(),
                above ? "above" : "below", double{score.own(risk)});
  } else {
    std::printf("to the server: everything\n");
  }
  if (o.budget >= 0) {
    std::printf("at most %.4g %% of the questions, and %zu calls ahead of them\n", 100 * o.budget,
                o.burst);
  }
  const auto show = [&](const char* which, const route_rows& seen) {
    if (seen.size() == 0) return;
    const auto at = router::route_rows(score.risks(seen), double{risk}, seen.outcomes());
    std::printf("%-22s %6zu queries  sent %5.1f %%  right %5.1f %%  cost %.4g\n", which,
                seen.size(), 100 * at.call_rate, 100 * at.quality, at.cost);
    report[which] = realised_json(at);
  };
  show("fitted on", fit);
  if (!score.line) show("other rows", rows.part(0));
  return {};
}

}  // namespace crayon::cli
