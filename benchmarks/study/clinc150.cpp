// SPDX-License-Identifier: MIT
// What adapters for one user are worth on real texts: CLINC150, short answers, small models.
//
//   crayon_clinc150 base data=DIR out=DIR steps=1500  pre-trains the model of 0.5M parameters
//   crayon_clinc150 run data=DIR out=DIR setting=A|B seed=1 [base=own|stories] [key=value]...
//   python3 clinc150_table.py OUT/own-B-*.json        the table, with intervals over the users
//
// DIR has text/clinc150 (data_full.json and domains.json of github.com/clinc/oos-eval) and, for
// base=stories, models/stories260K. A run trains every contestant, asks every user's questions and
// writes one JSON file, NAME.json for name=NAME. What it has trained stays in OUT, so a run that
// was stopped goes on with the contestant it was at. The keys are the members of `choices` below;
// `only=loo,all` restricts a run to some contestants: base, single, all, fine, fine_all, told,
// oracle, loo, loo_linear, sample, sample_linear, independent; and within pools policies, rivals
// (uniform, nearest, arrow), single_best, search. Choices are made with split=val. What the README
// reports:
//
//   B: steps=900 shared=300 groups=4 single_rate=0.006 pool_rate=0.004 linear_rate=0.004
//      all_rate=0.002 oracle_rate=0.001 tau=0.1 adapters=12 rank=8 questions=25 alone_steps=40
//      fine_rate=0.005 fine_steps=30 fine_all_rate=0.0005 fine_all_steps=30
//      evaluations=40 (all contestants but oracle; search over loo alone)
//   A: steps=1200 shared=600 groups=4 tau=0.5 adapters=10 init=tasks rank=16 questions=25
//      single_rate=0.004 pool_rate=0.0015 linear_rate=0.0015 all_rate=0.0005 and what B has for
//      fine and search; single_rate=0.003 only=single; rank=8 all_rate=0.001 only=all
//      rivals, search, adapters alone and tuning: alone_steps=60 fine_all_rate=0.0001
//      fine_all_steps=15
//   B, base=stories: steps=1800 shared=600 tau=0.2 adapters=12 rank=8 questions=25
//      single_rate=0.003 pool_rate=0.0014 linear_rate=0.0014 all_rate=0.001 oracle_rate=0.0005
//      fine_rate=0.006 fine_all_rate=0.0003 fine_all_steps=30 alone_steps=100 evaluations=40
//   A, base=stories: steps=1800 shared=900 tau=0.5 adapters=10 init=tasks rank=16 questions=25
//      single_rate=0.002 pool_rate=0.002 all_rate=0.00025 fine_rate=0.006 fine_all_rate=0.0001
//      fine_all_steps=15 alone_steps=90 evaluations=40
//
// What was tried on validation texts, seed 1, 24 or 60 users, percent right:
//   B, one for all and the told oracle at rates 0.001, 0.002, 0.004: 28.8, 28.8, 24.6 and 86.8,
//      85.3, 73.9; pool at 0.002 and 0.004: 79.7, 80.5; per sample 61.2, 58.6; adapters trained
//      alone for 150 steps each in place of 40: 62.3 (concat). Tuning on the 8 samples, one for all
//      at 0.0005 x 30 steps, 0.001 x 60, 0.002 x 15: 74.8, 68.0, 67.6; an empty adapter at
//      0.005 x 30, 0.01 x 60, 0.02 x 30: 47.2, 44.9, 34.9.
//   A, rank 8, 1200 steps: one for all at 0.0005, 0.001, 0.002, 0.004: 85.7, 87.3, 85.6, 82.4;
//      pool (concat) with tau 0.3 at 0.002 and 0.004: 84.6, 84.0; with tau 0.5 at 0.003: 84.9;
//      with 900 shared steps in place of 600 (tau 0.3, 0.002): 82.5. Rank 16, tau 0.5, pool
//      (recompress) at 0.001, 0.0015, 0.002, 0.003: 85.5, 85.6, 85.0, 83.5, one for all of rank
//      160 at 0.0005, 0.0007, 0.001: 86.0, 85.8, 85.8; at 0.002 with 250 shared steps in place of
//      600: 84.7, concat 85.7 in place of 85.2, and with tau 0.8 85.0 and 85.3; rank 8 again, 60
//      users: one for all 87.0, pool (recompress) at 0.003 and 0.0015 83.1 and 82.8. At 600 steps
//      and rank 4: k-means with 12 clusters 58, an adapter per domain 65 (tau 0.1); 70 with tau
//      0.3, 68 with weights of unit length (strength 0.5); rank 8, with 300 shared steps, 78.
//   stories, B: one for all at 0.0005, 0.001: 28.7, 30.7; told at 0.00025, 0.0005, 0.001: 83.9,
//      86.9, 83.9; of rank 8 at 0.003, 0.006: 30.5, 29.4; pool (concat) at 0.001, 0.0014, 0.002,
//      0.004 (the last with a start at 0.006): 77.2, 76.9, 76.5, 69.1, with tau 0.2 at 0.0014 and
//      0.002: 79.1, 78.3. One for all tuned at 0.0003, 0.0005, 0.001 x 30: 74.1, 71.1, 64.2; an
//      empty adapter at 0.003, 0.006 x 30: 44.3, 44.5.
//   stories, A: one for all at 0.00015, 0.00025, 0.0005, 0.001: 79.5, 81.6, 80.8, 78.0; of rank 16
//      at 0.002, 0.004: 79.2, 79.1; pool (concat) at 0.001, 0.002, 0.003: 81.1, 81.8, 80.1; at
//      0.002 with tau 0.3: 80.3; at 0.001 with tau 1: 79.3, with 600 shared steps in place of
//      900: 80.9.
//   Adapters that start at random, 600 steps at rank 4, B: concat as good (49 and 48), linear 18
//      where copies of one trained adapter have 46.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <numeric>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/activations.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/cores.hpp>
#include <crayon/blend/dare.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/magnitude_prune.hpp>
#include <crayon/blend/peft_linear.hpp>
#include <crayon/blend/recompress.hpp>
#include <crayon/blend/ties.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/engine/arrow.hpp>
#include <crayon/engine/few_shot_search.hpp>
#include <crayon/match/top_k.hpp>
#include <crayon/model/hf_llama.hpp>
#include <crayon/model/load_llama.hpp>
#include <crayon/simd/highway_dynamic.hpp>
#include <crayon/tokenizer/bpe_trainer.hpp>
#include <crayon/tokenizer/llama2c_tokenizer.hpp>
#include <crayon/train/initialise.hpp>
#include <crayon/train/joint_pool.hpp>
#include <crayon/train/pool_options.hpp>
#include <crayon/train/pool_start.hpp>
#include <crayon/train/pretrain.hpp>

