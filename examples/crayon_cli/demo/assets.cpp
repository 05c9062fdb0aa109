// SPDX-License-Identifier: MIT
#include "assets.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/engine/router_binding.hpp>
#include <crayon/engine/sample.hpp>
#include <crayon/model/hf_llama.hpp>
#include <crayon/router/threshold.hpp>
#include <crayon/serve/router_file.hpp>
#include <crayon/tokenizer/bpe_trainer.hpp>
#include <crayon/train/build_pool.hpp>
#include <crayon/train/initialise.hpp>
#include <crayon/train/pretrain.hpp>

#include "evaluate.hpp"
#include "user.hpp"

namespace crayon::demo {
namespace {

using cli::backend;
using cli::weights;
using tokenizer::llama2c_tokenizer;

constexpr std::size_t vocabulary = 768;
constexpr std::size_t pool_rank = 2;
constexpr float pool_tau = 0.05F;

model::llama_config shape_of(bool server) {
  model::llama_config c;
  c.dim = server ? 256 : 128;
  c.hidden = server ? 704 : 352;
  c.layers = 5;
  c.heads = server ? 8 : 4;
  c.kv_heads = server ? 4 : 2;
  c.head_dim = 32;
  c.vocab = vocabulary;
  c.context = 64;
  return c;
}

engine::encoded_sample encode(const llama2c_tokenizer& tokens, const sample& s) {
  return engine::encode_sample(tokens, {s.prompt, s.completion});
}

/// A bar on a terminal, and a line every so many steps elsewhere.
class training_log {
 public:
  training_log(std::string what, std::size_t steps)
      : what_(std::move(what)), steps_(steps), bar_(what_) {}

  void operator()(const train::training_progress& p) {
    mean_ = p.step == 0 ? p.loss : 0.98 * mean_ + 0.02 * p.loss;
    char note[96];
    std::snprintf(note, sizeof note, "loss %.3f, %.0f tokens/s", mean_, p.tokens_per_second);
    bar_.show(p.step + 1, steps_, note);
    if ((p.step + 1) % 500 == 0 || p.step + 1 == steps_) {
      std::printf("%s: step %zu of %zu, %s\n", what_.c_str(), p.step + 1, steps_, note);
      std::fflush(stdout);
    }
  }
  [[nodiscard]] double loss() const noexcept { return mean_; }

