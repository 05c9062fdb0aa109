// SPDX-License-Identifier: MIT
// The generator of the demo's texts: families of short question-answer tasks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <crayon/core/rng.hpp>

namespace crayon::demo {

/// One question and its answer, under one user's convention.
struct sample {
  std::string prompt;
  std::string completion;
  std::size_t task = 0;  ///< index into tasks()
};

/// One family of questions under one convention. Families with several tasks ask the same questions
/// and expect answers in another format, unit, direction or label set: the question does not say.
struct task {
  std::string_view family;
  std::string_view convention;  ///< empty where the question says everything
  std::size_t family_index = 0;
  std::size_t convention_index = 0;
};

/// All tasks, the tasks of a family next to each other.
[[nodiscard]] const std::vector<task>& tasks();

/// Number of families.
[[nodiscard]] std::size_t families();

/// The task of that name: "date/month day", "capital"; tasks().size() if there is none.
[[nodiscard]] std::size_t find_task(std::string_view name);

/// "date/month day", or the family alone where it has one convention.
[[nodiscard]] std::string name_of(std::size_t task);

/// Questions come in three splits by a hash of their text, so that no held-out question is ever
/// trained on, under any convention, nor used to choose a threshold.
enum class split : std::uint8_t { train, calibration, held_out };

/// Four questions in twenty are held out, one is for calibration.
[[nodiscard]] split split_of(std::string_view prompt);

/// A random sample of that task and split.
[[nodiscard]] sample generate(std::size_t task, split which, rng& random);

}  // namespace crayon::demo
