// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string_view>

#include <crayon/io/file.hpp>
#include <crayon/router/evaluate_baselines.hpp>
#include <crayon/router/threshold.hpp>

#include "route.hpp"

namespace crayon::cli {
namespace {

using router::router_metric;

json number_or_null(double value) {
  return std::isfinite(value) ? json(value) : json();
}

json pair_of(const router::interval& i) {
  return std::isfinite(i.low) ? json({i.low, i.high}) : json();
}

/// A threshold from the rows to fit on, and what it does to those that are judged.
struct realised_threshold {
  bool fitted = false;
  double value = 0;  ///< in the score's own units
  router::curve_point all;
  std::vector<router::curve_point> groups;
};

/// Everything that is known of one score before rows are drawn.
struct contestant {
  enum class role { score, baseline, bound };

  std::string name;
  role is = role::score;
  router::judged_score judged;
  realised_threshold threshold;
};

result<void> calibrate(const route_score& fit, const route_score& held,
                       std::span<const std::uint8_t> fit_right, router::judged_score& judged) {
  const auto confidence = [](const route_score& s) {
    std::vector<double> c = s.risk();
    for (double& x : c) x = -x;
    return c;
  };
  const auto through = [](std::vector<double> x, const auto& map) {
    for (double& v : x) v = map(v);
    return x;
  };
  // A score in [0, 1] is read as the probability to be right, or to be wrong where it is a risk.
  const auto in_range = [](double p) { return p >= 0 && p <= 1; };
  const bool probability = std::all_of(held.value.begin(), held.value.end(), in_range) &&
                           std::all_of(fit.value.begin(), fit.value.end(), in_range);
  const auto right = [&](double p) { return held.rises ? 1 - p : p; };
  if (probability) judged.raw = through(held.value, right);
  if (fit_right.size() < 2) return {};
  CRAYON_TRY(const auto isotonic, router::fit_isotonic(confidence(fit), fit_right));
  judged.isotonic = through(confidence(held), isotonic);
  CRAYON_TRY(const auto platt, router::fit_platt(confidence(fit), fit_right));
  judged.platt = through(confidence(held), platt);
  if (probability) {
    CRAYON_TRY(const double t, router::fit_temperature(through(fit.value, right), fit_right));
    judged.temperature = through(judged.raw, [&](double p) {
      return router::sigmoid_map{1 / t, 0}(router::logit(p));
    });
  }
  return {};
}

result<realised_threshold> realise(const route_score& fit_score, const route_score& held_score,
                                   const route_rows& fit, const route_rows& held,
                                   const route_eval_options& o) {
  realised_threshold made;
  if (fit.size() == 0) return made;
  std::vector<router::calibration_point> points;
  std::vector<float> risks;
  const auto fit_risk = fit_score.risk(), risk = held_score.risk();
  for (std::size_t i = 0; i < fit.size(); ++i) {
    risks.push_back(static_cast<float>(fit_risk[i]));
    points.push_back({risks.back(), fit.device_ok[i] != 0, fit.server_ok[i] != 0});
  }
  CRAYON_TRY(const auto chosen,
             o.call_rate < 0 ? router::fit_accuracy(points)
                             : router::fit_call_rate(risks, static_cast<float>(o.call_rate)));
  const auto threshold = double{chosen.risk};
  made.fitted = true;
  made.value = held_score.rises ? threshold : -threshold;
  made.all = router::route_rows(risk, threshold, held.outcomes());
  if (!held.group.empty()) {
    made.groups =
        router::route_groups(risk, threshold, held.outcomes(), held.group, held.groups.size());
  }
  return made;
}

/// All scores and the length, of one scale, as the columns of a matrix.
std::vector<float> features(const route_rows& rows) {
  std::vector<float> made;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (const auto& s : rows.scores) made.push_back(static_cast<float>(s.value[i]));
    if (!rows.length.empty()) made.push_back(static_cast<float>(rows.length[i]));
  }
  return made;
}

result<std::vector<contestant>> line_up(const route_rows& fit, const route_rows& held,
                                        const route_eval_options& o) {
  std::vector<contestant> all;
  for (std::size_t s = 0; s < held.scores.size(); ++s) {
    contestant one{held.scores[s].name, contestant::role::score, {}, {}};
    CRAYON_TRY(one.judged.order, router::risk_order::of(held.scores[s].risk()));
    CRAYON_CHECK(calibrate(fit.scores[s], held.scores[s], fit.device_ok, one.judged));
    CRAYON_TRY(one.threshold, realise(fit.scores[s], held.scores[s], fit, held, o));
    all.push_back(std::move(one));
  }
  const auto add = [&](contestant::role is, const std::string& name,
                       const std::vector<double>& risk) -> result<void> {
    contestant one{name, is, {}, {}};
    CRAYON_TRY(one.judged.order, router::risk_order::of(risk));
    all.push_back(std::move(one));
    return {};
  };
  CRAYON_CHECK(
      add(contestant::role::baseline, "random", router::random_risks(held.size(), o.columns.seed)));
  if (!held.length.empty()) CRAYON_CHECK(add(contestant::role::baseline, "length", held.length));
  if (fit.size() > 0 && o.neighbours > 0) {
    std::vector<float> known = features(fit), queries = features(held);
    const matrix_view<float> a(known.data(), fit.size(), known.size() / fit.size());
    const matrix_view<float> b(queries.data(), held.size(), a.cols);
    router::standardise(a, b);
    progress_bar bar("kNN");
    const auto risks =
        router::neighbour_risks(a, fit.wrong(), b, o.neighbours,
                                [&](std::size_t done) { bar.show(done + 1, held.size()); });
    CRAYON_CHECK(add(contestant::role::baseline, "kNN", risks));
  }
  // What no router can know: bounds, not baselines.
  std::vector<double> errors, gain;
  for (std::size_t i = 0; i < held.size(); ++i) {
    errors.push_back(held.device_ok[i] == 0);
    gain.push_back(double{1} * held.server_ok[i] - held.device_ok[i]);
  }
  CRAYON_CHECK(add(contestant::role::bound, "knows errors", errors));
  CRAYON_CHECK(add(contestant::role::bound, "oracle", gain));
  return all;
}

std::string percent(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", 100 * value);
  return std::isfinite(value) ? text : "-";
}

/// "0.716 [0.690, 0.741]", or "-".
std::string with_interval(const router::evaluation& e, router_metric which) {
  const auto middle = e.middle(which);
  char text[64];
  if (!std::isfinite(e[which])) return "-";
  if (std::isfinite(middle.low)) {
    std::snprintf(text, sizeof text, "%.3f [%.3f, %.3f]", e[which], middle.low, middle.high);
  } else {
    std::snprintf(text, sizeof text, "%.3f", e[which]);
  }
  return text;
}

using report_cards = std::vector<router::evaluation>;

/// Of the column of names.
int name_width(const std::vector<contestant>& all) {
  std::size_t longest = 0;
  for (const auto& one : all) longest = std::max(longest, one.name.size());
  return static_cast<int>(longest);
}

void print_table(const std::vector<contestant>& all, const report_cards& cards,
                 std::initializer_list<std::pair<const char*, router_metric>> columns,
                 bool with_baselines) {
  const int width = name_width(all);
  std::printf("\n  %-*s", width, "");
  for (const auto& [title, which] : columns) std::printf("  %-20s", title);
  std::printf("\n");
  for (std::size_t s = 0; s < all.size(); ++s) {
    if (all[s].is != contestant::role::score && !with_baselines) continue;
    std::printf("  %-*s", width, all[s].name.c_str());
    for (const auto& [title, which] : columns) {
      std::printf("  %-20s", with_interval(cards[s], which).c_str());
    }
    std::printf("\n");
  }
}

void print(const std::vector<contestant>& all, const report_cards& cards, const route_rows& fit,
           const route_rows& held, const route_eval_options& o) {
  const auto share = [](const std::vector<std::uint8_t>& flags) {
    return percent(static_cast<double>(std::count(flags.begin(), flags.end(), 1)) /
                   static_cast<double>(flags.size()));
  };
  std::printf("%zu rows judged (device right %s, server right %s), %zu to fit on (%s)\n",
              held.size(), share(held.device_ok).c_str(), share(held.server_ok).c_str(), fit.size(),
              held.split.c_str());
  if (o.draws > 0) {
    std::printf("95 %% intervals over %zu draws of %s, the same for all\n", o.draws,
                o.columns.by_group ? "whole groups" : "rows");
  }
  print_table(all, cards,
              {{"APGR", router_metric::apgr},
               {"CPT50", router_metric::cpt50},
               {"CPT80", router_metric::cpt80},
               {"AUROC of errors", router_metric::auroc},
               {"AUGRC", router_metric::augrc}},
              true);
  const int width = name_width(all);
  if (o.draws > 0) std::printf("\n  APGR better, paired\n");
  for (std::size_t s = 0; s < all.size() && o.draws > 0; ++s) {
    for (std::size_t b = 0; b < all.size(); ++b) {
      if (all[s].is != contestant::role::score || all[b].is != contestant::role::baseline) continue;
      const double more = cards[s][router_metric::apgr] - cards[b][router_metric::apgr];
      const auto d = cards[s].difference(cards[b], router_metric::apgr);
      char text[64] = "-";  // not defined: the server is not better than the device
      if (std::isfinite(more)) {
        std::snprintf(text, sizeof text, "%+.3f [%+.3f, %+.3f]", more, d.low, d.high);
      }
      std::printf("  %-*s  than %-7s %s\n", width, all[s].name.c_str(), all[b].name.c_str(), text);
    }
  }
  if (!held.near.empty()) {
    print_table(all, cards,
                {{"near AUROC", router_metric::near_auroc},
                 {"near FPR95", router_metric::near_fpr95},
                 {"far AUROC", router_metric::far_auroc},
                 {"far FPR95", router_metric::far_fpr95}},
                true);
  }
  print_table(all, cards,
              {{"ECE, raw", router_metric::ece},
               {"isotonic", router_metric::ece_isotonic},
               {"Platt", router_metric::ece_platt},
               {"temperature", router_metric::ece_temperature}},
              false);
  if (fit.size() == 0) return;
  std::printf("\n  Thresholds that were %s on the rows to fit on, without a promise\n",
              o.call_rate < 0 ? "right most often" : ("asked for " + percent(o.call_rate)).c_str());
  std::printf("  %-*s  %-16s%-10s%-10s%-10s%s\n", width, "", "threshold", "sent", "right", "cost",
              held.groups.empty() ? "" : "sent, per group");
  for (const auto& one : all) {
    if (!one.threshold.fitted) continue;
    const auto& at = one.threshold.all;
    std::printf("  %-*s  %-16.6g%-10s%-10s%-10.4g", width, one.name.c_str(), one.threshold.value,
                percent(at.call_rate).c_str(), percent(at.quality).c_str(), at.cost);
    for (std::size_t g = 0; g < held.groups.size() && g < 8; ++g) {
      std::printf("%s %s  ", held.groups[g].c_str(),
                  percent(one.threshold.groups[g].call_rate).c_str());
    }
    std::printf("%s\n", held.groups.size() > 8 ? "..." : "");
  }
}

json point_json(const router::curve_point& p) {
  return {{"call_rate", number_or_null(p.call_rate)},
          {"quality", number_or_null(p.quality)},
          {"cost", number_or_null(p.cost)}};
}

/// At most 201 points, evenly spread over the steps.
json curve_json(const std::vector<router::curve_point>& curve) {
  json points = json::array();
  const std::size_t last = curve.size() - 1, count = std::min<std::size_t>(last, 200);
  for (std::size_t i = 0; i <= count; ++i) {
    points.push_back(point_json(curve[count == 0 ? 0 : i * last / count]));
  }
  return points;
}

void fill(const std::vector<contestant>& all, const report_cards& cards, const route_rows& fit,
          const route_rows& held, const route_eval_options& o, json& report) {
  report["rows"] = {{"judged", held.size()}, {"fit", fit.size()}, {"split", held.split}};
  report["draws"] = o.draws;
  for (std::size_t s = 0; s < all.size(); ++s) {
    const bool is_score = all[s].is == contestant::role::score;
    json one;
    one["name"] = all[s].name;
    one["is"] = is_score ? "score" : all[s].is == contestant::role::bound ? "bound" : "baseline";
    for (std::size_t m = 0; m < router::router_metrics; ++m) {
      const auto which = static_cast<router_metric>(m);
      if (!std::isfinite(cards[s][which])) continue;
      one[std::string(name(which))] = {{"value", cards[s][which]},
                                       {"interval", pair_of(cards[s].middle(which))}};
    }
    for (std::size_t b = 0; b < all.size() && is_score && o.draws > 0; ++b) {
      if (all[b].is != contestant::role::baseline) continue;
      for (const auto which : {router_metric::apgr, router_metric::auroc}) {
        one["better_than"][all[b].name][std::string(name(which))] = {
            {"value", number_or_null(cards[s][which] - cards[b][which])},
            {"interval", pair_of(cards[s].difference(cards[b], which))}};
      }
    }
    if (all[s].threshold.fitted) {
      json& at = one["realised"] = point_json(all[s].threshold.all);
      at["threshold"] = all[s].threshold.value;
      // Behind each other: to look each name up takes groups times groups.
      if (!held.groups.empty()) at["groups"] = json::object();
      for (std::size_t g = 0; g < held.groups.size(); ++g) {
        at["groups"].get_ref<json::object_t&>().push_back(
            {held.groups[g], point_json(all[s].threshold.groups[g])});
      }
    }
    one["curve"] = curve_json(cost_quality_curve(all[s].judged.order, held.outcomes()));
    report["scores"].push_back(std::move(one));
  }
}

}  // namespace