#include "clinc150_users.hpp"

namespace {

using namespace crayon_study;

using backend = simd::highway_dynamic;
using pooling = match::error_pooling;
using weights = model::llama_weights<float>;
using session = model::llama_session<backend, float>;
using adapter_type = adapter::lora_adapter<float>;
using pool_type = adapter::pool<float>;
using tokenizer::encoded_sample;
using tokenizer::llama2c_tokenizer;
using json = nlohmann::ordered_json;
using wall = std::chrono::steady_clock;

constexpr std::size_t longest = 96;  // tokens

struct choices {
  std::string data, out, base = "own", setting = "B", split = "test", only, name;
  std::size_t seed = 1, profiles = 60, samples = 8, questions = 40;
  std::size_t adapters = 12, rank = 4;
  std::string init = "k_means";  ///< or tasks: a domain under a convention has one adapter
  std::string start = "copies";  ///< of one adapter that saw all data; or random
  std::string users = "real";    ///< or mixed: a convention of its own for each domain
  float tau = 0.1F, strength = 0;
  std::size_t steps = 700;   ///< of every contestant, those of the shared start included
  std::size_t shared = 350;  ///< of these, of the adapter that a pool's adapters start from
  std::size_t alone_steps = 100, groups = 4;
  float pool_rate = 5e-3F, linear_rate = 5e-3F, single_rate = 5e-3F, all_rate = 2e-3F,
        oracle_rate = 2e-3F;
  float fine_rate = 2e-3F, fine_all_rate = 5e-4F;
  std::size_t fine_steps = 30, fine_all_steps = 15;
  std::size_t evaluations = 60;
  double density = 0.5;
  std::size_t arrow_k = 3;
  std::size_t threads = 1;
};

double seconds_since(wall::time_point from) {
  return std::chrono::duration<double>(wall::now() - from).count();
}

[[noreturn]] void stop(const error& why) {
  std::fprintf(stderr, "%s\n", why.text.c_str());
  std::exit(1);
}
template <class T>
T take(result<T> r) {
  if (!r) stop(r.error());
  if constexpr (!std::is_void_v<T>) return std::move(*r);
}

choices parse(int argc, char** argv) {
  choices c;
  for (int i = 2; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const auto equal = arg.find('=');
    const std::string key(arg.substr(0, equal));
    const std::string value(equal == arg.npos ? std::string_view{} : arg.substr(equal + 1));
    bool known = false;
    const auto text = [&](const char* name, std::string& to) {
      if (key == name) to = value, known = true;
    };
    const auto count = [&](const char* name, std::size_t& to) {
      if (key == name) to = std::strtoul(value.c_str(), nullptr, 10), known = true;
    };
    const auto real = [&](const char* name, auto& to) {
      if (key == name) {
        to =
            static_cast<std::remove_reference_t<decltype(to)>>(std::strtod(value.c_str(), nullptr));
        known = true;
      }
    };
    text("data", c.data), text("out", c.out), text("base", c.base), text("setting", c.setting);
    text("split", c.split), text("only", c.only), text("name", c.name), text("init", c.init);
    text("start", c.start), text("users", c.users);
    count("seed", c.seed), count("profiles", c.profiles), count("samples", c.samples);
    count("questions", c.questions), count("adapters", c.adapters), count("rank", c.rank);
    count("steps", c.steps), count("shared", c.shared), count("alone_steps", c.alone_steps),
        count("groups", c.groups);
    count("fine_steps", c.fine_steps), count("fine_all_steps", c.fine_all_steps);
    count("evaluations", c.evaluations), count("arrow_k", c.arrow_k), count("threads", c.threads);
    real("tau", c.tau), real("strength", c.strength), real("pool_rate", c.pool_rate),
        real("linear_rate", c.linear_rate);
    real("single_rate", c.single_rate), real("all_rate", c.all_rate);
    real("oracle_rate", c.oracle_rate), real("fine_rate", c.fine_rate);
    real("fine_all_rate", c.fine_all_rate), real("density", c.density);
    if (!known) stop({errc::bad_value, "unknown choice " + std::string(arg)});
  }
  return c;
}

// ------------------------------------------------------------------------------------ the models

struct base {
  weights model;
  llama2c_tokenizer tokens;
};

train::training_options<> schedule(std::size_t steps, float peak, float decay = 0) {
  train::training_options<> o;
  o.steps = steps;
  o.schedule = {.peak = peak, .warm_up = std::min<std::size_t>(30, steps / 4), .floor = 0.03F};
  o.optimizer.decay = decay;
  o.optimizer.beta2 = 0.98F;
  o.spread = {.shards = 1, .rows = 512};
  return o;
}

/// Language modelling on the training texts alone: no answer is ever seen.
void make_base(const choices& c, const clinc150& data, thread_pool& threads) {
  std::vector<std::string> texts;
  for (const auto& q : data.train) texts.push_back(q.text);
  for (std::size_t i = 0; i < 20; ++i) {  // so that answers are few tokens
    for (const auto& name : data.intents) texts.push_back(name);
  }
  const auto tokens = take(tokenizer::bpe_trainer({.vocab = 1024}).train(texts));
  model::llama_config shape;
  shape.dim = 128;
  shape.hidden = 384;
  shape.layers = 2;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 32;
  shape.vocab = 1024;
  shape.context = longest;
  rng random(c.seed);
  weights model = train::initial_weights(shape, random, 0.04F);
  std::vector<std::vector<std::int32_t>> ids;
  std::size_t all = 0;
  for (const auto& q : data.train) {
    ids.push_back(tokenizer::encode_prompt(tokens, q.text + "\n"));
    ids.back().push_back(tokens.eos());
    all += ids.back().size();
  }
  std::printf("%zu parameters, %zu texts of %.1f tokens\n", shape.parameters(), ids.size(),
              static_cast<double>(all) / static_cast<double>(ids.size()));
  const auto done = take(train::pretrain<backend>(
      model, schedule(c.steps, 3e-3F, 0.05F),
      [&](std::size_t, train::packed_batch& batch) {
        for (std::size_t i = 0; i < 64; ++i) batch.add(ids[random.below(ids.size())], 1);
      },
      threads,
      [](const train::training_progress& p) {
        if ((p.step + 1) % 100 != 0) return;
        std::printf("step %zu, loss %.3f, %.0f tokens/s\n", p.step + 1, p.loss,
                    p.tokens_per_second);
        std::fflush(stdout);
      }));
  take(model::write_hf_llama<float>(c.out + "/base", model));
  take(tokens.save(c.out + "/base/tokenizer.bin"));
  std::printf("%zu steps, %.0f s\n", done.steps, done.seconds);
}

/// stories260K ends a story with BOS and never saw EOS, whose embedding is that of <unk>: adapters
/// cannot make it say EOS, so its answers end with BOS.
base load_base(const choices& c) {
  if (c.base == "own") {
    return {take(model::load_llama<float>(c.out + "/base")),
            take(llama2c_tokenizer::load(c.out + "/base/tokenizer.bin"))};
  }
  const std::string folder = c.data + "/models/stories260K";
  base made{take(model::load_llama<float>(folder + "/stories260K.bin")),
            take(llama2c_tokenizer::load(folder + "/tok512.bin"))};
  made.tokens.end_texts_with(llama2c_tokenizer::bos());
  return made;
}

// --------------------------------------------------------------------------------------- a run

/// `cosine_softmax` times (sum w^2)^-strength: k adapters of weight 1 / k get k^strength as much.
/// With strength 0 they share what one adapter has, with 1 each of them is there as if alone.
struct strong_softmax {
  float tau = 0.1F, strength = 0;

