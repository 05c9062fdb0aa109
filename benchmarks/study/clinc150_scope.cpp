// SPDX-License-Identifier: MIT
// Which signals tell that a query is not what the device was customized for: CLINC150's texts of
// other domains (near) and its out-of-scope queries (far) against the texts of a user's domains.
//
//   crayon_clinc150_scope data=DIR out=DIR pool=FILE setting=A|B [users=60 texts=100 csv=FILE]
//
// The base model in OUT/base and the pool are those of crayon_clinc150. Everything is fitted on
// training texts (spaces, covariances) and on users of validation texts (the line through several
// signals: half of their texts; its threshold: the other half; far: oos_val). The users of test
// texts bring samples from a third of them, the questions are of the rest, far: oos_test.
//
// What was tried, 24 users, pool of setting A, AUROC far and near on the validation texts that the
// lines were fitted on: domain_mismatch alone with a sharpness of the intents' Gaussians of 1, 0.5,
// 0.25, 0.125, 0.06 (and 0.1 for its 0.4): far 0.90, 0.92, 0.93, 0.94, 0.94, near 0.97 to 0.98.
// With 0.125, a line through three to eight signals, and one with their squares and products: far
// 0.969 to 0.974, near 0.966 to 0.975. Near texts counted once, twice, four times: far 0.974,
// 0.972, 0.969, near 0.976, 0.980, 0.982. The same on test texts was printed beside it.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/engine/mahalanobis_distance.hpp>
#include <crayon/engine/question_measures.hpp>
#include <crayon/engine/scope_distance.hpp>
#include <crayon/match/cosine_softmax.hpp>
#include <crayon/match/embedding.hpp>
#include <crayon/match/fit_domains.hpp>
#include <crayon/match/index_space.hpp>
#include <crayon/model/delta.hpp>
#include <crayon/model/llama.hpp>
#include <crayon/model/load_llama.hpp>
#include <crayon/router/evaluate_bootstrap.hpp>
#include <crayon/router/evaluate_ranking.hpp>
#include <crayon/router/fit_learned.hpp>
#include <crayon/router/signals.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/tokenizer/llama2c_tokenizer.hpp>

#include "clinc150_users.hpp"

namespace {

using namespace crayon_study;

using backend = simd::highway_dynamic;
using pooling = match::error_pooling;
using session_type = model::llama_session<backend, float>;
using pool_type = adapter::pool<float>;
using tokenizer::llama2c_tokenizer;

constexpr std::size_t longest = 96;  // tokens

[[noreturn]] void stop(const error& why) {
  std::fprintf(stderr, "%s\n", why.text.c_str());
  std::exit(1);
}
template <class T>
T take(result<T> r) {
  if (!r) stop(r.error());
  return std::move(*r);
}

struct choices {
  std::string data, out, pool, csv, setting = "A";
  std::size_t users = 60, texts = 100, samples = 8;
  double sharpness = 0.125;  ///< of the intents' Gaussians, whose unit covariance is too narrow
};

choices parse(int argc, char** argv) {
  choices c;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto equal = std::min(arg.find('='), arg.size() - 1);
    const std::string key = arg.substr(0, equal), value = arg.substr(equal + 1);
    const auto count = [&] { return std::strtoul(value.c_str(), nullptr, 10); };
    if (key == "data") {
      c.data = value;
    } else if (key == "out") {
      c.out = value;
    } else if (key == "pool") {
      c.pool = value;
    } else if (key == "csv") {
      c.csv = value;
    } else if (key == "setting") {
      c.setting = value;
    } else if (key == "users") {
      c.users = count();
    } else if (key == "texts") {
      c.texts = count();
    } else if (key == "samples") {
      c.samples = count();
    } else if (key == "sharpness") {
      c.sharpness = std::strtod(value.c_str(), nullptr);
    } else {
      stop({errc::bad_value, "unknown choice " + arg});
    }
  }
  return c;
}

