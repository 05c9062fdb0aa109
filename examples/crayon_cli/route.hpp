// SPDX-License-Identifier: MIT
// The rows of `crayon route`: scores and outcomes, as a CSV file has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <crayon/core/result.hpp>
#include <crayon/router/evaluate.hpp>

#include "commands.hpp"

namespace crayon::cli {

struct route_score {
  std::string name;
  bool rises = true;          ///< larger is riskier
  std::vector<double> value;  ///< rounded to f32, as signals are

  /// Turned so that larger is riskier.
  [[nodiscard]] std::vector<double> risk() const;
};

/// Optional columns that the file does not have are empty.
struct route_rows {
  std::vector<route_score> scores;
  std::vector<std::uint8_t> device_ok, server_ok;
  std::vector<double> device_cost, server_cost;
  std::vector<std::size_t> group;  ///< into `groups`
  std::vector<std::string> groups;
  std::vector<std::uint8_t> near, far;
  std::vector<double> length;
  std::vector<std::uint8_t> fit;  ///< 1: to fit on, 0: to judge on
  std::string split;              ///< how they were told apart, in words

  [[nodiscard]] std::size_t size() const noexcept { return device_ok.size(); }
  [[nodiscard]] router::routing_outcomes outcomes() const noexcept {
    return {device_ok, server_ok, device_cost, server_cost};
  }
  /// 1 where the device was wrong.
  [[nodiscard]] std::vector<std::uint8_t> wrong() const;
  /// The rows whose `fit` is that.
  [[nodiscard]] route_rows part(std::uint8_t which) const;
};

[[nodiscard]] result<route_rows> read_route_rows(const route_columns& columns);

/// One line of the plot.
struct plot_line {
  std::string name;
  std::vector<router::curve_point> points;
};

/// Quality against cost (a call, or what the file says) as SVG that needs nothing else.
[[nodiscard]] std::string quality_plot(const std::vector<plot_line>& lines, bool has_costs);

}  // namespace crayon::cli