  static constexpr std::string_view name() { return "strong_softmax"; }

  std::vector<float> weights(matrix_view<const float> index,
                             matrix_view<const float> samples) const {
    auto w = match::cosine_softmax{tau}.weights(index, samples);
    if (strength == 0) return w;
    float squares = 0;
    for (const float x : w) squares += x * x;
    for (float& x : w) x *= std::pow(squares, -strength);
    return w;
  }
};
static_assert(matcher<strong_softmax>);

class study {
 public:
  study(const choices& c, const clinc150& data, thread_pool& threads)
      : c_(c), threads_(threads), base_(load_base(c)), session_(base_.model, longest) {
    const bool any = c.setting == "B";
    set_ = make_training_set(data, base_.tokens, any);
    const auto& split = c.split == "val" ? data.val : data.test;
    profiles_ = make_profiles(data, std::span<const query>(split), base_.tokens, c.profiles,
                              c.samples, c.questions, any, 1000);
    domains_ = data.domains.size();
    std::size_t tokens = 0, answers = 0;
    for (const auto& s : set_.samples) {
      tokens += s.ids.size();
      answers += s.ids.size() - s.prompt_tokens;
    }
    const auto n = static_cast<double>(set_.samples.size());
    std::printf("%zu samples of %.1f tokens, answers %.1f\n", set_.samples.size(),
                static_cast<double>(tokens) / n, static_cast<double>(answers) / n);
    report_["base"] = c.base;
    report_["setting"] = c.setting;
    report_["split"] = c.split;
    report_["seed"] = c.seed;
    report_["parameters"] = base_.model.config().parameters();
    report_["questions"] = c.questions;
    for (const auto& p : profiles_) {
      report_["domains"].push_back(p.who.domains.size());
      report_["convention"].push_back(static_cast<std::size_t>(p.who.answers));
    }
  }