/// What the base model says of a question.
struct seen_text {
  std::vector<std::int32_t> ids;
  double surprise = 0;        ///< mean over its tokens, nats
  std::vector<float> pooled;  ///< of the pool's policy
  std::vector<float> wide;    ///< mean of the last states, the last state, mean after block 1
};

enum signal_number : std::size_t {
  max_probability,
  margin,
  entropy,
  max_logit,
  energy,
  answer_perplexity,
  low_log_prob,
  median_log_prob,
  base_perplexity,
  centre_cosine,
  sample_cosine,
  third_sample_cosine,
  mahalanobis,
  relative_mahalanobis,
  weights_apart,
  intent_sample_cosine,
  intent_mahalanobis,
  intent_relative,
  domains_apart,
  domain_mismatch,
  signal_count
};
constexpr std::array<const char*, signal_count> signal_names{"max_probability",
                                                             "margin",
                                                             "entropy",
                                                             "max_logit",
                                                             "energy",
                                                             "perplexity",
                                                             "low_log_prob",
                                                             "median_log_prob",
                                                             "base_perplexity",
                                                             "centre_cosine",
                                                             "sample_cosine",
                                                             "third_sample_cosine",
                                                             "mahalanobis",
                                                             "relative",
                                                             "weight_distance",
                                                             "intent_sample_cosine",
                                                             "intent_mahalanobis",
                                                             "intent_relative",
                                                             "domain_distance",
                                                             "domain_mismatch"};
using signal_row = std::array<double, signal_count>;

enum class kind : std::size_t { in, near, far };
constexpr std::array<kind, 1> far_ones{kind::far}, near_ones{kind::near};
constexpr std::array<kind, 2> all_others{kind::near, kind::far};

struct measured_text {
  std::size_t user = 0, text = 0;
  kind of = kind::in;
  signal_row risk{};  ///< larger: less in scope
};

using rows_span = std::span<const measured_text>;

/// The policy: a line through these. `router::fit_linear` reads numbers from the places of a
/// router's signals; the first and last have places here that are not theirs in an engine.
constexpr std::array combined{domain_mismatch, max_probability, energy, base_perplexity};
constexpr std::array places_of{router::signal_kind::scope_distance,
                               router::signal_kind::max_probability, router::signal_kind::energy,
                               router::signal_kind::mean_log_prob};

[[nodiscard]] signals placed_signals(const signal_row& risk) {
  const auto at = [&](std::size_t i) { return static_cast<float>(risk[combined[i]]); };
  signals s{};
  s.tokens = 1;
  s.scope_distance = at(0), s.max_probability = at(1), s.energy = at(2), s.mean_log_prob = at(3);
  return s;
}

/// Larger: less in scope. The log-odds, because the probability rounds to 1.
[[nodiscard]] double score_of(const router::linear& line, const signal_row& risk) {
  double score = line.bias;
  for (std::size_t j = 0; j < combined.size(); ++j) {
    score += line.weight[j] * double{static_cast<float>(risk[combined[j]])};
  }
  return score;
}

/// Of the rows of even texts, near ones twice: there are as many as far ones, and they are harder.
[[nodiscard]] router::linear fit(rows_span rows) {
  std::vector<router::recorded_query> known;
  for (const auto& row : rows) {
    if (row.text % 2 != 0) continue;
    for (int i = 0; i < (row.of == kind::near ? 2 : 1); ++i) {
      known.push_back({placed_signals(row.risk), row.of != kind::in});
    }
  }
  return take(router::fit_linear(known, {places_of.begin(), places_of.end()}));
}

/// The threshold that keeps a share of the in-scope rows of odd texts.
[[nodiscard]] double keeping(rows_span rows, const std::vector<double>& scores, double share) {
  std::vector<double> own;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].of == kind::in && rows[i].text % 2 != 0) own.push_back(scores[i]);
  }
  std::sort(own.begin(), own.end());
  return own[static_cast<std::size_t>(share * static_cast<double>(own.size() - 1))];
}

