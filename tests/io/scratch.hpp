// SPDX-License-Identifier: MIT
// A directory for one test, gone at its end.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace crayon_test {

class scratch {
 public:
  scratch() {
    auto name = (std::filesystem::temp_directory_path() / "crayon-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;
  ~scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] std::string operator/(std::string_view name) const {
    return path_ + "/" + std::string(name);
  }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// The names in the directory, sorted.
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      found.push_back(entry.path().filename().string());
    }
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  std::string path_;
};

inline void put(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

[[nodiscard]] inline std::string get(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

[[nodiscard]] inline bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// The shared data, or "" where it is absent.
[[nodiscard]] inline std::string data_path(std::string_view relative) {
  const char* set = std::getenv("CRAYON_DATA");
#ifdef CRAYON_SOURCE_DIR
  const std::string root = set != nullptr ? set : CRAYON_SOURCE_DIR "/../shared/data";
#else
  const std::string root = set != nullptr ? set : "../shared/data";
#endif
  const std::string path = root + "/" + std::string(relative);
  return std::filesystem::exists(path) ? path : "";
}

}  // namespace crayon_test
