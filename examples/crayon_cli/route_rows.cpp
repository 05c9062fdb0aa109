// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <crayon/core/rng.hpp>
#include <crayon/io/csv.hpp>
#include <crayon/router/signals.hpp>

#include "route.hpp"

namespace crayon::cli {
namespace {

/// NAME, NAME:risk or NAME:confidence. A signal's own name says which it is.
route_score score_of(std::string text) {
  const auto cut = [&](std::string_view suffix) {
    if (!text.ends_with(suffix)) return false;
    text.resize(text.size() - suffix.size());
    return true;
  };
  if (cut(":risk")) return {text, true, {}};
  if (cut(":confidence")) return {text, false, {}};
  if (const auto signal = router::signal_of(text)) return {text, rises_with_risk(*signal), {}};
  return {text, text != "confidence", {}};
}

bool is_score_by_default(const std::string& name) {
  return router::signal_of(name) || name == "score" || name == "risk" || name == "confidence";
}

/// A column that was asked for must be there; one of the default name may be.
bool has(const io::csv_table& table, const route_column& column) {
  return column.asked || table.find(column.name);
}

/// Numbers of at most that size.
result<std::vector<double>> numbers_within(const io::csv_table& table, const std::string& name,
                                           double most, const char* expected) {
  CRAYON_TRY(auto values, io::number_column(table, name));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!(std::abs(values[i]) <= most)) return table.wrong_cell(i, *table.find(name), expected);
  }
  return values;
}

/// Rounded to f32, as signals are.
result<std::vector<double>> score_column(const io::csv_table& table, const std::string& name) {
  constexpr auto most = double{std::numeric_limits<float>::max()};
  return numbers_within(table, name, most, "a number of at most 3.4e38");
}

/// Sums of which are no infinity.
result<std::vector<double>> cost_column_if(const io::csv_table& table, const route_column& column) {
  if (!has(table, column)) return std::vector<double>();
  return numbers_within(table, column.name, 1e100, "a cost of at most 1e100");
}

result<void> read_groups(const io::csv_table& table, const route_column& column, route_rows& rows) {
  if (!has(table, column)) return {};
  CRAYON_TRY(const std::size_t at, io::column_of(table, column.name));
  for (const auto& row : table.rows) rows.groups.push_back(row[at]);
  std::sort(rows.groups.begin(), rows.groups.end());
  rows.groups.erase(std::unique(rows.groups.begin(), rows.groups.end()), rows.groups.end());
  for (const auto& row : table.rows) {
    const auto found = std::lower_bound(rows.groups.begin(), rows.groups.end(), row[at]);
    rows.group.push_back(static_cast<std::size_t>(found - rows.groups.begin()));
  }
  return {};
}

result<void> read_scope(const io::csv_table& table, const route_column& column, route_rows& rows) {
  if (!has(table, column)) return {};
  CRAYON_TRY(const std::size_t at, io::column_of(table, column.name));
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    const std::string& cell = table.rows[i][at];
    if (cell != "in" && cell != "near" && cell != "far") {
      return table.wrong_cell(i, at, "in, near or far");
    }
    rows.near.push_back(cell == "near");
    rows.far.push_back(cell == "far");
  }
  return {};
}

result<void> read_split(const io::csv_table& table, const route_columns& o, route_rows& rows) {
  const std::size_t n = table.rows.size();
  rows.fit.assign(n, 0);
  if (o.fit_share < 0 && has(table, o.split)) {
    CRAYON_TRY(const std::size_t at, io::column_of(table, o.split.name));
    for (std::size_t i = 0; i < n; ++i) {
      const std::string& cell = table.rows[i][at];
      if (cell != "fit" && cell != "eval") return table.wrong_cell(i, at, "fit or eval");
      rows.fit[i] = cell == "fit";
    }
    rows.split = "column " + o.split.name;
    return {};
  }
  if (o.by_group && rows.group.empty()) {
    return error{errc::not_found, table.path + ": no column of groups"};
  }
  // A random part of the rows, or of the groups.
  std::vector<std::size_t> units(o.by_group ? rows.groups.size() : n);
  std::iota(units.begin(), units.end(), std::size_t{0});
  rng random(o.seed);
  random.shuffle(units);
  const auto chosen = static_cast<std::size_t>((o.fit_share < 0 ? o.usual_share : o.fit_share) *
                                               static_cast<double>(units.size()));
  std::vector<std::uint8_t> fit(units.size(), 0);
  for (std::size_t i = 0; i < chosen; ++i) fit[units[i]] = 1;
  for (std::size_t i = 0; i < n; ++i) rows.fit[i] = fit[o.by_group ? rows.group[i] : i];
  rows.split = o.by_group ? "random whole groups" : "random rows";
  rows.split += ", seed " + std::to_string(o.seed);
  return {};
}

}  // namespace

std::vector<double> route_score::risk() const {
  std::vector<double> r = value;
  if (!rises) {
    for (double& x : r) x = -x;
  }
  return r;
}

std::vector<std::uint8_t> route_rows::wrong() const {
  std::vector<std::uint8_t> w = device_ok;
  for (auto& flag : w) flag = flag == 0;
  return w;
}

route_rows route_rows::part(std::uint8_t which) const {
  const auto take = [&](const auto& all) {
    auto some = all;
    some.clear();
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (fit[i] == which) some.push_back(all[i]);
    }
    return some;
  };
  route_rows made;
  for (const auto& s : scores) made.scores.push_back({s.name, s.rises, take(s.value)});
  made.device_ok = take(device_ok);
  made.server_ok = take(server_ok);
  made.device_cost = take(device_cost);
  made.server_cost = take(server_cost);
  // Only the groups that this part has.
  made.group = take(group);
  std::vector<std::size_t> number(groups.size(), 0);
  for (const std::size_t g : made.group) number[g] = 1;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (number[g] == 0) continue;
    number[g] = made.groups.size();
    made.groups.push_back(groups[g]);
  }
  for (std::size_t& g : made.group) g = number[g];
  made.near = take(near);
  made.far = take(far);
  made.length = take(length);
  made.fit = take(fit);
  made.split = split;
  return made;
}

result<route_rows> read_route_rows(const route_columns& o) {
  CRAYON_TRY(const io::csv_table table, io::read_csv(o.file));
  route_rows rows;
  CRAYON_TRY(rows.device_ok, io::flag_column(table, o.device_ok));
  CRAYON_TRY(rows.server_ok, io::flag_column(table, o.server_ok));
  CRAYON_TRY(rows.device_cost, cost_column_if(table, o.device_cost));
  CRAYON_TRY(rows.server_cost, cost_column_if(table, o.server_cost));
  if (has(table, o.length)) {
    CRAYON_TRY(rows.length, score_column(table, o.length.name));
  }
  CRAYON_CHECK(read_groups(table, o.group, rows));
  CRAYON_CHECK(read_scope(table, o.scope, rows));
  CRAYON_CHECK(read_split(table, o, rows));
  for (const auto& text : o.scores) rows.scores.push_back(score_of(text));
  for (const auto& name : table.columns) {
    if (o.scores.empty() && is_score_by_default(name)) rows.scores.push_back(score_of(name));
  }
  if (rows.scores.empty()) {
    return error{errc::not_found, table.path +
                                      ": no column has a signal's name; name the scores "
                                      "with --score"};
  }
  for (auto& score : rows.scores) {
    CRAYON_TRY(score.value, score_column(table, score.name));
    for (double& v : score.value) v = double{static_cast<float>(v)};
  }
  return rows;
}

}  // namespace crayon::cli
