// SPDX-License-Identifier: MIT
#include "samples.hpp"

#include <string_view>

#include <nlohmann/json.hpp>

#include <crayon/io/file.hpp>

namespace crayon::cli {

result<std::vector<sample>> read_samples(const std::string& path) {
  CRAYON_TRY(const std::string text, io::read_text(path));
  std::vector<sample> samples;
  std::size_t number = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto bad = [&](const std::string& what) {
      return error{errc::bad_format, path + ":" + std::to_string(number) + ": " + what};
    };
    const auto object = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
    if (!object.is_object()) return bad("not a JSON object");
    const auto field = [&](const char* name, bool required) -> result<std::string> {
      const auto at = object.find(name);
      if (at == object.end() && !required) return std::string();
      if (at == object.end()) return bad(std::string("no \"") + name + "\"");
      if (!at->is_string()) return bad(std::string("\"") + name + "\" is not a string");
      return at->get<std::string>();
    };
    sample s;
    CRAYON_TRY(s.prompt, field("prompt", true));
    CRAYON_TRY(s.completion, field("completion", true));
    CRAYON_TRY(s.task, field("task", false));
    if (s.prompt.empty()) return bad("\"prompt\" is empty");
    samples.push_back(std::move(s));
  }
  if (samples.empty()) return error{errc::bad_format, path + ": no samples"};
  return samples;
}

}  // namespace crayon::cli