 private:
  std::string what_;
  std::size_t steps_;
  cli::progress_bar bar_;
  double mean_ = 0;
};

train::training_options<> schedule(std::size_t steps, float peak, std::size_t warm_up,
                                   float decay) {
  train::training_options<> o;
  o.steps = steps;
  o.schedule = {.peak = peak, .warm_up = warm_up, .floor = 0.03F};
  o.optimizer.decay = decay;
  o.optimizer.beta2 = 0.98F;
  o.clip = 1;
  o.spread = {.shards = 2, .rows = 512};
  return o;
}

result<llama2c_tokenizer> learn_vocabulary(rng random) {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < 40000; ++i) {
    const sample s = generate(random.below(tasks().size()), split::train, random);
    texts.push_back(s.prompt);
    texts.push_back(s.completion);
  }
  return tokenizer::bpe_trainer({.vocab = vocabulary}).train(texts);
}

/// Pretrains on all tasks and conventions alike and writes the model in bf16. One sequence in four
/// is learned whole, the others from the completion on: the questions are the larger part, and the
/// answers are what counts.
result<void> make_model(const std::string& directory, const llama2c_tokenizer& tokens, bool server,
                        std::uint64_t seed, thread_pool& threads, cli::json& report) {
  rng random(seed);
  const std::size_t steps = 5000;
  const auto options = schedule(steps, server ? 2e-3F : 3e-3F, 100, 0.05F);
  weights model = train::initial_weights(shape_of(server), random, 0.04F);
  training_log log(server ? "server model" : "device model", steps);
  CRAYON_TRY(const auto done,
             train::pretrain<backend>(
                 model, options,
                 [&](std::size_t, train::packed_batch& batch) {
                   for (std::size_t i = 0; i < 64; ++i) {
                     const auto s = encode(
                         tokens, generate(random.below(tasks().size()), split::train, random));
                     batch.add(s.ids, random.below(4) == 0 ? 1 : s.prompt_tokens);
                   }
                 },
                 threads, [&](const train::training_progress& p) { log(p); }));
  CRAYON_CHECK(model::write_hf_llama<bf16>(directory, model));
  CRAYON_CHECK(tokens.save(directory + "/tokenizer.bin"));
  report[server ? "server" : "device"] = {{"parameters", model.config().parameters()},
                                          {"steps", steps},
                                          {"tokens", done.rows},
                                          {"loss", log.loss()},
                                          {"seconds", done.seconds}};
  return {};
}

/// More of the server model's training, from its file: on answers alone, and mostly on the families
/// that the device model is weak in. Five times the parameters do not make a model better by
/// themselves: after the same steps as the device model it answered 47 % where that one answered
/// 49 %.
result<void> train_further(const std::string& directory, const llama2c_tokenizer& tokens,
                           std::uint64_t seed, thread_pool& threads, cli::json& report) {
  CRAYON_TRY(weights model, cli::load_widened(directory));
  std::vector<std::size_t> choices;  // a task as often as it is wanted
  for (std::size_t t = 0; t < tasks().size(); ++t) {
    const std::string_view family = tasks()[t].family;
    const bool hard = family == "arithmetic" || family == "times" || family == "weekday" ||
                      family == "sequence" || family == "largest";
    const std::size_t often = !tasks()[t].convention.empty() ? 1 : hard ? 16 : 5;
    choices.insert(choices.end(), often, t);
  }
  rng random(seed);
  const auto options = schedule(4500, 2e-3F, 100, 0.05F);
  training_log log("server model, further", options.steps);
  CRAYON_TRY(const auto done, train::pretrain<backend>(
                                  model, options,
                                  [&](std::size_t, train::packed_batch& batch) {
                                    for (std::size_t i = 0; i < 64; ++i) {
                                      const auto s = encode(
                                          tokens, generate(choices[random.below(choices.size())],
                                                           split::train, random));
                                      batch.add(s.ids, s.prompt_tokens);
                                    }
                                  },
                                  threads, [&](const train::training_progress& p) { log(p); }));
  CRAYON_CHECK(model::write_hf_llama<bf16>(directory, model));
  CRAYON_CHECK(tokens.save(directory + "/tokenizer.bin"));
  report["server_further"] = {{"steps", options.steps},
                              {"tokens", done.rows},
                              {"loss", log.loss()},
                              {"seconds", done.seconds}};
  return {};
}

/// Texts of every task.
struct corpus {
  std::vector<engine::encoded_sample> samples;  ///< task after task, `each` of each
  std::vector<std::string> tasks;               ///< of each sample
  std::size_t each = 300;
};

corpus make_corpus(const llama2c_tokenizer& tokens, rng random) {
  corpus c;
  for (std::size_t t = 0; t < tasks().size(); ++t) {
    for (std::size_t i = 0; i < c.each; ++i) {
      c.samples.push_back(encode(tokens, generate(t, split::train, random)));
      c.tasks.push_back(name_of(t));
    }
  }
  return c;
}

/// What the pool and the one adapter for everything have in common: 64 samples per step.
train::pool_options training_of(std::size_t rank, float rate, std::uint64_t seed) {
  train::pool_options o;
  o.rank = rank;
  o.alpha = static_cast<float>(rank);
  o.steps = 1000;
  o.users = 8;
  o.samples = brought;
  o.training = schedule(o.steps, rate, 30, 0);
  o.seed = seed;
  return o;
}

result<void> make_pool(const assets& files, const weights& model, const corpus& c,
                       std::uint64_t seed, thread_pool& threads, cli::json& report) {
  auto how = training_of(pool_rank, 5e-3F, seed);
  how.adapters = tasks().size();
  how.tau = pool_tau;
  how.init = train::pool_init::tasks;
  how.start = train::pool_start::random;
  how.base_model = "crayon-demo-device";
  const auto mixed = [&](std::size_t count, rng& random) {
    const task_mix mix = random_mix(random);
    std::vector<std::size_t> drawn;
    for (std::size_t i = 0; i < count; ++i) {
      drawn.push_back(mix[i % mix.size()] * c.each + random.below(c.each));
    }
    return drawn;
  };
  const train::user_draw draw(mixed);
  how.draw = &draw;
  training_log log("pool", how.steps);
  CRAYON_TRY(const auto made,
             train::build_pool<backend>(
                 model, std::span(c.samples), std::span(c.tasks), how, threads,
                 [&](std::string_view, const train::training_progress& p, std::size_t) {
                   log(p);
                   return true;
                 }));
  std::vector<adapter::lora_adapter<bf16>> stored;
  for (std::size_t t = 0; t < made.pool.size(); ++t)
    stored.push_back(adapter::rounded_to<bf16>(made.pool.extract(t)));
  CRAYON_TRY(const auto pool, adapter::pool<bf16>::build(std::span(std::as_const(stored)),
                                                         made.pool.index(), made.pool.info()));
  CRAYON_CHECK(adapter::save_pool(files.pool(), pool));
  report["pool"] = {{"adapters", pool.size()}, {"rank", pool_rank},
                    {"steps", how.steps},      {"loss", log.loss()},
                    {"bytes", pool.bytes()},   {"seconds", made.report.seconds}};
  return {};
}

/// One adapter with all the parameters of the pool, on the same texts as often, with the best of
/// three learning rates by its accuracy on calibration questions.
result<void> make_one_for_all(const assets& files, const weights& model,
                              const llama2c_tokenizer& tokens, const corpus& c, rng random,
                              thread_pool& threads, cli::json& report) {
  const std::size_t rank = pool_rank * tasks().size();
  std::vector<sample> questions;
  const std::uint64_t seed = random();
  for (std::size_t t = 0; t < tasks().size(); ++t) {
    for (std::size_t i = 0; i < 12; ++i) {
      questions.push_back(generate(t, split::calibration, random));
    }
  }
  double best = -1;
  for (const float rate : {5e-4F, 1.5e-3F, 5e-3F}) {
    const auto how = training_of(rank, rate, seed);
    training_log log("one for all", how.steps);
    CRAYON_TRY(const auto made,
               train::build_single<backend>(
                   model, std::span(c.samples), how, threads,
                   [&](std::string_view, const train::training_progress& p, std::size_t) {
                     log(p);
                     return true;
                   }));
    const auto stored = adapter::rounded_to<bf16>(made.adapter);
    CRAYON_TRY(const auto delta, (model::lora_delta<backend, bf16>::bind(model.config(), stored)));
    const double right = share(answered(model, tokens, questions, delta, threads));
    std::printf("one for all: rate %g, %.1f %% of the calibration questions\n", double{rate},
                100 * right);
    report["one_for_all"]["calibration accuracy at rate"][std::to_string(rate)] = right;
    if (right > best) {
      best = right;
      adapter::peft_info info;
      info.base_model = "crayon-demo-device";
      info.base_hash = model.hash();
      CRAYON_CHECK(adapter::save_peft(files.one_for_all(), stored, info));
      report["one_for_all"]["rank"] = rank;
      report["one_for_all"]["seconds"] = made.report.seconds;
    }
  }
  return {};
}

/// Thresholds from simulated users with conventions of their own, as those have who customize, and
/// calibration questions, half of a user's task and half of other ones: first the scope, then the
/// confidence of what stays. (Among users of any tasks it pays to send unsure answers to tasks that
/// the server knows better; sent at that confidence, 28 % of the story's own questions went to a
/// server that cannot know the convention, and 18 points of their accuracy with them.)
result<void> make_router(const assets& files, const llama2c_tokenizer& tokens, rng random,
                         thread_pool& threads, cli::json& report) {
  CRAYON_TRY(const auto pool, adapter::load_pool<float>(files.pool()));
  CRAYON_TRY(weights device_weights, cli::load_widened(files.device()));
  CRAYON_TRY(const weights server_weights, cli::load_widened(files.server()));
  CRAYON_TRY(device_engine device, device_engine::make(std::move(device_weights), tokens));
  struct seen_query {
    signals before, after;
    bool device_ok, server_ok, own;
  };
  std::vector<seen_query> queries;
  for (std::size_t user = 0; user < 48; ++user) {
    task_mix mix;
    do {
      mix = random_mix(random);
    } while (!std::ranges::all_of(mix, [](std::size_t t) { return !tasks()[t].convention.empty(); }));
    const auto brings = draw(mix, brought, split::train, random);
    std::vector<engine::sample> samples;
    for (const auto& s : brings) samples.push_back({s.prompt, s.completion});
    CRAYON_CHECK(device.customize(pool, samples));
    auto asks = draw(mix, 16, split::calibration, random);
    const auto others = draw(outside_of(mix), 16, split::calibration, random);
    asks.insert(asks.end(), others.begin(), others.end());
    const auto server_ok = answered(server_weights, tokens, asks, model::no_delta{}, threads);
    for (std::size_t i = 0; i < asks.size(); ++i) {
      CRAYON_TRY(const signals before, device.begin(asks[i].prompt));
      CRAYON_TRY(const auto answer, device.finish({.max_tokens = longest_answer}));
      queries.push_back(
          {before, answer.seen, answer.text == asks[i].completion, server_ok[i] != 0, i < 16});
    }
  }
  const auto fit = [&](router::signal_kind which, auto&& keep, bool before) {
    std::vector<router::calibration_point> points;
    for (const auto& q : queries) {
      if (!keep(q)) continue;
      const float value = router::value_of(before ? q.before : q.after, which);
      points.push_back({router::as_risk(value, which), q.device_ok, q.server_ok});
    }
    return router::fit_accuracy(points);
  };
  CRAYON_TRY(const auto scope,
             fit(
                 router::signal_kind::scope_distance, [](const auto&) { return true; }, true));
  CRAYON_TRY(const auto margin,
             fit(
                 router::signal_kind::max_probability,
                 [&](const auto& q) { return !(q.before.scope_distance > scope.risk); }, false));
  serve::router_file file;
  file.policy.thresholds.push_back({router::signal_kind::scope_distance, scope.risk});
  file.policy.thresholds.push_back(
      {router::signal_kind::max_probability,
       router::as_risk(margin.risk, router::signal_kind::max_probability)});
  file.bound_to = engine::binding_of(device.base());
  file.bound_to.adapter = router::binding::any_of_them;  // one per user
  file.bound_to.blend = engine::blend_of<device_config>(pool);
  file.bound_to.server = "server";
  CRAYON_CHECK(serve::write_router(files.router(), file));
  std::vector<float> own, other;
  for (const auto& q : queries) (q.own ? own : other).push_back(q.before.scope_distance);
  report["router"] = {{"scope_distance", scope.risk},
                      {"scope_call_rate", scope.call_rate},
                      {"max_probability", file.policy.thresholds[1].threshold},
                      {"scope_auroc", auroc(own, other)},
                      {"calibration_queries", queries.size()}};
  return {};
}

}  // namespace

