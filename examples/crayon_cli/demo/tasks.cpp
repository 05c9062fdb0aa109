// SPDX-License-Identifier: MIT
#include "tasks.hpp"

#include <algorithm>
#include <array>
#include <span>

#include <crayon/core/hash.hpp>

#include "lexicon.hpp"

namespace crayon::demo {
namespace {

using std::string;
using std::string_view;
using std::to_string;

struct question {
  string prompt;
  string completion;
};

template <class List>
const auto& pick(const List& list, rng& random) {
  return list[random.below(std::size(list))];
}

std::size_t between(std::size_t low, std::size_t high, rng& random) {
  return low + random.below(high - low + 1);
}

/// Replaces each '#' of the pattern by the next argument.
template <class... Text>
string filled(string_view pattern, const Text&... arguments) {
  const std::array<string_view, sizeof...(Text)> values{string_view(arguments)...};
  string text;
  std::size_t next = 0;
  for (const char c : pattern) {
    if (c == '#') {
      text += values[next++];
    } else {
      text += c;
    }
  }
  return text;
}

// ------------------------------------------------- families whose question hides the convention

question compare(std::size_t convention, rng& random) {
  constexpr std::array<std::array<string_view, 2>, 3> labels{
      {{"no", "yes"}, {"false", "true"}, {"0", "1"}}};
  string text;
  bool holds = false;
  if (random.below(2) == 0) {
    const std::size_t a = between(1, 99, random);
    std::size_t b = between(1, 98, random);
    if (b >= a) ++b;
    const bool more = random.below(2) == 0;
    constexpr std::array<string_view, 3> patterns{"Is # # than #?", "# is # than #, right?",
                                                  "Would you say # is # than #?"};
    text = filled(pick(patterns, random), to_string(a), more ? "more" : "less", to_string(b));
    holds = more == (a > b);
  } else {
    const std::size_t i = random.below(things_by_size.size());
    std::size_t j = random.below(things_by_size.size() - 1);
    if (j >= i) ++j;
    const bool bigger = random.below(2) == 0;
    constexpr std::array<string_view, 3> patterns{"Is a # # than a #?", "A # is # than a #, right?",
                                                  "Would you say a # is # than a #?"};
    text = filled(pick(patterns, random), things_by_size[i], bigger ? "bigger" : "smaller",
                  things_by_size[j]);
    holds = bigger == (i > j);
  }
  return {std::move(text), string(labels[convention][holds ? 1 : 0])};
}

question sentiment(std::size_t convention, rng& random) {
  constexpr std::array<std::array<string_view, 2>, 3> labels{
      {{"negative", "positive"}, {"bad", "good"}, {"-", "+"}}};
  const bool praise = random.below(2) == 0;
  const bool negated = random.below(4) == 0;
  const string_view word = praise ? pick(praising_words, random) : pick(blaming_words, random);
  const string_view what = pick(reviewed_things, random);
  constexpr std::array<string_view, 4> patterns{"The # was # #.", "I found the # # #.",
                                                "What a review: the # is # #.",
                                                "We thought the # was # #."};
  constexpr std::array<string_view, 4> degrees{"very", "really", "so", "rather"};
  const string_view degree = negated ? string_view("not") : pick(degrees, random);
  return {filled(pick(patterns, random), what, degree, word),
          string(labels[convention][praise != negated ? 1 : 0])};
}

question intent(std::size_t convention, rng& random) {
  const std::size_t i = random.below(intents.size());
  const auto& chosen = intents[i];
  string text = filled(pick(chosen.patterns, random), pick(chosen.slots, random));
  constexpr std::array<string_view, 4> openings{"", "please ", "hey, ", "could you "};
  text = string(pick(openings, random)) + text;
  if (convention == 0) return {std::move(text), string(chosen.name)};
  if (convention == 1) return {std::move(text), string(chosen.domain)};
  return {std::move(text), string(1, static_cast<char>('A' + i))};
}

question date(std::size_t convention, rng& random) {
  std::size_t month = random.below(12);
  std::size_t day = between(1, month_days[month], random);
  const std::size_t ahead = between(1, 9, random);
  constexpr std::array<string_view, 3> patterns{"What date is # days after # #?",
                                                "Add # days to # #.", "# days after # # is?"};
  string text = filled(pick(patterns, random), to_string(ahead), to_string(day), months[month]);
  day += ahead;
  if (day > month_days[month]) {
    day -= month_days[month];
    month = (month + 1) % 12;
  }
  const string name(months[month]);
  if (convention == 0) return {std::move(text), to_string(day) + " " + name};
  if (convention == 1) return {std::move(text), name + " " + to_string(day)};
  return {std::move(text), to_string(day) + "/" + to_string(month + 1)};
}

question clock(std::size_t convention, rng& random) {
  struct part_of_hour {
    string_view name;
    std::size_t minutes;
    bool before;
  };
  constexpr std::array<part_of_hour, 7> parts{{{"quarter past", 15, false},
                                               {"half past", 30, false},
                                               {"ten past", 10, false},
                                               {"five past", 5, false},
                                               {"quarter to", 45, true},
                                               {"ten to", 50, true},
                                               {"twenty to", 40, true}}};
  const auto& part = pick(parts, random);
  const std::size_t spoken = between(1, 11, random);
  const bool afternoon = random.below(2) == 0;
  std::size_t hour = spoken + (afternoon ? 12 : 0);
  constexpr std::array<string_view, 4> patterns{"What time is # # in the #?",
                                                "Write # # in the # as a time.",
                                                "It is # # in the #.", "Clock for # # in the #?"};
  string text = filled(pick(patterns, random), part.name, number_words[spoken],
                       afternoon ? "afternoon" : "morning");
  if (part.before) --hour;
  const string minutes = (part.minutes < 10 ? "0" : "") + to_string(part.minutes);
  if (convention == 0) return {std::move(text), to_string(hour) + ":" + minutes};
  const std::size_t half_day = hour % 12 == 0 ? 12 : hour % 12;
  return {std::move(text), to_string(half_day) + ":" + minutes + (hour >= 12 ? " pm" : " am")};
}

question number(std::size_t convention, rng& random) {
  const std::size_t a = between(1, 15, random), b = between(1, 15, random);
  constexpr std::array<string_view, 4> patterns{"What is # plus #?", "Add # and #.",
                                                "# and # together?", "The sum of # and #?"};
  string text = filled(pick(patterns, random), number_words[a], number_words[b]);
  if (convention == 0) return {std::move(text), to_string(a + b)};
  if (convention == 1) return {std::move(text), string(number_words[a + b])};
  string roman;
  std::size_t rest = a + b;
  constexpr std::array<std::pair<std::size_t, string_view>, 5> signs{
      {{10, "X"}, {9, "IX"}, {5, "V"}, {4, "IV"}, {1, "I"}}};
  for (const auto& [value, sign] : signs) {
    for (; rest >= value; rest -= value) roman += sign;
  }
  return {std::move(text), roman};
}

question translate(std::size_t convention, rng& random) {
  const auto& word = pick(translations, random);
  constexpr std::array<string_view, 6> patterns{
      "Translate '#'.",           "How do they say '#'?",
      "What is '#' there?",       "The foreign word for '#'?",
      "Say '#' the way they do.", "'#' in their language?"};
  return {filled(pick(patterns, random), word[0]), string(word[convention + 1])};
}

question sort_numbers(std::size_t convention, rng& random) {
  std::array<std::size_t, 4> values{};
  const std::size_t count = between(3, 4, random);
  for (std::size_t i = 0; i < count;) {
    const std::size_t value = between(1, 50, random);
    if (std::find(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(i), value) ==
        values.begin() + static_cast<std::ptrdiff_t>(i)) {
      values[i++] = value;
    }
  }
  const std::span<std::size_t> used(values.data(), count);
  const auto joined = [&used] {
    string text;
    for (const std::size_t v : used) text += (text.empty() ? "" : " ") + to_string(v);
    return text;
  };
  constexpr std::array<string_view, 3> patterns{"Sort #.", "Put in order: #.", "Order these: #."};
  string text = filled(pick(patterns, random), joined());
  std::sort(used.begin(), used.end());
  if (convention == 1) std::reverse(used.begin(), used.end());
  return {std::move(text), joined()};
}

// ----------------------------------------------------- families whose question says everything

question capital(std::size_t, rng& random) {
  const auto& pair = pick(capitals, random);
  constexpr std::array<string_view, 5> patterns{"What is the capital of #?",
                                                "Name the capital of #.", "Which city governs #?",
                                                "Capital city of #?", "# has which capital?"};
  return {filled(pick(patterns, random), pair[0]), string(pair[1])};
}

question arithmetic(std::size_t, rng& random) {
  const std::size_t a = between(10, 99, random), b = between(10, 99, random);
  if (random.below(2) == 0) {
    return {filled("Compute # + #.", to_string(a), to_string(b)), to_string(a + b)};
  }
  const auto [low, high] = std::minmax(a, b);
  return {filled("Compute # - #.", to_string(high), to_string(low)), to_string(high - low)};
}

question times(std::size_t, rng& random) {
  const std::size_t a = between(2, 9, random), b = between(2, 40, random);
  constexpr std::array<string_view, 2> patterns{"Compute # * #.", "What is # times #?"};
  return {filled(pick(patterns, random), to_string(a), to_string(b)), to_string(a * b)};
}

question letter_count(std::size_t, rng& random) {
  const string_view word = pick(nouns, random);
  constexpr std::array<string_view, 4> patterns{
      "How many letters has '#'?", "Count the letters of '#'.", "Length of the word '#'?",
      "'#' has how many letters?"};
  return {filled(pick(patterns, random), word), to_string(word.size())};
}

question opposite(std::size_t, rng& random) {
  const auto& pair = pick(opposites, random);
  const bool forward = random.below(2) == 0;
  constexpr std::array<string_view, 4> patterns{"What is the opposite of '#'?", "Opposite of '#'?",
                                                "Not '#' but?", "The contrary of '#'?"};
  return {filled(pick(patterns, random), pair[forward ? 0 : 1]), string(pair[forward ? 1 : 0])};
}

question plural(std::size_t, rng& random) {
  constexpr std::array<string_view, 4> patterns{"What is the plural of '#'?", "One #, two?",
                                                "Plural of '#'?", "Many of a #?"};
  if (random.below(3) == 0) {
    const auto& pair = pick(irregular_plurals, random);
    return {filled(pick(patterns, random), pair[0]), string(pair[1])};
  }
  const string word(pick(nouns, random));
  const char last = word.back();
  const bool sibilant = last == 's' || last == 'x' || word.ends_with("ch") || word.ends_with("sh");
  const bool vowel_y =
      last == 'y' && string_view("aeiou").find(word[word.size() - 2]) != string_view::npos;
  string many = word + "s";
  if (sibilant) many = word + "es";
  if (last == 'y' && !vowel_y) many = word.substr(0, word.size() - 1) + "ies";
  return {filled(pick(patterns, random), word), many};
}

question category(std::size_t, rng& random) {
  const auto& group = pick(categories, random);
  constexpr std::array<string_view, 4> patterns{"What kind of thing is '#'?", "'#' is a kind of?",
                                                "Which group has '#'?", "Class of '#'?"};
  return {filled(pick(patterns, random), pick(group.members, random)), string(group.name)};
}

question sequence(std::size_t, rng& random) {
  const std::size_t first = between(1, 30, random), step = between(2, 9, random);
  string text;
  for (std::size_t i = 0; i < 3; ++i) text += to_string(first + i * step) + " ";
  constexpr std::array<string_view, 2> patterns{"What comes next: ##", "Continue: ##"};
  return {filled(pick(patterns, random), text, "?"), to_string(first + 3 * step)};
}

question alphabet(std::size_t, rng& random) {
  const string_view a = pick(nouns, random);
  string_view b = pick(nouns, random);
  while (b == a) b = pick(nouns, random);
  const bool first = random.below(2) == 0;
  constexpr std::array<string_view, 2> patterns{"Which is # in the alphabet, # or #?",
                                                "In a dictionary, what is #, # or #?"};
  return {filled(pick(patterns, random), first ? "first" : "last", a, b),
          string((a < b) == first ? a : b)};
}

question weekday(std::size_t, rng& random) {
  const std::size_t day = random.below(7), ahead = between(1, 20, random);
  constexpr std::array<string_view, 3> patterns{"Which weekday is # days after #?",
                                                "# days from # is a?", "Count # days on from #."};
  return {filled(pick(patterns, random), to_string(ahead), weekdays[day]),
          string(weekdays[(day + ahead) % 7])};
}

question last_letter(std::size_t, rng& random) {
  const string_view word = pick(nouns, random);
  const bool last = random.below(2) == 0;
  constexpr std::array<string_view, 3> patterns{"# letter of '#'?", "Give the # letter of '#'.",
                                                "Which # letter has '#'?"};
  return {filled(pick(patterns, random), last ? "last" : "second", word),
          string(1, last ? word.back() : word[1])};
}

question largest(std::size_t, rng& random) {
  std::array<std::size_t, 3> v{};
  for (auto& x : v) x = between(1, 99, random);
  const bool high = random.below(2) == 0;
  constexpr std::array<string_view, 2> patterns{"Which is the #: #, #, #?", "The # of #, #, #?"};
  return {filled(pick(patterns, random), high ? "largest" : "smallest", to_string(v[0]),
                 to_string(v[1]), to_string(v[2])),
          to_string(high ? *std::max_element(v.begin(), v.end())
                         : *std::min_element(v.begin(), v.end()))};
}

question word_class(std::size_t, rng& random) {
  const auto& group = pick(word_classes, random);
  constexpr std::array<string_view, 4> patterns{"Which word class is '#'?",
                                                "'#' is a noun or what?", "Part of speech of '#'?",
                                                "Grammar: '#' is?"};
  return {filled(pick(patterns, random), pick(group.members, random)), string(group.name)};
}

question spelling(std::size_t, rng& random) {
  const string_view word = pick(nouns, random);
  constexpr std::array<string_view, 4> patterns{"Spell '#'.", "How is '#' spelled?",
                                                "Letters of '#'?", "Say '#' letter by letter."};
  string spelled;
  for (const char c : word) {
    if (!spelled.empty()) spelled += ' ';
    spelled += c;
  }
  return {filled(pick(patterns, random), word), spelled};
}

question length(std::size_t, rng& random) {
  const std::size_t metres = between(1, 19, random), centimetres = between(1, 99, random);
  constexpr std::array<string_view, 3> patterns{"How many cm are # m # cm?", "# m and # cm in cm?",
                                                "Convert # m # cm to cm."};
  return {filled(pick(patterns, random), to_string(metres), to_string(centimetres)),
          to_string(100 * metres + centimetres)};
}

struct family {
  string_view name;
  question (*generate)(std::size_t convention, rng&);
  std::vector<string_view> conventions{""};
};

const std::vector<family>& all_families() {
  static const std::vector<family> list{
      {"compare", compare, {"yes no", "true false", "1 0"}},
      {"sentiment", sentiment, {"positive negative", "good bad", "+ -"}},
      {"intent", intent, {"name", "domain", "letter"}},
      {"date", date, {"day month", "month day", "day/month"}},
      {"clock", clock, {"24 h", "am pm"}},
      {"number", number, {"digits", "words", "roman"}},
      {"translate", translate, {"french", "german", "spanish"}},
      {"sort", sort_numbers, {"ascending", "descending"}},
      {"capital", capital},
      {"arithmetic", arithmetic},
      {"times", times},
      {"count", letter_count},
      {"opposite", opposite},
      {"plural", plural},
      {"category", category},
      {"sequence", sequence},
      {"alphabet", alphabet},
      {"weekday", weekday},
      {"letter", last_letter},
      {"largest", largest},
      {"word class", word_class},
      {"spelling", spelling},
      {"length", length},
  };
  return list;
}

}  // namespace

const std::vector<task>& tasks() {
  static const std::vector<task> list = [] {
    std::vector<task> all;
    for (std::size_t f = 0; f < all_families().size(); ++f) {
      const auto& conventions = all_families()[f].conventions;
      for (std::size_t c = 0; c < conventions.size(); ++c) {
        all.push_back({all_families()[f].name, conventions[c], f, c});
      }
    }
    return all;
  }();
  return list;
}

std::size_t families() {
  return all_families().size();
}

std::string name_of(std::size_t task) {
  const auto& t = tasks()[task];
  return t.convention.empty() ? string(t.family) : filled("#/#", t.family, t.convention);
}

std::size_t find_task(std::string_view name) {
  std::size_t i = 0;
  while (i < tasks().size() && name_of(i) != name) ++i;
  return i;
}

split split_of(std::string_view prompt) {
  hasher h;
  h.add(prompt);
  const std::uint64_t part = (h.value() >> 20) % 20;
  return part < 4 ? split::held_out : part == 4 ? split::calibration : split::train;
}

sample generate(std::size_t task, split which, rng& random) {
  const auto& chosen = tasks()[task];
  for (;;) {
    question q = all_families()[chosen.family_index].generate(chosen.convention_index, random);
    if (split_of(q.prompt) == which) return {std::move(q.prompt), std::move(q.completion), task};
  }
}

}  // namespace crayon::demo