  void run() {
    if (wants("base")) {
      each(
          "base", [&](std::size_t p) { return ask(p, model::no_delta{}); }, 0);
    }
    singles();
    oracle();
    joint("loo", train::chosen_gates::kind::leave_one_out, false);
    joint("loo_linear", train::chosen_gates::kind::leave_one_out, true);
    joint("sample", train::chosen_gates::kind::per_sample, false);
    joint("sample_linear", train::chosen_gates::kind::per_sample, true);
    independent();
    save();
  }

 private:
  [[nodiscard]] bool wants(std::string_view stage) const {
    return c_.only.empty() ||
           ("," + c_.only + ",").find("," + std::string(stage) + ",") != std::string::npos;
  }

  // ------------------------------------------------------------------------------- evaluation

  /// How many of a user's questions are answered exactly: greedy decoding gives the answer and its
  /// end if and only if every token of it is the most likely one after those before.
  template <class Delta>
  std::size_t ask(std::size_t p, const Delta& delta) {
    return ask(std::span<const encoded_sample>(profiles_[p].questions), delta);
  }
  template <class Delta>
  std::size_t ask(std::span<const encoded_sample> questions, const Delta& delta) {
    std::size_t sum = 0;
    for (const auto& q : questions) {
      bool right = true;
      session_.reset();
      session_.for_each_logits(
          std::span(q.ids).first(q.ids.size() - 1),
          [&](std::size_t i, std::span<float> logits) {
            if (!right || i + 1 < q.prompt_tokens) return;
            const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
            right = best == q.ids[i + 1];
          },
          delta);
      sum += right ? 1 : 0;
    }
    return sum;
  }
  template <class Adapter>
  std::size_t ask_with(std::size_t p, const Adapter& a) {
    const auto delta = take(model::lora_delta<backend, float>::bind(base_.model.config(), a));
    return ask(p, delta);
  }

  /// Right answers of every user by one contestant; `rank` is what the device runs.
  void each(const std::string& name, const std::function<std::size_t(std::size_t)>& right,
            double rank, double ms = -1) {
    const auto start = wall::now();
    std::vector<std::size_t> rights;
    double sum = 0;
    for (std::size_t p = 0; p < profiles_.size(); ++p) {
      rights.push_back(right(p));
      sum += static_cast<double>(rights.back());
    }
    auto& m = report_["methods"][name];
    m["right"] = rights;
    m["rank"] = rank;
    if (ms >= 0) m["ms"] = ms;
    m["seconds"] = seconds_since(start);
    const double share = sum / static_cast<double>(profiles_.size() * c_.questions);
    std::printf("%-34s %5.1f %%  rank %5.1f  %6.1f s", name.c_str(), 100 * share, rank,
                seconds_since(start));
    if (ms >= 0) std::printf("  %.2f ms", ms);
    std::printf("\n");
    std::fflush(stdout);
  }