/// AUROC of each user's rows of those kinds against those in scope.
[[nodiscard]] std::vector<double> aurocs(rows_span rows, const std::vector<double>& scores,
                                         std::size_t users, std::span<const kind> out) {
  std::vector<std::vector<double>> own(users);
  std::vector<std::vector<std::uint8_t>> flags(users);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const bool outside = std::ranges::find(out, rows[i].of) != out.end();
    if (rows[i].of != kind::in && !outside) continue;
    own[rows[i].user].push_back(scores[i]);
    flags[rows[i].user].push_back(outside);
  }
  std::vector<double> areas;
  for (std::size_t u = 0; u < users; ++u) {
    areas.push_back(router::auroc(take(router::risk_order::of(own[u])), flags[u]));
  }
  return areas;
}

[[nodiscard]] double mean(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += v / static_cast<double>(x.size());
  return sum;
}

/// Of the mean over users, drawn with replacement.
[[nodiscard]] router::interval bootstrap(const std::vector<double>& of_users) {
  router::row_resampler resampler(of_users.size(), 7);
  std::vector<double> means;
  for (int draw = 0; draw < 2000; ++draw) {
    const auto counts = resampler.next();
    double sum = 0;
    for (std::size_t u = 0; u < of_users.size(); ++u) {
      sum += of_users[u] * static_cast<double>(counts[u]) / static_cast<double>(of_users.size());
    }
    means.push_back(sum);
  }
  return router::middle_of(std::move(means));
}

struct areas {
  std::string name;
  std::vector<double> far, near, all;
};

[[nodiscard]] areas measure_areas(const std::string& name, rows_span rows,
                                  const std::vector<double>& scores, std::size_t users) {
  return {name, aurocs(rows, scores, users, far_ones), aurocs(rows, scores, users, near_ones),
          aurocs(rows, scores, users, all_others)};
}

void print_line(const areas& a) {
  std::printf("%-22s", a.name.c_str());
  for (const auto& [what, of_users] :
       {std::pair{"far", &a.far}, {"near", &a.near}, {"all", &a.all}}) {
    const auto drawn = bootstrap(*of_users);
    std::printf(" %s %6.3f [%.3f, %.3f] ", what, mean(*of_users), drawn.low, drawn.high);
  }
  std::puts("");
}

void report(rows_span val, rows_span test, std::size_t users) {
  const auto column = [](rows_span rows, std::size_t j) {
    std::vector<double> x;
    for (const auto& row : rows) x.push_back(row.risk[j]);
    return x;
  };
  std::vector<areas> all;
  for (std::size_t j = 0; j < signal_count; ++j) {
    all.push_back(measure_areas(signal_names[j], test, column(test, j), users));
    print_line(all.back());
  }
  const router::linear line = fit(val);
  for (std::size_t j = 0; j < combined.size(); ++j) {
    std::printf("  %.4g %s\n", line.weight[j], signal_names[combined[j]]);
  }
  const auto scores = [&](rows_span rows) {
    std::vector<double> x;
    for (const auto& row : rows) x.push_back(score_of(line, row.risk));
    return x;
  };
  const auto of_val = scores(val), of_test = scores(test);
  const auto together = measure_areas("combined", test, of_test, users);
  print_line(together);
  const auto less = [](std::vector<double> a, const std::vector<double>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
    return a;
  };
  const auto best = [&](std::vector<double> areas::*which) {
    return *std::max_element(all.begin(), all.end(), [&](const areas& a, const areas& b) {
      return mean(a.*which) < mean(b.*which);
    });
  };
  std::string last;
  for (const auto& single : {best(&areas::far), best(&areas::near), best(&areas::all)}) {
    if (std::exchange(last, single.name) == single.name) continue;
    print_line({"less " + single.name, less(together.far, single.far),
                less(together.near, single.near), less(together.all, single.all)});
  }
  for (const double share : {0.8, 0.9, 0.95}) {
    const double threshold = keeping(val, of_val, share);
    std::array<double, 3> beyond{}, count{};
    for (std::size_t i = 0; i < test.size(); ++i) {
      const auto k = static_cast<std::size_t>(test[i].of);
      beyond[k] += of_test[i] > threshold;
      ++count[k];
    }
    std::printf("threshold for %.0f %% kept: %.1f %% kept, near %.1f %%, far %.1f %% sent\n",
                100 * share, 100 - 100 * beyond[0] / count[0], 100 * beyond[1] / count[1],
                100 * beyond[2] / count[2]);
  }
}

