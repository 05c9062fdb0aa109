// SPDX-License-Identifier: MIT
// Routers on the texts of RouteLLM's MMLU outcomes, for `crayon route eval` to judge:
//   crayon_mmlu_scores RESPONSES PREFIX [MODEL TOKENIZER]
// Trained on a half of the subjects, so that whole subjects are new at judgement, and on a half of
// the rows; PREFIX-subjects.csv and PREFIX-rows.csv have the other half: scores
// <words|model>_<linear|knn>_<error|gain>, trained on the device's errors or on those that the
// server does not make; device_ok (Mixtral-8x7B), server_ok (GPT-4), length in characters, group
// (the subject).
#include <crayon/router/evaluate_baselines.hpp>

#include <dirent.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include <crayon/io/csv.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/model/llama.hpp>
#include <crayon/model/load_llama.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/tokenizer/llama2c_tokenizer.hpp>

namespace {

using namespace crayon;

struct question {
  std::string prompt, subject;
  std::uint8_t weak = 0, strong = 0;
};

result<std::vector<question>> read_questions(const std::string& folder) {
  std::vector<std::string> names;
  if (DIR* directory = ::opendir(folder.c_str())) {
    while (const dirent* entry = ::readdir(directory)) {
      if (std::string_view(entry->d_name).ends_with(".csv")) names.emplace_back(entry->d_name);
    }
    ::closedir(directory);
  }
  if (names.empty()) return error{errc::not_found, folder + ": no file *.csv"};
  std::sort(names.begin(), names.end());
  std::vector<question> all;
  for (const auto& name : names) {
    CRAYON_TRY(const auto table, io::read_csv(folder + "/" + name));
    if (table.columns.size() != 3) return error{errc::bad_format, name + ": not three columns"};
    CRAYON_TRY(const auto weak, io::flag_column(table, table.columns[1]));
    CRAYON_TRY(const auto strong, io::flag_column(table, table.columns[2]));
    for (std::size_t i = 0; i < table.rows.size(); ++i) {
      all.push_back({table.rows[i][0], name.substr(0, name.size() - 4), weak[i], strong[i]});
    }
  }
  return all;
}

/// 1 where a question is trained on.
std::vector<std::uint8_t> split(const std::vector<question>& all, bool by_subject) {
  std::vector<std::string> units;
  for (std::size_t i = 0; i < all.size(); ++i) {
    units.push_back(by_subject ? all[i].subject : std::to_string(i));
  }
  std::vector<std::string> kinds = units;
  std::sort(kinds.begin(), kinds.end());
  kinds.erase(std::unique(kinds.begin(), kinds.end()), kinds.end());
  rng random(1);
  random.shuffle(kinds);
  kinds.resize(kinds.size() / 2);
  std::sort(kinds.begin(), kinds.end());
  std::vector<std::uint8_t> known;
  for (const auto& unit : units) {
    known.push_back(std::binary_search(kinds.begin(), kinds.end(), unit));
  }
  return known;
}

struct embeddings {
  std::size_t width = 0;
  std::vector<float> rows;

  [[nodiscard]] std::vector<float> part(const std::vector<std::uint8_t>& known, bool which) const {
    std::vector<float> some;
    for (std::size_t i = 0; i < known.size(); ++i) {
      const auto first = rows.begin() + static_cast<std::ptrdiff_t>(i * width);
      if ((known[i] != 0) == which) {
        some.insert(some.end(), first, first + static_cast<std::ptrdiff_t>(width));
      }
    }
    return some;
  }
};

embeddings of_words(const std::vector<question>& all) {
  embeddings made{512, std::vector<float>(512 * all.size())};
  for (std::size_t i = 0; i < all.size(); ++i) {
    router::hashed_words(all[i].prompt, std::span(made.rows).subspan(i * made.width, made.width));
  }
  return made;
}

/// The mean of the hidden states of a question's last 128 tokens.
result<embeddings> of_model(const std::vector<question>& all, const std::string& path,
                            const std::string& tokenizer_path) {
  CRAYON_TRY(const auto weights, model::load_llama<float>(path));
  CRAYON_TRY(const auto tokens,
             tokenizer::llama2c_tokenizer::load(tokenizer_path, weights.config().vocab));
  constexpr std::size_t longest = 128;
  const std::size_t dim = weights.config().dim;
  model::llama_session<simd::highway_dynamic, float> session(weights, longest);
  embeddings made{dim, std::vector<float>(dim * all.size())};
  std::vector<float> f(match::mean_pooling::size(dim));
  for (std::size_t i = 0; i < all.size(); ++i) {
    auto ids = tokens.encode(all[i].prompt);
    if (ids.size() > longest)
      ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(longest));
    match::embed<match::mean_pooling>(session, ids, ids.size(), f);
    std::copy_n(f.begin(), dim, made.rows.begin() + static_cast<std::ptrdiff_t>(i * dim));
    if (i % 1000 == 0) std::fprintf(stderr, "%zu of %zu embedded\n", i, all.size());
  }
  return made;
}

