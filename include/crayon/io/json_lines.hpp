// SPDX-License-Identifier: MIT
// Text data as JSON lines: {"prompt": ..., "completion": ..., "task": ...}. Needs nlohmann_json.
#pragma once

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>
#include <crayon/io/json.hpp>
#include <crayon/io/text_sample.hpp>

namespace crayon::io {

/// The samples of one file. Empty lines are skipped; a file without samples, or a line that is not
/// such an object, is an error that names file and line. Task and group may be left out.
[[nodiscard]] inline result<std::vector<text_sample>> read_json_lines(const std::string& path) {
  CRAYON_TRY(const std::string text, read_text(path));
  std::vector<text_sample> samples;
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
    const auto object = parse_json(line);
    if (!object.is_object()) return bad("not a JSON object");
    const auto field = [&](const char* name, bool required) -> result<std::string> {
      const auto at = object.find(name);
      if (at == object.end() && !required) return std::string();
      if (at == object.end()) return bad(std::string("no \"") + name + "\"");
      if (!at->is_string()) return bad(std::string("\"") + name + "\" is not a string");
      return at->get<std::string>();
    };
    text_sample s;
    CRAYON_TRY(s.prompt, field("prompt", true));
    CRAYON_TRY(s.completion, field("completion", true));
    CRAYON_TRY(s.task, field("task", false));
    CRAYON_TRY(s.group, field("group", false));
    if (s.prompt.empty()) return bad("\"prompt\" is empty");
    samples.push_back(std::move(s));
  }
  if (samples.empty()) return error{errc::bad_format, path + ": no samples"};
  return samples;
}

/// The same, or all files *.jsonl of a folder in the order of their names; there a line without a
/// task has its file's name, without .jsonl, as its task.
[[nodiscard]] inline result<std::vector<text_sample>> read_samples(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) return read_json_lines(path);
  constexpr std::string_view suffix = ".jsonl";
  std::vector<std::string> names;
  DIR* directory = ::opendir(path.c_str());
  if (directory == nullptr) return file_error("read", path, errno);
  while (const dirent* entry = ::readdir(directory)) {
    const std::string_view name = entry->d_name;
    if (name.size() > suffix.size() && name.ends_with(suffix)) names.emplace_back(name);
  }
  ::closedir(directory);
  if (names.empty()) return error{errc::not_found, path + ": no file *.jsonl"};
  std::sort(names.begin(), names.end());
  std::vector<text_sample> all;
  for (const auto& name : names) {
    CRAYON_TRY(auto samples, read_json_lines(path + "/" + name));
    for (auto& s : samples) {
      if (s.task.empty()) s.task = name.substr(0, name.size() - suffix.size());
    }
    std::move(samples.begin(), samples.end(), std::back_inserter(all));
  }
  return all;
}

}  // namespace crayon::io