class study {
 public:
  study(const choices& c, const clinc150& data)
      : c_(c),
        data_(data),
        model_(take(model::load_llama<float>(c.out + "/base"))),
        tokens_(take(llama2c_tokenizer::load(c.out + "/base/tokenizer.bin"))),
        session_(model_, longest),
        pool_(take(adapter::load_pool<float>(c.pool))),
        space_{pool_.info().centre, pool_.info().projection} {
    learn_spaces();
  }

  void run() {
    const auto val = measure(data_.val, data_.oos_val, 2000);
    const auto test = measure(data_.test, data_.oos_test, 1000);
    save(val, test);
    report(val, test, c_.users);
  }

 private:
  [[nodiscard]] seen_text look(const std::string& question) {
    return look_at(tokenizer::encode_prompt(tokens_, question + "\n"));
  }
  [[nodiscard]] seen_text look_at(std::vector<std::int32_t> ids) {
    seen_text s;
    s.ids = std::move(ids);
    const std::size_t dim = model_.config().dim, n = s.ids.size();
    s.wide.resize(match::question_parts * dim);
    s.pooled.assign(pooling::size(dim), 0);
    pooling pool(n, s.pooled);
    session_.reset();
    session_.for_each_hidden(s.ids,
                             [&](std::size_t i, std::span<const float> h) { pool.add(i, h); });
    pool.finish();
    match::embed_question(session_, s.ids, s.wide);
    return s;
  }
  void judge(seen_text& s) {
    serial_executor threads;
    s.surprise = double{engine::question_surprise(session_, s.ids, threads)};
  }

  /// A question in the pool's index space.
  [[nodiscard]] std::vector<float> place(const seen_text& s) const {
    std::vector<float> f(pool_.index().cols);
    space_.place(s.pooled, pooling::known(model_.config().dim, s.ids.size()), f);
    return f;
  }
  /// In the space of the 150 intents, where each is a Gaussian of unit covariance.
  [[nodiscard]] std::vector<float> whiten(const seen_text& s) const {
    std::vector<float> y(intents_.dim());
    intents_.whiten(s.wide, y);
    return y;
  }

  void learn_spaces() {
    std::vector<float> wide, placed;
    std::vector<std::size_t> intent;
    std::vector<seen_text> texts;
    for (const auto& q : data_.train) {
      texts.push_back(look(q.text));
      const auto& s = texts.back();
      wide.insert(wide.end(), s.wide.begin(), s.wide.end());
      const auto f = place(s);
      placed.insert(placed.end(), f.begin(), f.end());
      intent.push_back(q.intent);
    }
    const std::size_t n = texts.size(), width = wide.size() / n;
    intents_ = take(match::fit_domains(matrix_view<const float>(wide.data(), n, width), intent,
                                       data_.domain_of, static_cast<float>(c_.sharpness)));
    background_ = take(
        router::fit_mahalanobis(matrix_view<const float>(placed.data(), n, placed.size() / n)));
    std::vector<float> whitened;
    for (const auto& s : texts) {
      const auto y = whiten(s);
      whitened.insert(whitened.end(), y.begin(), y.end());
    }
    const std::size_t d = whitened.size() / n;
    everything_ = take(router::fit_mahalanobis(matrix_view<const float>(whitened.data(), n, d)));
    std::printf("%zu texts, spaces of %zu and %zu\n", n, pool_.index().cols, d);
  }

