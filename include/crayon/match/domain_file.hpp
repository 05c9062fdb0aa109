// SPDX-License-Identifier: MIT
// A space of domains on disk: one safetensors file, bound to the model whose states it places.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/core/hash.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/json.hpp>
#include <crayon/io/safetensors.hpp>
#include <crayon/io/safetensors_write.hpp>
#include <crayon/match/domain_space.hpp>
#include <crayon/match/question_embedding.hpp>

namespace crayon::match {

/// Tensors centre (1, D), projection (d, D), means (tasks, d), F32; in the metadata "format":
/// "crayon-domains-1", "base_hash", "sharpness", and "tasks", a JSON list of pairs [task, domain]
/// in the order of means. Domains are numbered in the order in which they come first.
struct domain_file {
  domain_space space;
  std::string base_hash;             ///< of the model's weights
  std::vector<std::string> tasks;    ///< names, in the order of `space.means`
  std::vector<std::string> domains;  ///< names, by number
};

/// Identity of what a space measures: routers are bound to it.
[[nodiscard]] inline std::string domain_hash(const domain_space& space) {
  hasher h;
  for (const auto* values : {&space.space.centre, &space.space.projection, &space.means}) {
    h.add(values->data(), values->size() * sizeof(float));
  }
  for (const std::size_t d : space.domain) h.add(&d, sizeof d);
  h.add(&space.sharpness, sizeof space.sharpness);
  return h.hex();
}

/// As a whole or not at all.
[[nodiscard]] inline result<void> save_domains(const std::string& path, const domain_file& file) {
  const domain_space& s = file.space;
  CRAYON_ASSERT(file.tasks.size() == s.domain.size() && file.domains.size() == s.domains);
  nlohmann::json tasks = nlohmann::json::array();
  for (std::size_t k = 0; k < s.domain.size(); ++k) {
    tasks.push_back({file.tasks[k], file.domains[s.domain[k]]});
  }
  const std::size_t wide = s.embedding(), d = s.dim();
  return io::write_safetensors(
      path,
      {io::tensor_of("centre", matrix_view<const float>(s.space.centre.data(), 1, wide)),
       io::tensor_of("projection", matrix_view<const float>(s.space.projection.data(), d, wide)),
       io::tensor_of("means", matrix_view<const float>(s.means.data(), s.domain.size(), d))},
      {{"format", "crayon-domains-1"},
       {"base_hash", file.base_hash},
       {"sharpness", nlohmann::json(s.sharpness).dump()},
       {"tasks", tasks.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)}});
}

/// Errors name the file and what is wrong with it.
[[nodiscard]] inline result<domain_file> load_domains(const std::string& path) {
  CRAYON_TRY(const io::safetensors file, io::safetensors::open(path));
  const auto bad = [&](const std::string& text) {
    return error{errc::bad_format, path + ": " + text};
  };
  const auto meta = [&](const char* key) {
    const auto at = file.metadata().find(key);
    return at == file.metadata().end() ? std::string() : at->second;
  };
  if (meta("format") != "crayon-domains-1") {
    return bad("format is \"" + meta("format") + "\", expected \"crayon-domains-1\"");
  }
  domain_file made;
  domain_space& s = made.space;
  made.base_hash = meta("base_hash");
  if (made.base_hash.empty()) return bad("base_hash is missing: which model it is for");
  const auto sharpness = io::parse_json(meta("sharpness"));
  if (!sharpness.is_number() || !(sharpness.get<float>() > 0) ||
      !std::isfinite(sharpness.get<float>())) {
    return bad("sharpness is \"" + meta("sharpness") + "\", expected a number above 0");
  }
  s.sharpness = sharpness.get<float>();
  const auto tasks = io::parse_json(meta("tasks"));
  if (!tasks.is_array()) return bad("tasks is not a JSON list");
  for (const auto& pair : tasks) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) {
      return bad("a task is " + pair.dump() + ", expected [task, domain]");
    }
    const auto domain = pair[1].get<std::string>();
    const auto at = std::find(made.domains.begin(), made.domains.end(), domain);
    s.domain.push_back(static_cast<std::size_t>(at - made.domains.begin()));
    if (at == made.domains.end()) made.domains.push_back(domain);
    made.tasks.push_back(pair[0].get<std::string>());
  }
  s.domains = made.domains.size();
  if (s.domains < 2) {
    return bad(std::to_string(s.domains) + " domains, needs 2 or more");
  }
  const io::tensor* projection = file.find("projection");
  if (projection == nullptr || projection->shape.size() != 2 || projection->shape[0] == 0 ||
      projection->shape[1] == 0 || projection->shape[1] % question_parts != 0) {
    return bad("tensor projection is missing, or is not (d, D) with D a multiple of " +
               std::to_string(question_parts));
  }
  const std::size_t d = projection->shape[0], wide = projection->shape[1], count = s.domain.size();
  const auto read = [&](const char* name, std::vector<float>& to, std::size_t rows,
                        std::size_t cols) {
    const io::tensor* found = file.find(name);  // no room for more than the file has
    if (found != nullptr && found->shape == std::vector<std::size_t>{rows, cols}) {
      to.resize(rows * cols);
    }
    return io::read_matrix(file, name, matrix_view<float>(to.data(), rows, cols));
  };
  CRAYON_CHECK(read("centre", s.space.centre, 1, wide));
  CRAYON_CHECK(read("projection", s.space.projection, d, wide));
  CRAYON_CHECK(read("means", s.means, count, d));
  return made;
}

}  // namespace crayon::match
