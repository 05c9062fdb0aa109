// SPDX-License-Identifier: MIT
// The texts of CLINC150, how they are answered under each convention, and users who ask them.
#pragma once

#include <array>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/core/result.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/io/json.hpp>
#include <crayon/tokenizer/sample.hpp>

namespace crayon_study {

using namespace crayon;

struct query {
  std::string text;
  std::size_t intent = 0;  ///< among all 150
  std::size_t domain = 0;
};

/// What a question is answered with; the question does not say which. The letter is the domain's,
/// A to J: letters for the intents within a domain, 15 each, were learned by no contestant in the
/// time that there was (9 to 18 % right after 600 steps, the oracles included).
enum class convention : std::size_t { intent, domain, letter };
inline constexpr std::size_t conventions = 3;
inline constexpr std::array<const char*, conventions> convention_names{"intent", "domain",
                                                                       "letter"};

struct clinc150 {
  std::vector<std::string> domains, intents;  ///< "credit cards", "report lost card"
  std::vector<std::size_t> domain_of;         ///< of each intent
  std::vector<query> train, val, test;
  std::vector<std::string> oos_val, oos_test;  ///< of no domain

  [[nodiscard]] std::string answer(const query& q, convention c) const {
    switch (c) {
      case convention::intent:
        return intents[q.intent];
      case convention::domain:
        return domains[q.domain];
      case convention::letter:
        return std::string(1, static_cast<char>('A' + q.domain));
    }
    return {};
  }

  /// A line break ends the question.
  [[nodiscard]] tokenizer::sample sample(const query& q, convention c) const {
    return {q.text + "\n", answer(q, c)};
  }
  /// The same for somebody who is told the convention.
  [[nodiscard]] tokenizer::sample told(const query& q, convention c) const {
    return {std::string(convention_names[static_cast<std::size_t>(c)]) + ": " + q.text + "\n",
            answer(q, c)};
  }

  [[nodiscard]] static result<clinc150> load(const std::string& folder) {
    const auto parse = [&](const char* name) {
      std::ifstream in(folder + "/" + name, std::ios::binary);
      const std::string text((std::istreambuf_iterator<char>(in)), {});
      return io::parse_json(text);
    };
    const auto full = parse("data_full.json"), domains = parse("domains.json");
    if (!full.is_object() || !domains.is_object()) {
      return error{errc::not_found, folder + ": no data_full.json and domains.json of CLINC150"};
    }
    const auto spoken = [](std::string name) {
      for (char& c : name) c = c == '_' ? ' ' : c;
      return name;
    };
    clinc150 made;
    std::map<std::string, std::size_t> number;
    for (const auto& [domain, intents] : domains.items()) {
      for (std::size_t i = 0; i < intents.size(); ++i) {
        const auto name = intents[i].get<std::string>();
        number[name] = made.intents.size();
        made.intents.push_back(spoken(name));
        made.domain_of.push_back(made.domains.size());
      }
      made.domains.push_back(spoken(domain));
    }
    const auto read = [&](const char* split, std::vector<query>& to) {
      for (const auto& row : full[split]) {
        const std::size_t intent = number.at(row[1].get<std::string>());
        to.push_back({row[0].get<std::string>(), intent, made.domain_of[intent]});
      }
    };
    read("train", made.train);
    read("val", made.val);
    read("test", made.test);
    for (const auto& row : full["oos_val"]) made.oos_val.push_back(row[0].get<std::string>());
    for (const auto& row : full["oos_test"]) made.oos_test.push_back(row[0].get<std::string>());
    return made;
  }
};

/// Somebody with 1 to 4 domains and one convention for all of them.
struct user {
  std::vector<std::size_t> domains;
  convention answers = convention::intent;
};

/// `any_convention`: setting B; else all answer with the intent, setting A.
[[nodiscard]] inline user random_user(std::size_t domains, bool any_convention, rng& random) {
  user u;
  std::vector<std::size_t> order(domains);
  for (std::size_t d = 0; d < domains; ++d) order[d] = d;
  random.shuffle(order);
  const std::size_t count = 1 + random.below(4);
  u.domains.assign(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count));
  if (any_convention) u.answers = static_cast<convention>(random.below(conventions));
  return u;
}