result<void> make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0777) == 0 || errno == EEXIST) return {};
  return io::file_error("cannot make the folder", path, errno);
}

result<void> remake(const assets& files, std::uint64_t seed, const std::vector<std::string>& only,
                    cli::json& report) {
  const cli::stopwatch watch;
  thread_pool threads(2);
  rng seeds(seed);
  const std::uint64_t vocabulary_seed = seeds(), device_seed = seeds(), server_seed = seeds(),
                      corpus_seed = seeds(), pool_seed = seeds(), one_seed = seeds(),
                      router_seed = seeds();
  const auto wanted = [&](std::string_view name) {
    return only.empty() || std::ranges::find(only, name) != only.end();
  };
  report["seed"] = seed;
  report["backend"] = backend::name();
  CRAYON_CHECK(make_folder(files.folder));
  CRAYON_TRY(const llama2c_tokenizer tokens, learn_vocabulary(rng(vocabulary_seed)));
  if (wanted("device")) {
    CRAYON_CHECK(make_model(files.device(), tokens, false, device_seed, threads, report));
  }
  if (wanted("server")) {
    CRAYON_CHECK(make_model(files.server(), tokens, true, server_seed, threads, report));
    CRAYON_CHECK(train_further(files.server(), tokens, server_seed + 1, threads, report));
  }
  if (wanted("pool") || wanted("one-for-all")) {
    CRAYON_TRY(const weights model, cli::load_widened(files.device()));
    const corpus texts = make_corpus(tokens, rng(corpus_seed));
    if (wanted("pool")) {
      CRAYON_CHECK(make_pool(files, model, texts, pool_seed, threads, report));
    }
    if (wanted("one-for-all")) {
      CRAYON_CHECK(make_one_for_all(files, model, tokens, texts, rng(one_seed), threads, report));
    }
  }
  if (wanted("router")) {
    CRAYON_CHECK(make_router(files, tokens, rng(router_seed), threads, report));
  }
  report["seconds"] = watch.seconds();
  std::printf("%s: made again in %.0f s\n", files.folder.c_str(), watch.seconds());
  return {};
}

}  // namespace crayon::demo
