// SPDX-License-Identifier: MIT
// Tables as comma-separated values (RFC 4180): a row of column names, then rows of as many cells.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>

namespace crayon::io {

struct csv_table {
  std::string path;                  ///< stands in errors
  std::vector<std::string> columns;  ///< names, each once
  std::vector<std::vector<std::string>> rows;
  std::vector<std::size_t> lines;  ///< where each row starts, from 1

  [[nodiscard]] std::optional<std::size_t> find(std::string_view column) const {
    const auto at = std::find(columns.begin(), columns.end(), column);
    if (at == columns.end()) return std::nullopt;
    return static_cast<std::size_t>(at - columns.begin());
  }

  /// "path:line: column "name" is "cell", expected <what>".
  [[nodiscard]] error wrong_cell(std::size_t row, std::size_t column, std::string_view what) const {
    std::string text = path + ":" + std::to_string(lines[row]) + ": column \"" + columns[column];
    text.append("\" is \"").append(rows[row][column].substr(0, 40));
    return {errc::bad_value, text.append("\", expected ").append(what)};
  }
};

namespace detail {

/// Reads one row from `rest` and counts the lines that it ends.
[[nodiscard]] inline result<std::vector<std::string>> csv_row(std::string_view& rest,
                                                              std::size_t& line) {
  std::vector<std::string> cells(1);
  bool quoted = false, closed = false;
  while (!rest.empty()) {
    const char c = rest.front();
    rest.remove_prefix(1);
    if (c == '\n') ++line;
    if (quoted) {
      if (c != '"') {
        cells.back() += c;
      } else if (!rest.empty() && rest.front() == '"') {
        cells.back() += c;
        rest.remove_prefix(1);
      } else {
        quoted = false;
        closed = true;
      }
    } else if (c == '\n') {
      return cells;
    } else if (c == ',') {
      cells.emplace_back();
      closed = false;
    } else if (c == '"' && cells.back().empty() && !closed) {
      quoted = true;
    } else if (c == '\r' && (rest.empty() || rest.front() == '\n')) {
      continue;
    } else if (closed) {
      return error{errc::bad_format, "text after a closing quote"};
    } else {
      cells.back() += c;
    }
  }
  if (quoted) return error{errc::bad_format, "a quote is not closed"};
  return cells;
}

}  // namespace detail

/// `path` stands in errors. Empty lines are skipped, and a byte order mark. A table without rows,
/// two columns of one name, or a row with another number of cells is an error.
[[nodiscard]] inline result<csv_table> parse_csv(std::string path, std::string_view text) {
  csv_table table;
  table.path = std::move(path);
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  for (std::size_t line = 1; !text.empty();) {
    const std::size_t start = line;
    const auto bad = [&](const std::string& what) {
      return error{errc::bad_format, table.path + ":" + std::to_string(start) + ": " + what};
    };
    auto cells = detail::csv_row(text, line);
    if (!cells) return bad(cells.error().text);
    if (cells->size() == 1 && cells->front().empty()) continue;
    if (table.columns.empty()) {
      table.columns = *std::move(cells);
      for (std::size_t i = 0; i < table.columns.size(); ++i) {
        if (table.find(table.columns[i]) != i) {
          return bad("two columns are named \"" + table.columns[i] + "\"");
        }
      }
      continue;
    }
    if (cells->size() != table.columns.size()) {
      return bad(std::to_string(cells->size()) + " cells, expected " +
                 std::to_string(table.columns.size()));
    }
    table.rows.push_back(*std::move(cells));
    table.lines.push_back(start);
  }
  if (table.rows.empty()) return error{errc::bad_format, table.path + ": no rows"};
  return table;
}

[[nodiscard]] inline result<csv_table> read_csv(const std::string& path) {
  CRAYON_TRY(const mapped_file file, mapped_file::open(path));
  const auto bytes = file.bytes();
  return parse_csv(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

/// The column of that name; an error names those that there are.
[[nodiscard]] inline result<std::size_t> column_of(const csv_table& table, std::string_view name) {
  if (const auto at = table.find(name)) return *at;
  std::string text = table.path + ": no column \"" + std::string(name) + "\"; there are";
  for (const auto& column : table.columns) text.append(" ").append(column);
  return error{errc::not_found, text};
}

/// Finite numbers.
[[nodiscard]] inline result<std::vector<double>> number_column(const csv_table& table,
                                                               std::string_view name) {
  CRAYON_TRY(const std::size_t column, column_of(table, name));
  std::vector<double> values(table.rows.size());
  for (std::size_t row = 0; row < values.size(); ++row) {
    const std::string& cell = table.rows[row][column];
    const auto [end, fault] = std::from_chars(cell.data(), cell.data() + cell.size(), values[row]);
    if (fault != std::errc() || end != cell.data() + cell.size() || !std::isfinite(values[row])) {
      return table.wrong_cell(row, column, "a number");
    }
  }
  return values;
}

/// 0 or 1, also false or true, in any case.
[[nodiscard]] inline result<std::vector<std::uint8_t>> flag_column(const csv_table& table,
                                                                   std::string_view name) {
  CRAYON_TRY(const std::size_t column, column_of(table, name));
  std::vector<std::uint8_t> values(table.rows.size());
  for (std::size_t row = 0; row < values.size(); ++row) {
    std::string cell = table.rows[row][column];
    for (char& c : cell) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (cell != "0" && cell != "1" && cell != "false" && cell != "true") {
      return table.wrong_cell(row, column, "0, 1, false or true");
    }
    values[row] = cell == "1" || cell == "true";
  }
  return values;
}

}  // namespace crayon::io
