// SPDX-License-Identifier: MIT
// Embeddings of questions of known tasks and domains -> a space of domains. Needs Eigen.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/match/discriminant.hpp>
#include <crayon/match/domain_space.hpp>
#include <crayon/match/question_embedding.hpp>

namespace crayon::match {

/// `embeddings` (n, D) of `embed_question`, `task` (n) numbered from 0, `domain` of each task,
/// numbered from 0. Errors: those of `fit_discriminant`; a task without a domain, one domain alone,
/// a sharpness that is not above 0.
[[nodiscard]] inline result<domain_space> fit_domains(matrix_view<const float> embeddings,
                                                      std::span<const std::size_t> task,
                                                      std::vector<std::size_t> domain,
                                                      float sharpness = 0.125F) {
  const std::size_t tasks = domain.size();
  const auto last = task.empty() ? task.end() : std::max_element(task.begin(), task.end());
  if (last == task.end() || *last + 1 != tasks) {
    return error{errc::bad_value, std::to_string(last == task.end() ? 0 : *last + 1) +
                                      " tasks have texts, " + std::to_string(tasks) +
                                      " have a domain"};
  }
  if (!(sharpness > 0 && std::isfinite(sharpness))) {
    return error{errc::bad_value,
                 "sharpness is " + std::to_string(sharpness) + ", needs a number above 0"};
  }
  domain_space made;
  made.domains = *std::max_element(domain.begin(), domain.end()) + 1;
  if (made.domains < 2 || made.domains > tasks) {
    return error{errc::bad_value, std::to_string(tasks) + " tasks of " +
                                      std::to_string(made.domains) +
                                      " domains; needs 2 or more, each with a task"};
  }
  made.sharpness = sharpness;
  made.domain = std::move(domain);
  CRAYON_TRY(made.space, fit_discriminant(embeddings, task, std::min(tasks - 1, embeddings.cols),
                                          question_parts));
  const std::size_t d = made.space.size(embeddings.cols);
  std::vector<double> sums(tasks * d);
  std::vector<std::size_t> count(tasks);
  std::vector<float> y(d);
  made.means.resize(tasks * d);
  for (std::size_t i = 0; i < embeddings.rows; ++i) {
    made.whiten({embeddings.row(i), embeddings.cols}, y);
    for (std::size_t j = 0; j < d; ++j) sums[task[i] * d + j] += double{y[j]};
    ++count[task[i]];
  }
  for (std::size_t k = 0; k < tasks; ++k) {
    for (std::size_t j = 0; j < d; ++j) {
      made.means[k * d + j] = static_cast<float>(sums[k * d + j] / static_cast<double>(count[k]));
    }
  }
  return made;
}

}  // namespace crayon::match