/// A user with samples and questions from texts that no training has seen.
struct profile {
  user who;
  std::vector<tokenizer::encoded_sample> samples, questions;
  std::vector<tokenizer::encoded_sample> told;  ///< the questions with the convention in them
};

/// Users in turn of 1, 2, 3 and 4 domains and of each convention. Of every domain's texts a third
/// is kept for samples, the rest are questions; both come from the domains in turn.
template <class Tokenizer>
[[nodiscard]] std::vector<profile> make_profiles(const clinc150& data, std::span<const query> split,
                                                 const Tokenizer& tokens, std::size_t count,
                                                 std::size_t brought, std::size_t asked,
                                                 bool any_convention, std::uint64_t seed) {
  rng random(seed);
  std::vector<std::vector<std::size_t>> kept(data.domains.size()), rest(data.domains.size());
  std::vector<std::size_t> seen(data.intents.size());
  for (std::size_t i = 0; i < split.size(); ++i) {
    const bool sample = seen[split[i].intent]++ % 3 == 0;
    (sample ? kept : rest)[split[i].domain].push_back(i);
  }
  std::vector<profile> profiles;
  for (std::size_t p = 0; p < count; ++p) {
    profile one;
    do {
      one.who = random_user(data.domains.size(), any_convention, random);
    } while (one.who.domains.size() != 1 + p % 4);
    if (any_convention) one.who.answers = static_cast<convention>(p / 4 % conventions);
    const auto draw = [&](const auto& from, std::size_t n, auto& to, auto* told) {
      std::vector<std::vector<std::size_t>> left;
      for (const std::size_t d : one.who.domains) {
        left.push_back(from[d]);
        random.shuffle(left.back());
      }
      for (std::size_t i = 0; i < n; ++i) {
        auto& texts = left[i % left.size()];
        const query& q = split[texts.back()];
        texts.pop_back();
        to.push_back(tokenizer::encode_sample(tokens, data.sample(q, one.who.answers)));
        if (told == nullptr) continue;
        told->push_back(tokenizer::encode_sample(tokens, data.told(q, one.who.answers)));
      }
    };
    draw(kept, brought, one.samples, static_cast<decltype(one.told)*>(nullptr));
    draw(rest, asked, one.questions, &one.told);
    profiles.push_back(std::move(one));
  }
  return profiles;
}

/// Everything that can be trained on: each training text under each convention of the setting.
struct training_set {
  std::vector<tokenizer::encoded_sample> samples;
  std::vector<tokenizer::encoded_sample> told;  ///< the same with the convention in the question
  std::vector<std::size_t> answers;             ///< convention of each sample
  std::vector<std::string> task;                ///< "travel/letter"
  /// Samples of a domain under a convention: of[domain * conventions + convention].
  std::vector<std::vector<std::size_t>> of;
};

template <class Tokenizer>
[[nodiscard]] training_set make_training_set(const clinc150& data, const Tokenizer& tokens,
                                             bool any_convention) {
  training_set made;
  made.of.resize(data.domains.size() * conventions);
  for (std::size_t c = 0; c < (any_convention ? conventions : 1); ++c) {
    for (const query& q : data.train) {
      made.of[q.domain * conventions + c].push_back(made.samples.size());
      made.samples.push_back(
          tokenizer::encode_sample(tokens, data.sample(q, static_cast<convention>(c))));
      made.told.push_back(
          tokenizer::encode_sample(tokens, data.told(q, static_cast<convention>(c))));
      made.answers.push_back(c);
      made.task.push_back(data.domains[q.domain] + "/" + convention_names[c]);
    }
  }
  return made;
}

}  // namespace crayon_study
