// SPDX-License-Identifier: MIT
// RouteLLM's recorded outcomes of Mixtral-8x7B and GPT-4 on 14,042 questions of MMLU.
#include <crayon/router/evaluate.hpp>

#include <dirent.h>

#include <cstdlib>

#include <crayon/io/csv.hpp>
#include <crayon/router/evaluate_baselines.hpp>

#include "evaluation_fixture.hpp"

namespace {

using namespace crayon::router;

struct mmlu_outcomes {
  std::vector<std::string> prompt;
  std::vector<std::uint8_t> weak, strong, wrong;
  std::vector<std::size_t> subject;
  std::size_t subjects = 0;
};

/// No rows where the data is not there.
mmlu_outcomes read_mmlu() {
  const char* data = std::getenv("CRAYON_DATA");
  const std::string folder = (data != nullptr ? data : CRAYON_SOURCE_DIR "/../shared/data") +
                             std::string("/text/routellm-mmlu/responses");
  std::vector<std::string> names;
  if (DIR* directory = ::opendir(folder.c_str())) {
    while (const dirent* entry = ::readdir(directory)) {
      if (std::string_view(entry->d_name).ends_with(".csv")) names.emplace_back(entry->d_name);
    }
    ::closedir(directory);
  }
  std::sort(names.begin(), names.end());
  mmlu_outcomes all;
  for (const auto& name : names) {
    const auto table = crayon::io::read_csv(folder + "/" + name);
    REQUIRE(table);
    const auto weak = crayon::io::flag_column(*table, table->columns.at(1));
    const auto strong = crayon::io::flag_column(*table, table->columns.at(2));
    REQUIRE(weak);
    REQUIRE(strong);
    for (std::size_t i = 0; i < table->rows.size(); ++i) {
      all.prompt.push_back(table->rows[i][0]);
      all.weak.push_back((*weak)[i]);
      all.wrong.push_back((*weak)[i] == 0);
      all.strong.push_back((*strong)[i]);
      all.subject.push_back(all.subjects);
    }
    ++all.subjects;
  }
  return all;
}

judged_score judge(const std::vector<double>& risk) {
  return {*risk_order::of(risk), {}, {}, {}, {}};
}

}  // namespace

TEST_CASE("RouteLLM's MMLU outcomes: bounds, chance, and a router on words", "[router]") {
  const auto all = read_mmlu();
  if (all.prompt.empty()) {
    WARN("skipped: no text/routellm-mmlu in CRAYON_DATA or ../shared/data");
    return;
  }
  const auto expected = crayon::router_test::expected_values("routellm_mmlu.txt");
  REQUIRE(static_cast<double>(all.prompt.size()) == expected.at("rows"));
  const judged_rows rows{{all.weak, all.strong, {}, {}}, {}, {}};
  std::vector<double> gain;
  for (std::size_t i = 0; i < all.weak.size(); ++i) {
    gain.push_back(double{1} * all.strong[i] - all.weak[i]);
  }
  const std::vector<double> errors(all.wrong.begin(), all.wrong.end());
  for (const std::string name : {"oracle", "detector"}) {
    CAPTURE(name);
    const auto seen = measure(judge(name == "oracle" ? gain : errors), rows);
    for (const auto which : {router_metric::apgr, router_metric::auroc, router_metric::augrc,
                             router_metric::cpt50, router_metric::cpt80}) {
      CAPTURE(crayon::router::name(which));
      // The script looks for CPT on a grid of 200001 rates.
      CHECK(
          seen[static_cast<std::size_t>(which)] ==
          Approx(expected.at(name + "." + std::string(crayon::router::name(which)))).margin(6e-6));
    }
  }
  double mean = 0;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    mean += measure(judge(random_risks(all.weak.size(), seed)), rows)[0] / 10;
  }
  CHECK(mean == Approx(0.5).margin(3 * expected.at("random.apgr_deviation") / std::sqrt(10.0)));

  // Words, trained on every second subject, judged on the others.
  constexpr std::size_t width = 256;
  std::vector<float> known, queries;
  std::vector<std::uint8_t> known_wrong, weak, strong;
  std::vector<std::size_t> subject;
  std::vector<double> length;
  for (std::size_t i = 0; i < all.prompt.size(); i += 2) {
    const bool fit = all.subject[i] % 2 == 0;
    auto& to = fit ? known : queries;
    to.resize(to.size() + width);
    hashed_words(all.prompt[i], std::span(to).last(width));
    if (fit) {
      known_wrong.push_back(all.wrong[i]);
    } else {
      weak.push_back(all.weak[i]);
      strong.push_back(all.strong[i]);
      subject.push_back(all.subject[i] / 2);
      length.push_back(static_cast<double>(all.prompt[i].size()));
    }
  }
  const auto words = linear_risks({known.data(), known_wrong.size(), width}, known_wrong,
                                  {queries.data(), weak.size(), width}, 1e-3);
  const std::vector<judged_score> scores{judge(words), judge(length),
                                         judge(random_risks(weak.size(), 1))};
  const auto cards = evaluate(scores, {{weak, strong, {}, {}}, {}, {}},
                              row_resampler(subject, all.subjects / 2, 1), 100, [](std::size_t) {});
  const auto middle = cards[0].middle(router_metric::auroc);
  WARN("words, other subjects: AUROC of errors "
       << cards[0][router_metric::auroc] << " [" << middle.low << ", " << middle.high << "], APGR "
       << cards[0][router_metric::apgr] << "; length " << cards[1][router_metric::auroc]);
  CHECK(middle.low < cards[0][router_metric::auroc]);
  CHECK(cards[0][router_metric::auroc] > 0.5);
}