  std::vector<measured_text> measure(std::span<const query> split,
                                     std::span<const std::string> outside, std::uint64_t seed) {
    const auto profiles =
        make_profiles(data_, split, tokens_, c_.users, c_.samples, 0, c_.setting == "B", seed);
    std::vector<seen_text> texts;
    std::vector<std::vector<std::size_t>> of(data_.domains.size());
    std::vector<std::size_t> seen(data_.intents.size()), far;
    for (const auto& q : split) {
      if (seen[q.intent]++ % 3 == 0) continue;  // kept for samples
      of[q.domain].push_back(texts.size());
      texts.push_back(look(q.text));
      judge(texts.back());
    }
    for (const auto& text : outside) {
      far.push_back(texts.size());
      texts.push_back(look(text));
      judge(texts.back());
    }
    rng random(seed + 1);
    std::vector<measured_text> rows;
    for (std::size_t p = 0; p < profiles.size(); ++p) {
      const auto& who = profiles[p];
      std::array<std::vector<std::size_t>, 3> drawn;
      for (std::size_t d = 0; d < of.size(); ++d) {
        const bool own =
            std::find(who.who.domains.begin(), who.who.domains.end(), d) != who.who.domains.end();
        auto& to = drawn[own ? 0 : 1];
        to.insert(to.end(), of[d].begin(), of[d].end());
      }
      drawn[2] = far;
      for (auto& texts_of : drawn) {
        random.shuffle(texts_of);
        texts_of.resize(std::min(texts_of.size(), c_.texts));
      }
      customize(who, texts, drawn, p, rows);
    }
    return rows;
  }

  void customize(const profile& who, const std::vector<seen_text>& texts,
                 const std::array<std::vector<std::size_t>, 3>& drawn, std::size_t user,
                 std::vector<measured_text>& rows) {
    const std::size_t dim = model_.config().dim, width = pool_.index().cols;
    const match::cosine_softmax matcher{pool_.info().tau};
    std::vector<float> places, prompts, whitened, centre(width);
    std::vector<float> domains(data_.domains.size());
    for (const auto& s : who.samples) {
      std::vector<float> f(pooling::size(dim)), placed(width);
      match::embed<pooling>(session_, s.ids, s.prompt_tokens, f);
      space_.place(f, placed);
      places.insert(places.end(), placed.begin(), placed.end());
      // The question alone, by its tokens.
      const seen_text q = look_at({s.ids.data(), s.ids.data() + s.prompt_tokens});
      const auto own = place(q);
      prompts.insert(prompts.end(), own.begin(), own.end());
      for (std::size_t j = 0; j < width; ++j) centre[j] += own[j];
      auto y = whiten(q);
      const auto w = intents_.weights_of(intents_.task_scores(y));
      for (std::size_t d = 0; d < w.size(); ++d) {
        domains[d] += w[d] / static_cast<float>(who.samples.size());
      }
      match::normalise(y);
      whitened.insert(whitened.end(), y.begin(), y.end());
    }
    match::normalise(centre);
    const std::size_t n = who.samples.size(), d = whitened.size() / n;
    const matrix_view<const float> own(prompts.data(), n, width), in_intents(whitened.data(), n, d);
    const auto weigh = [&](matrix_view<const float> x) {
      return matcher.weights(pool_.index(), x);
    };
    const auto weights = weigh({places.data(), n, width});
    const auto blended = take(blend::concat::blend(pool_, blend::slots_of(weights, 0.01F)));
    const auto delta = take(model::lora_delta<backend, float>::bind(model_.config(), blended));
    engine::weight_distance apart;
    apart.fit(own, weigh);
    engine::mahalanobis_distance shape;
    shape.fit(own, weigh);
    std::vector<float> scratch(n + background_.scratch_size() + everything_.scratch_size());
    for (std::size_t k = 0; k < 3; ++k) {
      for (const std::size_t t : drawn[k]) {
        const auto& s = texts[t];
        measured_text row{user, t, static_cast<kind>(k), {}};
        auto& r = row.risk;
        answer(s, delta, r);
        r[base_perplexity] = s.surprise;
        const auto f = place(s);
        double cosine = 0;
        for (std::size_t j = 0; j < width; ++j) cosine += double{centre[j]} * double{f[j]};
        r[centre_cosine] = 1 - cosine;
        r[sample_cosine] = double{router::cosine_distance<backend>(own, f, 1, scratch)};
        r[third_sample_cosine] = double{router::cosine_distance<backend>(own, f, 3, scratch)};
        r[mahalanobis] = double{shape.measure(f, weigh)};
        r[relative_mahalanobis] = r[mahalanobis] - double{background_.measure<backend>(f, scratch)};
        r[weights_apart] = double{apart.measure(f, weigh)};
        auto y = whiten(s);
        const auto scores = intents_.task_scores(y);
        r[intent_mahalanobis] = -*std::max_element(scores.begin(), scores.end());
        r[intent_relative] = r[intent_mahalanobis] -
                             double{everything_.measure<backend>(y, scratch)} * c_.sharpness / 2;
        const auto query = intents_.weights_of(scores);
        r[domains_apart] = double{router::weight_cross_entropy(query, domains, 1e-3F)};
        r[domain_mismatch] = double{router::domain_mismatch(query, domains)};
        match::normalise(y);
        r[intent_sample_cosine] =
            double{router::cosine_distance<backend>(in_intents, y, 1, scratch)};
        rows.push_back(row);
      }
    }
  }

