// SPDX-License-Identifier: MIT
// What fixtures/make_evaluation.py wrote.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "../catch.hpp"

namespace crayon::router_test {

/// "name value" lines.
inline std::map<std::string, double> expected_values(const std::string& name) {
  std::ifstream file(CRAYON_FIXTURES "/" + name);
  std::map<std::string, double> values;
  std::string key;
  double value = 0;
  while (file >> key >> value) values[key] = value;
  REQUIRE(!values.empty());
  return values;
}

/// The columns of evaluation.csv.
struct evaluation_rows {
  std::vector<double> risk, tied, probability, device_cost, server_cost;
  std::vector<std::uint8_t> device_ok, server_ok, wrong;
  std::vector<std::string> scope;
  std::vector<std::uint8_t> fit;
};

inline evaluation_rows read_evaluation() {
  std::ifstream file(CRAYON_FIXTURES "/evaluation.csv");
  evaluation_rows rows;
  std::string line, cell;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::vector<std::string> cells;
    for (std::istringstream parts(line); std::getline(parts, cell, ',');) cells.push_back(cell);
    rows.risk.push_back(std::stod(cells.at(0)));
    rows.tied.push_back(std::stod(cells.at(1)));
    rows.probability.push_back(std::stod(cells.at(2)));
    rows.device_ok.push_back(cells.at(3) == "1");
    rows.wrong.push_back(cells.at(3) == "0");
    rows.server_ok.push_back(cells.at(4) == "1");
    rows.device_cost.push_back(std::stod(cells.at(5)));
    rows.server_cost.push_back(std::stod(cells.at(6)));
    rows.scope.push_back(cells.at(7));
    rows.fit.push_back(cells.at(9).starts_with("fit"));
  }
  REQUIRE(rows.risk.size() == 400);
  return rows;
}

/// The rows whose flag is `value`.
template <class T>
std::vector<T> part(const std::vector<T>& all, const std::vector<std::uint8_t>& flag, bool value) {
  std::vector<T> chosen;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if ((flag[i] != 0) == value) chosen.push_back(all[i]);
  }
  return chosen;
}

}  // namespace crayon::router_test