  /// A contestant that makes an adapter for each user: times and the mean rank are measured.
  template <class Make>
  void each_blend(const std::string& name, Make make) {
    std::vector<double> ms;
    double rank = 0;
    const auto start = wall::now();
    std::vector<std::size_t> rights;
    double sum = 0;
    for (std::size_t p = 0; p < profiles_.size(); ++p) {
      const auto before = wall::now();
      const auto made = take(make(p));
      ms.push_back(1e3 * seconds_since(before));
      rank += mean_rank(made);
      rights.push_back(ask_with(p, made));
      sum += static_cast<double>(rights.back());
    }
    std::nth_element(ms.begin(), ms.begin() + static_cast<std::ptrdiff_t>(ms.size() / 2), ms.end());
    const auto n = static_cast<double>(profiles_.size());
    auto& m = report_["methods"][name];
    m["right"] = rights;
    m["rank"] = rank / n;
    m["ms"] = ms[ms.size() / 2];
    std::printf("%-34s %5.1f %%  rank %5.1f  %6.1f s  %.2f ms\n", name.c_str(),
                100 * sum / n / static_cast<double>(c_.questions), rank / n, seconds_since(start),
                ms[ms.size() / 2]);
    std::fflush(stdout);
  }
  template <class Adapter>
  static double mean_rank(const Adapter& a) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      if constexpr (model::adapter_sum<Adapter>) {
        for (const auto& part : a.parts(i)) sum += static_cast<double>(part.rank());
      } else {
        sum += static_cast<double>(a.factors(i).rank());
      }
    }
    return sum / static_cast<double>(a.size());
  }

  void save() {
    const std::string name =
        c_.name.empty() ? c_.base + "-" + c_.setting + "-" + std::to_string(c_.seed) : c_.name;
    std::ofstream(c_.out + "/" + name + ".json") << report_.dump(1) << "\n";
  }

  // --------------------------------------------------------------------------------- training

  [[nodiscard]] std::vector<adapter::site_shape> shapes(std::size_t rank) const {
    using model::projection;
    constexpr std::array every{projection::q,    projection::k,  projection::v,   projection::o,
                               projection::gate, projection::up, projection::down};
    return train::lora_shapes(base_.model.config(), rank, 2 * static_cast<float>(rank), every);
  }

  /// A trained pool, or one that an earlier run left.
  template <class Make>
  pool_type trained(const std::string& stage, const std::string& key, Make make) {
    const std::string path = c_.out + "/" + c_.base + "-" + c_.setting + "-" +
                             std::to_string(c_.seed) + "-" + stage + "-" + key + ".safetensors";
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
      const auto start = wall::now();
      pool_type made = make();
      std::printf("%s: %.0f s\n", path.c_str(), seconds_since(start));
      std::fflush(stdout);
      take(adapter::save_pool(path, made));
    }
    auto loaded = take(adapter::load_pool<float>(path));
    report_["seconds"][stage] = std::strtod(loaded.info().notes.at("seconds").c_str(), nullptr);
    return loaded;
  }
  static std::string digits(double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", x);
    return text;
  }

  adapter_type one_adapter(std::size_t rank, float rate, std::size_t steps,
                           std::span<const std::size_t> members, rng random,
                           std::span<const encoded_sample> samples) {
    auto one = train::initial_adapter(shapes(rank), random);
    train_one(one, rate, steps, members, random, samples);
    return one;
  }
  void train_one(adapter_type& one, float rate, std::size_t steps,
                 std::span<const std::size_t> members, rng& random) {
    train_one(one, rate, steps, members, random, set_.samples);
  }
  void train_one(adapter_type& one, float rate, std::size_t steps,
                 std::span<const std::size_t> members, rng& random,
                 std::span<const encoded_sample> samples) {
    take(train::train_adapter<backend>(
        base_.model, one, schedule(steps, rate),
        [&](std::size_t, train::packed_batch& batch) {
          for (std::size_t i = 0; i < c_.groups * c_.samples; ++i) {
            const auto& s = samples[members[random.below(members.size())]];
            batch.add(s.ids, s.prompt_tokens);
          }
        },
        threads_, loss_of));
  }
  /// A line for every 300 steps.
  static void loss_of(const train::training_progress& p) {
    if ((p.step + 1) % 300 != 0) return;
    std::printf("  step %zu, loss %.3f, %.0f tokens/s\n", p.step + 1, p.loss, p.tokens_per_second);
    std::fflush(stdout);
  }
  pool_type alone(const adapter_type& one, double seconds) const {
    adapter::pool_info info;
    info.base_model = c_.base;
    info.base_hash = base_.model.hash();
    info.notes["seconds"] = digits(seconds);
    return take(pool_type::build(std::span(&one, 1), matrix_view<const float>(nullptr, 1, 0),
                                 std::move(info)));
  }
  adapter_type single(const std::string& stage, std::size_t rank, float rate,
                      std::span<const std::size_t> members, std::uint64_t salt,
                      std::span<const encoded_sample> samples, std::size_t steps) {
    return trained(stage,
                   std::to_string(rank) + "-" + digits(double{rate}) + "-" + std::to_string(steps),
                   [&] {
                     const auto start = wall::now();
                     const auto one = one_adapter(rank, rate, steps, members,
                                                  rng(c_.seed * 100 + salt), samples);
                     return alone(one, seconds_since(start));
                   })
        .extract(0);
  }

  [[nodiscard]] std::vector<std::size_t> everything() const {
    std::vector<std::size_t> all(set_.samples.size());
    std::iota(all.begin(), all.end(), std::size_t{0});
    return all;
  }

  /// One adapter on all data: of the rank of one adapter of the pool, and of the pool's size; both
  /// also as the start of fine-tuning on a user's samples.
  void singles() {
    const auto all = everything();
    if (wants("single")) {
      const auto one = single("single", c_.rank, c_.single_rate, all, 1, set_.samples, c_.steps);
      each(
          "one for all, same rank", [&](std::size_t p) { return ask_with(p, one); },
          static_cast<double>(c_.rank));
    }
    if (wants("all") || wants("fine_all")) {
      const std::size_t rank = c_.rank * c_.adapters;
      const auto one = single("all", rank, c_.all_rate, all, 2, set_.samples, c_.steps);
      if (wants("all")) {
        each(
            "one for all, pool's size", [&](std::size_t p) { return ask_with(p, one); },
            static_cast<double>(rank));
      }
      if (wants("fine_all")) {
        each_blend("one for all, pool's size, tuned", [&](std::size_t p) -> result<adapter_type> {
          auto tuned = one;
          tune(p, tuned, c_.fine_all_rate, c_.fine_all_steps);
          return tuned;
        });
      }
    }
    if (wants("fine")) {
      each_blend("few-shot fine-tuning", [&](std::size_t p) -> result<adapter_type> {
        rng random(c_.seed * 100 + 3 + p);
        auto tuned = train::initial_adapter(shapes(c_.rank), random);
        tune(p, tuned, c_.fine_rate, c_.fine_steps);
        return tuned;
      });
    }
  }
  void tune(std::size_t p, adapter_type& a, float rate, std::size_t steps) {
    take(train::train_adapter<backend>(
        base_.model, a, schedule(steps, rate),
        [&](std::size_t, train::packed_batch& batch) {
          for (const auto& s : profiles_[p].samples) batch.add(s.ids, s.prompt_tokens);
        },
        threads_));
  }

  /// Two that know the convention. One adapter of the pool's size whose questions say it, trained
  /// as long as all else; and three such adapters, one for each convention, each of the pool's size
  /// and trained as long: three times the parameters and the training.
  void oracle() {
    if (c_.setting != "B") return;
    const auto rank = static_cast<double>(c_.rank * c_.adapters);
    if (wants("told")) {
      const auto all = everything();
      const auto one =
          single("told", c_.rank * c_.adapters, c_.oracle_rate, all, 9, set_.told, c_.steps);
      const auto delta = take(model::lora_delta<backend, float>::bind(base_.model.config(), one));
      each(
          "oracle, told the convention",
          [&](std::size_t p) {
            return ask(std::span<const encoded_sample>(profiles_[p].told), delta);
          },
          rank);
    }
    if (!wants("oracle")) return;
    std::vector<adapter_type> of;
    for (std::size_t k = 0; k < conventions; ++k) {
      std::vector<std::size_t> members;
      for (std::size_t i = 0; i < set_.samples.size(); ++i) {
        if (set_.answers[i] == k) members.push_back(i);
      }
      of.push_back(single("oracle" + std::to_string(k), c_.rank * c_.adapters, c_.oracle_rate,
                          members, 10 + k, set_.samples, c_.steps));
    }
    each(
        "oracle, an adapter per convention",
        [&](std::size_t p) {
          return ask_with(p, of[static_cast<std::size_t>(profiles_[p].who.answers)]);
        },
        rank);
  }

  /// Embeddings of all training samples; they depend on the base model alone.
  const std::vector<float>& embedded() {
    if (!embedded_.empty()) return embedded_;
    const std::string path = c_.out + "/" + c_.base + "-" + c_.setting + "-embedded.bin";
    const std::size_t count = set_.samples.size() * pooling::size(base_.model.config().dim);
    embedded_.resize(count);
    const auto bytes = static_cast<std::streamsize>(count * sizeof(float));
    std::ifstream in(path, std::ios::binary);
    if (in.read(static_cast<char*>(static_cast<void*>(embedded_.data())), bytes)) return embedded_;
    const auto start = wall::now();
    embedded_ = train::embed_all<backend, pooling>(
        base_.model, std::span<const encoded_sample>(set_.samples), threads_);
    std::printf("embedded in %.0f s\n", seconds_since(start));
    std::ofstream(path, std::ios::binary)
        .write(static_cast<const char*>(static_cast<const void*>(embedded_.data())), bytes);
    return embedded_;
  }

  /// Index vectors; k-means and its space have a seed of their own.
  const train::placed_samples& placed() {
    if (placed_.width != 0) return placed_;
    const auto& rows = embedded();
    rng random(c_.seed * 100 + 50);
    const std::size_t length = pooling::size(base_.model.config().dim);
    placed_ = take(train::place_samples<backend>(
        matrix_view<const float>(rows.data(), set_.samples.size(), length), pooling::size(1),
        set_.task, c_.adapters,
        c_.init == "tasks" ? train::pool_init::tasks : train::pool_init::k_means, random));
    return placed_;
  }

  pool_type finished(std::span<const adapter_type> adapters, std::string blend, double seconds) {
    adapter::pool_info info;
    info.base_model = c_.base;
    info.base_hash = base_.model.hash();
    info.embedding = pooling::name();
    info.matcher = match::cosine_softmax::name();
    info.tau = c_.tau;
    info.blend = std::move(blend);
    info.centre = placed().space.centre;
    info.projection = placed().space.projection;
    info.notes["seconds"] = digits(seconds);
    const matrix_view<const float> index(placed().index.data(), c_.adapters, placed().width);
    return take(pool_type::build(adapters, index, std::move(info)));
  }

  [[nodiscard]] std::string pool_key(float rate) const {
    return std::to_string(c_.adapters) + "x" + std::to_string(c_.rank) + "-" + c_.init + "-" +
           c_.users + "-" + digits(double{c_.tau}) + "-" + digits(double{c_.strength}) + "-" +
           digits(double{rate}) + "-" + std::to_string(c_.steps) + "-" + c_.start +
           std::to_string(c_.shared);
  }

  adapter_type shared_start() {
    const auto all = everything();
    return single("shared", c_.rank, c_.single_rate, all, 4, set_.samples, c_.shared);
  }

  pool_type train_joint(train::chosen_gates::kind gates, bool linear) {
    const auto start = wall::now();
    const auto& places = placed();
    const float rate = linear ? c_.linear_rate : c_.pool_rate;
    rng random(c_.seed * 100 + 60);
    std::vector<adapter_type> adapters;
    std::size_t steps = c_.steps;
    if (c_.start == "copies") {
      steps -= c_.shared;
      adapters.assign(c_.adapters, shared_start());
    } else {
      for (std::size_t k = 0; k < c_.adapters; ++k) {
        adapters.push_back(train::initial_adapter(shapes(c_.rank), random));
      }
    }
    const matrix_view<const float> index(places.index.data(), c_.adapters, places.width);
    const auto next = [&](std::size_t, train::grouped_batch& batch) {
      for (std::size_t g = 0; g < c_.groups; ++g) {
        batch.begin_group();
        user u = random_user(domains_, c_.setting == "B", random);
        std::vector<std::size_t> tasks;
        for (const std::size_t d : u.domains) {
          if (c_.users == "mixed") u = random_user(domains_, c_.setting == "B", random);
          tasks.push_back(d * conventions + static_cast<std::size_t>(u.answers));
        }
        for (std::size_t i = 0; i < c_.samples; ++i) {
          const auto& from = set_.of[tasks[i % tasks.size()]];
          const std::size_t s = from[random.below(from.size())];
          batch.add(set_.samples[s].ids, set_.samples[s].prompt_tokens,
                    std::span(places.places).subspan(s * places.width, places.width));
        }
      }
    };
    const strong_softmax match{c_.tau, c_.strength};
    const train::chosen_gates chosen{gates};
    if (linear) {
      take(train::joint_pool<backend, blend::linear<>>(base_.model, std::span(adapters), index,
                                                       match, chosen, schedule(steps, rate), next,
                                                       threads_, loss_of));
    } else {
      take(train::joint_pool<backend>(base_.model, std::span(adapters), index, match, chosen,
                                      schedule(steps, rate), next, threads_, loss_of));
    }
    return finished(adapters, linear ? "linear" : "concat", seconds_since(start));
  }

  /// Each user's weights over a pool, and how long the samples took to embed and match.
  struct matched {
    std::vector<std::vector<float>> weights;
    double embed_ms = 0, match_ms = 0;
  };
  matched match_all(const pool_type& pool) {
    matched m;
    const match::index_space space{pool.info().centre, pool.info().projection};
    const std::size_t length = pooling::size(base_.model.config().dim);
    const std::size_t width = pool.index().cols;
    for (const auto& p : profiles_) {
      auto start = wall::now();
      std::vector<float> rows(p.samples.size() * length), places(p.samples.size() * width);
      for (std::size_t i = 0; i < p.samples.size(); ++i) {
        match::embed<pooling>(session_, p.samples[i].ids, p.samples[i].prompt_tokens,
                              std::span(rows).subspan(i * length, length));
      }
      m.embed_ms += 1e3 * seconds_since(start);
      start = wall::now();
      for (std::size_t i = 0; i < p.samples.size(); ++i) {
        space.place(std::span(rows).subspan(i * length, length),
                    std::span(places).subspan(i * width, width));
      }
      m.weights.push_back(strong_softmax{pool.info().tau, c_.strength}.weights(
          pool.index(), {places.data(), p.samples.size(), width}));
      m.match_ms += 1e3 * seconds_since(start);
    }
    m.embed_ms /= static_cast<double>(profiles_.size());
    m.match_ms /= static_cast<double>(profiles_.size());
    report_["embed_ms"] = m.embed_ms;
    report_["match_ms"] = m.match_ms;
    return m;
  }

  void joint(const std::string& stage, train::chosen_gates::kind gates, bool linear) {
    if (!wants(stage)) return;
    const pool_type pool = trained(stage, pool_key(linear ? c_.linear_rate : c_.pool_rate),
                                   [&] { return train_joint(gates, linear); });
    const matched m = match_all(pool);
    const auto slots = [&](std::size_t p) { return blend::slots_of(m.weights[p], 0.01F); };
    const auto whole = [&](std::size_t p) { return blend::slots_of(m.weights[p]); };
    if (linear) {
      each_blend(stage + ": linear",
                 [&](std::size_t p) { return blend::linear<>::blend(pool, whole(p)); });
      return;
    }
    const auto cores = take(blend::compute_cores(pool));
    each_blend(stage + ": concat",
               [&](std::size_t p) { return blend::concat::blend(pool, slots(p)); });
    each_blend(stage + ": recompress", [&](std::size_t p) {
      return blend::recompress<>::blend(pool, whole(p), {.rank = c_.rank, .cores = cores});
    });
    if (c_.strength == 0) {  // means of factors have no strength
      each_blend(stage + ": linear",
                 [&](std::size_t p) { return blend::linear<>::blend(pool, whole(p)); });
    }
    if (wants("single_best")) best_single(stage, pool);
    if (stage == "loo") {
      if (wants("policies")) policies(stage, pool, cores, m);
      if (wants("rivals")) rivals(stage, pool, m);
      if (wants("search")) search("few-shot search from " + stage + " weights", pool, m.weights);
    }
  }

  /// What else may blend the pool.
  void policies(const std::string& stage, const pool_type& pool, const adapter::pool_cores& cores,
                const matched& m) {
    const auto slots = [&](std::size_t p) { return blend::slots_of(m.weights[p], 0.01F); };
    const auto whole = [&](std::size_t p) { return blend::slots_of(m.weights[p]); };
    each_blend(stage + ": activations",
               [&](std::size_t p) { return blend::activations::blend(pool, slots(p)); });
    each_blend(stage + ": recompress, twice the rank", [&](std::size_t p) {
      return blend::recompress<>::blend(pool, whole(p), {.rank = 2 * c_.rank, .cores = cores});
    });
    const blend::sparse_options sparse{.density = c_.density, .rank = c_.rank, .cores = cores};
    each_blend(stage + ": ties",
               [&](std::size_t p) { return blend::ties<>::blend(pool, slots(p), sparse); });
    each_blend(stage + ": dare",
               [&](std::size_t p) { return blend::dare<>::blend(pool, slots(p), sparse); });
    each_blend(stage + ": dare_ties",
               [&](std::size_t p) { return blend::dare_ties<>::blend(pool, slots(p), sparse); });
    each_blend(stage + ": magnitude_prune", [&](std::size_t p) {
      return blend::magnitude_prune<>::blend(pool, slots(p), sparse);
    });
    each_blend(stage + ": knots_ties",
               [&](std::size_t p) { return blend::knots_ties<>::blend(pool, slots(p), sparse); });
    each_blend(stage + ": peft_linear",
               [&](std::size_t p) { return blend::peft_linear<>::blend(pool, whole(p)); });
  }

  static std::vector<float> uniform(const pool_type& pool) {
    return std::vector<float>(pool.size(), 1.0F / static_cast<float>(pool.size()));
  }

  /// What else may be done with a pool: all adapters alike, the nearest, each site by itself.
  void rivals(const std::string& stage, const pool_type& pool, const matched& m) {
    const auto even = uniform(pool);
    each_blend("uniform, " + stage,
               [&](std::size_t) { return blend::concat::blend(pool, blend::slots_of(even)); });
    nearest(stage, pool, m);
    arrow(stage, pool);
  }

  /// The best adapter of the pool for each user, chosen on the very questions.
  void best_single(const std::string& stage, const pool_type& pool) {
    std::vector<adapter_type> all;
    for (std::size_t k = 0; k < pool.size(); ++k) all.push_back(pool.extract(k));
    each(
        "best single (oracle), " + stage,
        [&](std::size_t p) {
          std::size_t best = 0;
          for (const auto& a : all) best = std::max(best, ask_with(p, a));
          return best;
        },
        static_cast<double>(c_.rank));
  }

  void nearest(const std::string& stage, const pool_type& pool, const matched& m) {
    each_blend("nearest single, " + stage, [&](std::size_t p) -> result<adapter_type> {
      const auto& w = m.weights[p];
      return pool.extract(
          static_cast<std::size_t>(std::max_element(w.begin(), w.end()) - w.begin()));
    });
  }

  void arrow(const std::string& stage, const pool_type& pool) {
    const auto delta = take(engine::arrow_delta<backend, float>::bind(
        base_.model.config(), pool, match::arrow{.temperature = 1, .top_k = c_.arrow_k}));
    each(
        "arrow, " + stage, [&](std::size_t p) { return ask(p, delta); },
        static_cast<double>(c_.rank * c_.adapters));
  }

  void search(const std::string& name, const pool_type& pool,
              const std::vector<std::vector<float>>& start) {
    each_blend(name, [&](std::size_t p) -> result<adapter_type> {
      CRAYON_TRY(
          const auto found,
          (engine::few_shot_search<backend, blend::concat>(
              base_.model, pool, std::span<const encoded_sample>(profiles_[p].samples), start[p],
              {.evaluations = c_.evaluations,
               .step = 0.2F,
               .l1 = 0.05F,
               .seed = c_.seed * 100 + p})));
      return blend::concat::blend(pool, blend::slots_of(found.weights, 0.01F));
    });
  }

  /// One adapter per cluster, each alone on its samples, from one that saw all.
  void independent() {
    if (!wants("independent")) return;
    const pool_type pool = trained(
        "independent", pool_key(c_.single_rate) + "-" + std::to_string(c_.alone_steps), [&] {
          const auto start = wall::now();
          rng random(c_.seed * 100 + 70);
          const auto all = everything();
          std::vector<adapter_type> adapters(c_.adapters, shared_start());
          for (std::size_t k = 0; k < c_.adapters; ++k) {
            std::vector<std::size_t> members;
            for (const std::size_t i : all) {
              if (placed().assignment[i] == k) members.push_back(i);
            }
            train_one(adapters[k], c_.single_rate, c_.alone_steps, members, random);
          }
          return finished(adapters, "concat", seconds_since(start));
        });
    const matched m = match_all(pool);
    each_blend("independent: concat", [&](std::size_t p) {
      return blend::concat::blend(pool, blend::slots_of(m.weights[p], 0.01F));
    });
    if (c_.strength == 0) {
      each_blend("independent: linear", [&](std::size_t p) {
        return blend::linear<>::blend(pool, blend::slots_of(m.weights[p]));
      });
    }
    if (wants("single_best")) best_single("independent", pool);
    rivals("independent", pool, m);
    if (wants("search")) {
      search("few-shot search, independent", pool,
             std::vector<std::vector<float>>(profiles_.size(), uniform(pool)));
    }
  }

  choices c_;
  thread_pool& threads_;
  base base_;
  session session_;
  training_set set_;
  std::vector<profile> profiles_;
  std::size_t domains_ = 0;
  std::vector<float> embedded_;
  train::placed_samples placed_;
  json report_;
};

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what != "base" && what != "run") {
    std::fprintf(stderr, "crayon_clinc150 base|run data=DIR out=DIR [key=value]...\n");
    return 2;
  }
  const choices c = parse(argc, argv);
  const auto data = take(clinc150::load(c.data + "/text/clinc150"));
  thread_pool threads(c.threads);
  if (what == "base") {
    make_base(c, data, threads);
  } else {
    study(c, data, threads).run();
  }
}