  /// The customized model's answer, greedily, and how sure it was.
  template <class Delta>
  void answer(const seen_text& s, const Delta& delta, signal_row& r) {
    router::answer_signals sure;
    session_.reset();
    auto logits = session_.prefill(s.ids, delta);
    for (int t = 0; t < 12; ++t) {
      const auto at = router::measure<backend>(logits);
      sure.look(at);
      sure.take(logits[at.best]);
      const auto next = static_cast<std::int32_t>(at.best);
      if (next == tokens_.eos()) break;
      logits = session_.forward(next, delta);
    }
    using router::signal_kind;
    constexpr std::array kinds{signal_kind::max_probability, signal_kind::margin,
                               signal_kind::entropy,         signal_kind::max_logit,
                               signal_kind::energy,          signal_kind::perplexity,
                               signal_kind::low_log_prob,    signal_kind::median_log_prob};
    for (std::size_t k = 0; k < kinds.size(); ++k) {
      r[k] = double{router::as_risk(router::value_of(sure.value(), kinds[k]), kinds[k])};
    }
  }

  void save(const std::vector<measured_text>& val, const std::vector<measured_text>& test) const {
    if (c_.csv.empty()) return;
    std::ofstream out(c_.csv);
    out << "split,user,kind";
    for (const char* name : signal_names) out << ',' << name;
    out << '\n';
    for (const auto* rows : {&val, &test}) {
      for (const auto& row : *rows) {
        out << (rows == &val ? "val" : "test") << ',' << row.user << ','
            << static_cast<std::size_t>(row.of);
        for (const double x : row.risk) out << ',' << x;
        out << '\n';
      }
    }
  }

  choices c_;
  const clinc150& data_;
  model::llama_weights<float> model_;
  llama2c_tokenizer tokens_;
  session_type session_;
  pool_type pool_;
  match::index_space space_;
  match::domain_space intents_;
  router::mahalanobis background_, everything_;
};

}  // namespace

int main(int argc, char** argv) {
  const choices c = parse(argc, argv);
  const auto data = take(clinc150::load(c.data + "/text/clinc150"));
  study(c, data).run();
}