struct column {
  std::string name;
  std::vector<double> risk;
};

/// What is predicted: the device's errors, or only those that the server does not make.
struct target {
  std::string name;
  std::vector<std::uint8_t> flags;  ///< of the rows that are trained on
};

void add_routers(const std::string& name, const embeddings& all, bool scale,
                 const std::vector<std::uint8_t>& known_rows, const std::vector<target>& targets,
                 std::vector<column>& columns) {
  auto known = all.part(known_rows, true), queries = all.part(known_rows, false);
  const matrix_view<float> a(known.data(), known.size() / all.width, all.width);
  const matrix_view<float> b(queries.data(), queries.size() / all.width, all.width);
  if (scale) {
    router::standardise(a, b);
    for (const auto& m : {a, b}) {
      for (std::size_t i = 0; i < m.rows; ++i) match::normalise({m.row(i), m.cols});
    }
  }
  std::fprintf(stderr, "%s: %zu known, %zu to judge\n", name.c_str(), a.rows, b.rows);
  for (const auto& t : targets) {
    columns.push_back({name + "_linear_" + t.name, router::linear_risks(a, t.flags, b, 1e-4)});
    columns.push_back({name + "_knn_" + t.name, router::neighbour_risks(a, t.flags, b, 50)});
  }
}

result<void> write_scores(const std::vector<question>& all, const embeddings& words,
                          const embeddings& model, bool by_subject, const std::string& path) {
  const auto known = split(all, by_subject);
  std::vector<target> targets{{"error", {}}, {"gain", {}}};
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (known[i] == 0) continue;
    targets[0].flags.push_back(all[i].weak == 0);
    targets[1].flags.push_back(all[i].weak == 0 && all[i].strong != 0);
  }
  std::vector<column> columns;
  add_routers("words", words, false, known, targets, columns);
  if (model.width > 0) add_routers("model", model, true, known, targets, columns);
  std::string text = "group,device_ok,server_ok,length";
  for (const auto& c : columns) text += "," + c.name;
  std::size_t at = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (known[i] != 0) continue;
    text += "\n" + all[i].subject + "," + std::to_string(all[i].weak) + "," +
            std::to_string(all[i].strong) + "," + std::to_string(all[i].prompt.size());
    for (const auto& c : columns) text += "," + std::to_string(c.risk[at]);
    ++at;
  }
  return io::write_text(path, text + "\n");
}

result<void> run(int argc, char** argv) {
  CRAYON_TRY(const auto all, read_questions(argv[1]));
  const embeddings words = of_words(all);
  embeddings model;
  if (argc > 4) {
    CRAYON_TRY(model, of_model(all, argv[3], argv[4]));
  }
  const std::string prefix = argv[2];
  CRAYON_CHECK(write_scores(all, words, model, true, prefix + "-subjects.csv"));
  return write_scores(all, words, model, false, prefix + "-rows.csv");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 5) {
    std::fprintf(stderr, "crayon_mmlu_scores RESPONSES PREFIX [MODEL TOKENIZER]\n");
    return 2;
  }
  const auto done = run(argc, argv);
  if (!done) std::fprintf(stderr, "%s\n", done.error().text.c_str());
  return done ? 0 : 1;
}