result<void> run(const route_eval_options& o, json& report) {
  CRAYON_TRY(const route_rows rows, read_route_rows(o.columns));
  const route_rows fit = rows.part(1), held = rows.part(0);
  if (held.size() == 0) return error{errc::bad_value, o.columns.file + ": no rows to judge on"};
  CRAYON_TRY(const auto all, line_up(fit, held, o));

  std::vector<router::judged_score> judged;
  for (const auto& one : all) judged.push_back(one.judged);
  const auto resampler = o.columns.by_group
                             ? router::row_resampler(held.group, held.groups.size(), o.columns.seed)
                             : router::row_resampler(held.size(), o.columns.seed);
  progress_bar bar("intervals");
  const auto cards =
      router::evaluate(judged, {held.outcomes(), held.near, held.far}, resampler, o.draws,
                       [&](std::size_t done) { bar.show(done + 1, o.draws); });
  print(all, cards, fit, held, o);
  fill(all, cards, fit, held, o, report);
  if (o.svg.empty()) return {};
  std::vector<plot_line> lines;
  for (const auto& one : all) {
    lines.push_back({one.name, cost_quality_curve(one.judged.order, held.outcomes())});
  }
  return io::write_text(o.svg, quality_plot(lines, !held.server_cost.empty()));
}

}  // namespace crayon::cli
