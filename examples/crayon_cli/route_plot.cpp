// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string_view>

#include <crayon/core/utf8.hpp>

#include "route.hpp"

namespace crayon::cli {
namespace {

constexpr double width = 720, height = 460, left = 64, right = 180, top = 24, bottom = 52;

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string short_text(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

/// As XML has it; at most so many characters, the last of them dots where there are more.
std::string escaped(const std::string& text, std::size_t most) {
  const std::string valid = valid_utf8(text);
  std::string safe;
  std::size_t count = 0;
  for (std::string_view rest = valid; !rest.empty();) {
    const std::string_view one = rest.substr(0, leading_utf8(rest));
    rest.remove_prefix(one.size());
    // Control characters and the two that are none have no place in XML.
    if (one < " " || one == "\xEF\xBF\xBE" || one == "\xEF\xBF\xBF") continue;
    if (++count == most && !rest.empty()) return safe + "\xE2\x80\xA6";
    safe += one == "<" ? "&lt;" : one == ">" ? "&gt;" : one == "&" ? "&amp;" : one;
  }
  return safe;
}

/// Data -> pixels.
struct axes {
  double x_low, x_high, y_low, y_high;

  [[nodiscard]] double x(double v) const {
    return left + (v - x_low) / (x_high - x_low) * (width - left - right);
  }
  [[nodiscard]] double y(double v) const {
    return height - bottom - (v - y_low) / (y_high - y_low) * (height - top - bottom);
  }
};

/// More characters than the longest of the plot's own.
constexpr std::size_t whole = 100;

std::string label(double x, double y, const std::string& anchor, const std::string& text,
                  std::size_t most = whole) {
  return "<text x=\"" + fixed(x, 1) + "\" y=\"" + fixed(y, 1) + "\" text-anchor=\"" + anchor +
         "\">" + escaped(text, most) + "</text>\n";
}

std::string segment(double x1, double y1, double x2, double y2, const std::string& style) {
  return "<line x1=\"" + fixed(x1, 1) + "\" y1=\"" + fixed(y1, 1) + "\" x2=\"" + fixed(x2, 1) +
         "\" y2=\"" + fixed(y2, 1) + "\" " + style + "/>\n";
}

}  // namespace

std::string quality_plot(const std::vector<plot_line>& lines, bool has_costs) {
  const auto place = [&](const router::curve_point& p) { return has_costs ? p.cost : p.call_rate; };
  axes a{1e300, -1e300, 1e300, -1e300};
  for (const auto& line : lines) {
    for (const auto& p : line.points) {
      a = {std::min(a.x_low, place(p)), std::max(a.x_high, place(p)), std::min(a.y_low, p.quality),
           std::max(a.y_high, p.quality)};
    }
  }
  const double room = std::max(a.y_high - a.y_low, 1e-3) * 0.05;
  a.y_low -= room;
  a.y_high += room;
  // At least as wide as the numbers there are told apart.
  a.x_high = std::max(a.x_high, a.x_low + std::max(1e-9 * std::abs(a.x_low), 1e-9));
  const double entry = 18;
  const double canvas = std::max(height, top + 20 + entry * static_cast<double>(lines.size()));

  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + fixed(width, 0) +
                    " " + fixed(canvas, 0) +
                    "\" font-family=\"sans-serif\" font-size=\"12\">\n"
                    "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  for (int i = 0; i <= 5; ++i) {
    const double x = a.x_low + (a.x_high - a.x_low) * i / 5;
    const double y = a.y_low + (a.y_high - a.y_low) * i / 5;
    const std::string grid = "stroke=\"#dddddd\"";
    svg += segment(a.x(x), a.y(a.y_low), a.x(x), a.y(a.y_high), grid);
    svg += segment(a.x(a.x_low), a.y(y), a.x(a.x_high), a.y(y), grid);
    svg += label(a.x(x), height - bottom + 18, "middle",
                 has_costs ? short_text(x) : fixed(100 * x, 0) + " %");
    svg += label(left - 8, a.y(y) + 4, "end", fixed(100 * y, 1) + " %");
  }
  svg += label((left + width - right) / 2, height - 12, "middle",
               has_costs ? "mean cost of a query" : "queries sent to the server");
  svg += label(left, top - 8, "start", "right answers");

  // Of Okabe and Ito: told apart by the colour-blind too.
  constexpr std::array colours{"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                               "#E69F00", "#56B4E9", "#000000", "#8C8C00"};
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string stroke =
        "fill=\"none\" stroke=\"" + std::string(colours[i % colours.size()]) +
        "\" stroke-width=\"1.8\"" + (i < colours.size() ? "" : " stroke-dasharray=\"5 3\"");
    svg += "<polyline " + stroke + " points=\"";
    double x_before = -1, y_before = -1;
    for (const auto& p : lines[i].points) {
      // Points that a reader cannot tell apart are left out, but for the last.
      const double x = a.x(place(p)), y = a.y(p.quality);
      if (std::hypot(x - x_before, y - y_before) < 0.5 && &p != &lines[i].points.back()) continue;
      svg += fixed(x, 1) + "," + fixed(y, 1) + " ";
      x_before = x;
      y_before = y;
    }
    svg += "\"/>\n";
    const double at = top + 10 + entry * static_cast<double>(i);
    svg += segment(width - right + 12, at - 4, width - right + 32, at - 4, stroke);
    svg += label(width - right + 38, at, "start", lines[i].name, 24);
  }
  return svg + "</svg>\n";
}

}  // namespace crayon::cli
