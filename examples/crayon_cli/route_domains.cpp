// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdio>
#include <map>
#include <type_traits>

#include <crayon/match/domain_file.hpp>
#include <crayon/match/fit_domains.hpp>

#include "commands.hpp"
#include "models.hpp"
#include "samples.hpp"

namespace crayon::cli {
namespace {

/// Of "date/month day" it is "date"; a task without a slash is its own.
std::string domain_of(const std::string& task) {
  return task.substr(0, task.find('/'));
}

/// Tasks and domains by number, in the order in which they come first.
struct numbered_tasks {
  std::vector<std::size_t> task;    ///< of each text
  std::vector<std::size_t> domain;  ///< of each task
  std::vector<std::string> tasks, domains;
};

result<numbered_tasks> number_tasks(const std::vector<sample>& texts, const std::string& path) {
  numbered_tasks made;
  std::map<std::string, std::size_t> tasks, domains;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::string& name = texts[i].task;
    if (name.empty()) {
      return error{errc::bad_format, path + ": sample " + std::to_string(i + 1) +
                                         " has no \"task\": \"domain/task\""};
    }
    const auto [at, is_new] = tasks.emplace(name, made.tasks.size());
    made.task.push_back(at->second);
    if (!is_new) continue;
    made.tasks.push_back(name);
    const auto [of, first] = domains.emplace(domain_of(name), made.domains.size());
    if (first) made.domains.push_back(of->first);
    made.domain.push_back(of->second);
  }
  return made;
}

}  // namespace

result<void> run(const route_domains_options& o, json& report) {
  CRAYON_CHECK(check_output_file(o.out));
  CRAYON_TRY(const auto texts, read_samples(o.texts));
  CRAYON_TRY(numbered_tasks known, number_tasks(texts, o.texts));
  CRAYON_TRY(const stored_model model, load_model(o.model.model));
  CRAYON_TRY(const llama2c_tokenizer tokens, load_tokenizer(o.model, model.config()));
  std::vector<std::vector<std::int32_t>> questions;
  std::size_t longest = 1;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    questions.push_back(engine::encode_prompt(tokens, texts[i].prompt));
    longest = std::max(longest, questions.back().size());
    if (longest > model.config().context) {
      return error{errc::bad_shape, o.texts + ": sample " + std::to_string(i + 1) + " has " +
                                        std::to_string(longest) +
                                        " tokens, the model's context is " +
                                        std::to_string(model.config().context)};
    }
  }
  const std::size_t width = match::question_parts * model.config().dim;
  std::vector<float> rows(questions.size() * width);
  model.visit([&](const auto& base) {
    thread_pool threads;
    session_of<std::decay_t<decltype(base)>> s(base, longest);
    progress_bar bar("embedding");
    for (std::size_t i = 0; i < questions.size(); ++i) {
      match::embed_question(s, questions[i], std::span(rows).subspan(i * width, width),
                            model::no_delta{}, threads);
      bar.show(i + 1, questions.size());
    }
  });
  match::domain_file file;
  auto made = match::fit_domains({rows.data(), questions.size(), width}, known.task,
                                 std::move(known.domain), o.sharpness);
  if (!made) return error{made.error().code, o.texts + ": " + made.error().text};
  file.space = *std::move(made);
  file.base_hash = model.hash();
  file.tasks = std::move(known.tasks);
  file.domains = std::move(known.domains);
  CRAYON_CHECK(match::save_domains(o.out, file));
  std::printf("%zu questions of %zu tasks of %zu domains, a space of %zu directions\n",
              questions.size(), file.tasks.size(), file.domains.size(), file.space.dim());
  report["questions"] = questions.size();
  report["tasks"] = file.tasks;
  report["domains"] = file.domains;
  report["directions"] = file.space.dim();
  report["hash"] = match::domain_hash(file.space);
  return {};
}

}  // namespace crayon::cli
