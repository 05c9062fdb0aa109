// SPDX-License-Identifier: MIT
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/activations.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/engine/hybrid_engine.hpp>
#include <crayon/engine/router_binding.hpp>
#include <crayon/serve/curl_transport.hpp>
#include <crayon/serve/openai_client.hpp>
#include <crayon/serve/router_file.hpp>

#include "assets.hpp"
#include "demo.hpp"
#include "evaluate.hpp"
#include "server_process.hpp"
#include "user.hpp"

namespace crayon::demo {
namespace {

using cli::json;
using cli::weights;
using verdicts = std::vector<std::uint8_t>;
using adapter_type = adapter::lora_adapter<float>;
/// One attempt and no waiting: the device answers at once when the server is away.
using client_type = serve::basic_openai_client<serve::curl_transport>;
using hybrid_engine = engine::hybrid_engine<device_config, client_type, router::rules>;

void heading(const char* text) {
  std::printf("\n%s\n", text);
  std::fflush(stdout);
}

/// "72.3 %  [69.0, 75.8]"
std::string percent_of(const verdicts& right) {
  const std::vector<double> values(right.begin(), right.end());
  const interval i = bootstrap(values);
  char text[64];
  std::snprintf(text, sizeof text, "%5.1f %%  [%.1f, %.1f]", 100 * share(right), 100 * i.low,
                100 * i.high);
  return text;
}

/// "+12.3 points [+9.1, +15.5]"; whether the interval is above zero is the claim.
std::string gain_of(const verdicts& a, const verdicts& b) {
  const interval i = difference(a, b);
  char text[80];
  std::snprintf(text, sizeof text, "%+5.1f points [%+.1f, %+.1f]", 100 * (share(a) - share(b)),
                100 * i.low, 100 * i.high);
  return text;
}

json with_interval(const verdicts& right) {
  const std::vector<double> values(right.begin(), right.end());
  const interval i = bootstrap(values);
  return {
      {"accuracy", share(right)}, {"low", i.low}, {"high", i.high}, {"questions", right.size()}};
}

json gain_json(const verdicts& a, const verdicts& b) {
  const interval i = difference(a, b);
  return {{"points", 100 * (share(a) - share(b))}, {"low", 100 * i.low}, {"high", 100 * i.high}};
}

/// Everything that the story needs, read from disk and checked.
struct stage {
  weights device_weights;
  weights server_weights;
  cli::llama2c_tokenizer tokens;
  adapter::pool<float> pool;
  adapter_type one_for_all;
  serve::router_file router;
};

result<stage> set_up(const assets& files) {
  CRAYON_TRY(weights device, cli::load_widened(files.device()));
  CRAYON_TRY(weights server, cli::load_widened(files.server()));
  CRAYON_TRY(auto tokens, cli::load_tokenizer({files.device(), {}}, device.config()));
  CRAYON_TRY(auto pool, adapter::load_pool<float>(files.pool()));
  const std::string hash = device.hash();
  CRAYON_TRY(auto one, cli::load_adapter(files.one_for_all(), device, hash));
  CRAYON_TRY(auto router, serve::read_router(files.router()));
  router::binding used{hash, std::string(name(dtype::f32)), {},
                       engine::blend_of<device_config>(pool), std::string(router::binding::none),
                       "server"};
  CRAYON_CHECK(router::check_binding(router.bound_to, used, files.router()));
  return stage{std::move(device), std::move(server),      std::move(tokens),
               std::move(pool),   std::move(one.adapter), std::move(router)};
}

/// The accuracy of the story's candidates on the same held-out questions.
class contest {
 public:
  contest(const stage& on, std::vector<sample> questions, thread_pool& threads)
      : on_(on), questions_(std::move(questions)), threads_(threads) {}

  [[nodiscard]] verdicts base() const {
    return answered(on_.device_weights, on_.tokens, questions_, model::no_delta{}, threads_);
  }
  [[nodiscard]] verdicts server() const {
    return answered(on_.server_weights, on_.tokens, questions_, model::no_delta{}, threads_);
  }
  template <class Adapter>
  [[nodiscard]] result<verdicts> with(const Adapter& adapter) const {
    CRAYON_TRY(const auto delta, cli::delta::bind(on_.device_weights.config(), adapter));
    return answered(on_.device_weights, on_.tokens, questions_, delta, threads_);
  }

  /// The adapter of the pool that answers most of these very questions: no retrieval can do better.
  [[nodiscard]] result<std::pair<std::size_t, verdicts>> best_single() const {
    std::pair<std::size_t, verdicts> best;
    for (std::size_t k = 0; k < on_.pool.size(); ++k) {
      const adapter_type one = on_.pool.extract(k);
      CRAYON_TRY(auto right, with(one));
      if (best.second.empty() || share(right) > share(best.second)) best = {k, std::move(right)};
    }
    return best;
  }

 private:
  const stage& on_;
  std::vector<sample> questions_;
  thread_pool& threads_;
};

result<void> print_accuracy(const stage& on, const adapter_type& customized,
                            const std::vector<float>& user_weights, std::vector<sample> questions,
                            json& report) {
  thread_pool threads;
  const contest held_out(on, std::move(questions), threads);
  const std::vector<float> even(on.pool.size(), 1.0F / static_cast<float>(on.pool.size()));
  const auto all = blend::slots_of(even);
  const auto chosen = blend::slots_of(user_weights, blend::negligible);
  using linear = blend::linear<cli::backend>;
  CRAYON_TRY(const auto even_concat, blend::concat::blend(on.pool, all));
  CRAYON_TRY(const auto even_linear, linear::blend(on.pool, all));
  CRAYON_TRY(const auto chosen_linear, linear::blend(on.pool, chosen));
  CRAYON_TRY(const auto even_apart, blend::activations::blend(on.pool, all));

  const verdicts base = held_out.base();
  CRAYON_TRY(const verdicts one, held_out.with(on.one_for_all));
  CRAYON_TRY(const verdicts uniform, held_out.with(even_concat));
  CRAYON_TRY(const verdicts uniform_apart, held_out.with(even_apart));
  CRAYON_TRY(const verdicts uniform_linear, held_out.with(even_linear));
  CRAYON_TRY(const auto single, held_out.best_single());
  CRAYON_TRY(const verdicts linear_blend, held_out.with(chosen_linear));
  CRAYON_TRY(const verdicts custom, held_out.with(customized));
  const verdicts server = held_out.server();

  const auto line = [&](const std::string& name, const char* key, const verdicts& right) {
    std::printf("  %-46s %s\n", name.c_str(), percent_of(right).c_str());
    report["accuracy"][key] = with_interval(right);
  };
  line("base", "base", base);
  line("one adapter for everything, of the pool's size", "one_for_all", one);
  line("uniform average, exact (concat)", "uniform_concat", uniform);
  line("uniform average, exact (activations)", "uniform_activations", uniform_apart);
  line("uniform average, factor-wise (linear)", "uniform_linear", uniform_linear);
  line("best single adapter (" + on.pool.info().names[single.first] + ")", "best_single",
       single.second);
  line("the user's weights, factor-wise (linear)", "customized_linear", linear_blend);
  line("customized adapter (concat)", "customized", custom);
  line("server model, " + std::to_string(on.server_weights.config().parameters()) + " parameters",
       "server", server);
  heading("  The customized adapter is better, paired over the same questions, by");
  const auto gain = [&](const char* name, const char* key, const verdicts& than) {
    std::printf("  %-46s %s\n", name, gain_of(custom, than).c_str());
    report["customized_gain"][key] = gain_json(custom, than);
  };
  gain("than base", "base", base);
  gain("than one for everything", "one_for_all", one);
  gain("than uniform, exact", "uniform_concat", uniform);
  gain("than uniform, factor-wise", "uniform_linear", uniform_linear);
  gain("than the best single", "best_single", single.second);
  gain("than the server model", "server", server);
  return {};
}

struct routed {
  verdicts hybrid, device, server;
  std::size_t sent = 0, before = 0, failed = 0;
};

/// Asks the hybrid engine, and the device and the server on their own, the same questions.
result<routed> ask(hybrid_engine& hybrid, const stage& on, const std::vector<sample>& questions) {
  thread_pool threads;
  routed r;
  r.server = answered(on.server_weights, on.tokens, questions, model::no_delta{}, threads);
  for (const auto& q : questions) {
    generation_options limits;
    limits.max_tokens = longest_answer;
    CRAYON_TRY(const auto alone, hybrid.device().answer(q.prompt, limits));
    r.device.push_back(alone.text == q.completion);
    CRAYON_TRY(const auto given, hybrid.answer(q.prompt, limits));
    r.hybrid.push_back(given.text == q.completion);
    r.sent += given.record.attempts > 0;
    r.before += given.record.reason == engine::route_reason::before_answer;
    r.failed += !given.record.server_error.empty();
  }
  return r;
}

void print_routed(const char* name, const char* key, const routed& r, json& report) {
  const auto count = static_cast<double>(r.hybrid.size());
  std::printf("  %-22s %s   %5.1f %%     %5.1f %%       %5.1f %%\n", name,
              percent_of(r.hybrid).c_str(), 100 * share(r.device), 100 * share(r.server),
              100 * static_cast<double>(r.sent) / count);
  report["hybrid"][key] = {{"hybrid", with_interval(r.hybrid)},
                           {"device", with_interval(r.device)},
                           {"server", with_interval(r.server)},
                           {"sent_to_server", static_cast<double>(r.sent) / count},
                           {"sent_before_answering", static_cast<double>(r.before) / count},
                           {"server_failures", r.failed}};
}

result<void> play_hybrid(device_engine device, const stage& on, const assets& files,
                         const task_mix& mix, std::size_t count, rng random, json& report) {
  CRAYON_TRY(server_process server,
             server_process::start({"--model", files.server(), "--port", "0", "--name", "server"}));
  std::printf("  process %d serves the server model at %s\n", static_cast<int>(server.pid()),
              server.url().c_str());
  serve::client_options client;
  client.base_url = server.url();
  client.model = "server";
  client.deadline = std::chrono::seconds(5);
  hybrid_engine hybrid(std::move(device), on.router.policy, client_type(client));
  for (const auto& t : on.router.policy.thresholds) {
    std::printf("  to the server: %s %s %.3g\n", std::string(name(t.on)).c_str(),
                t.on == router::signal_kind::scope_distance ? "above" : "below",
                double{t.threshold});
  }
  const auto own = draw(mix, count / 2, split::held_out, random);
  const auto other = draw(outside_of(mix), count - count / 2, split::held_out, random);
  CRAYON_TRY(const routed in_task, ask(hybrid, on, own));
  CRAYON_TRY(const routed out_of_task, ask(hybrid, on, other));
  routed all = in_task;
  const auto append = [](verdicts& to, const verdicts& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  append(all.hybrid, out_of_task.hybrid);
  append(all.device, out_of_task.device);
  append(all.server, out_of_task.server);
  all.sent += out_of_task.sent;
  all.before += out_of_task.before;
  all.failed += out_of_task.failed;
  std::printf("\n  %-22s %-23s   device only server only  sent to server\n", "", "hybrid");
  print_routed("the user's own task", "in_task", in_task, report);
  print_routed("other tasks", "out_of_task", out_of_task, report);
  print_routed("all", "all", all, report);
  std::printf("\n  hybrid is better than the device alone by   %s\n",
              gain_of(all.hybrid, all.device).c_str());
  std::printf("  hybrid is better than the server alone by   %s\n",
              gain_of(all.hybrid, all.server).c_str());
  report["hybrid"]["gain_over_device"] = gain_json(all.hybrid, all.device);
  report["hybrid"]["gain_over_server"] = gain_json(all.hybrid, all.server);

  heading("The server goes away");
  const auto last = draw(outside_of(mix), 40, split::held_out, random);
  verdicts right;
  std::size_t from_server = 0, after_failure = 0;
  double slowest = 0;
  std::string said;
  for (std::size_t i = 0; i < last.size(); ++i) {
    if (i == last.size() / 2) server.kill();
    generation_options limits;
    limits.max_tokens = longest_answer;
    CRAYON_TRY(const auto given, hybrid.answer(last[i].prompt, limits));
    right.push_back(given.text == last[i].completion);
    from_server += given.record.source == engine::answer_source::server;
    after_failure += given.record.source == engine::answer_source::device_after_failure;
    slowest = std::max(slowest, given.record.milliseconds);
    if (said.empty()) said = given.record.server_error;
  }
  std::printf(
      "  killed after %zu of %zu questions: %zu answers from the server, %zu from the device\n"
      "  after the server failed, 0 questions without an answer, slowest %.0f ms\n"
      "  the record of those says: %s\n",
      last.size() / 2, last.size(), from_server, after_failure, slowest, said.c_str());
  report["server_killed"] = {{"questions", last.size()},   {"answers", right.size()},
                             {"from_server", from_server}, {"device_after_failure", after_failure},
                             {"slowest_ms", slowest},      {"server_error", said}};
  if (after_failure == 0) {
    return error{errc::bad_value, "no answer of the device says that the server failed"};
  }
  return {};
}

}  // namespace

result<void> run(const options& o, json& report) {
  const assets files{o.assets};
  if (o.remake) return remake(files, o.seed, o.only, report);
  const cli::stopwatch watch;
  CRAYON_TRY(const stage on, set_up(files));
  std::printf("Device model: %zu parameters, %zu adapters of rank %zu in its pool. Kernels: %s\n",
              on.device_weights.config().parameters(), on.pool.size(), on.pool.shapes()[0].rank,
              std::string(cli::backend::name()).c_str());
  report["backend"] = cli::backend::name();
  report["device_parameters"] = on.device_weights.config().parameters();
  report["server_parameters"] = on.server_weights.config().parameters();

  rng random(o.seed + 1000);
  const task_mix mix = story_mix();
  const auto brings = draw(mix, brought, split::calibration, random);
  heading("A user brings 8 samples of four tasks; no adapter of the pool was made for the mix");
  std::vector<engine::sample> samples;
  for (const auto& s : brings) {
    std::printf("  %-44s %s\n", s.prompt.c_str(), s.completion.c_str());
    samples.push_back({s.prompt, s.completion});
    report["samples"].push_back({{"prompt", s.prompt}, {"completion", s.completion}});
  }

  heading("Similarity to the index vectors -> weights");
  CRAYON_TRY(device_engine device, device_engine::make(on.device_weights, on.tokens));
  CRAYON_TRY(const auto made, device.customize(on.pool, samples));
  double small = 0;
  std::size_t small_count = 0;
  for (std::size_t k = 0; k < made.weights.size(); ++k) {
    const double w = double{made.weights[k]};
    report["weights"][on.pool.info().names[k]] = w;
    if (w < 0.01) {
      small += w;
      ++small_count;
      continue;
    }
    std::printf("  %-24s %.3f %s\n", on.pool.info().names[k].c_str(), w,
                std::string(static_cast<std::size_t>(60 * w + 0.5), '#').c_str());
  }
  std::printf("  %-24s %.3f\n", (std::to_string(small_count) + " others together").c_str(), small);

  std::vector<double> blend_ms;
  for (std::size_t i = 0; i < 21; ++i) {
    const cli::stopwatch blending;
    CRAYON_TRY(const auto again,
               blend::concat::blend(on.pool, blend::slots_of(made.weights, blend::negligible)));
    blend_ms.push_back(1000 * blending.seconds());
  }
  std::sort(blend_ms.begin(), blend_ms.end());
  const std::string directory = o.out + "/adapter";
  CRAYON_CHECK(make_folder(o.out));
  adapter::peft_info info;
  info.base_model = on.pool.info().base_model;
  info.base_hash = device.base().hash;
  CRAYON_CHECK(adapter::save_peft(directory, *device.blended(), info));
  CRAYON_TRY(const auto saved,
             cli::load_adapter(directory, device.base().weights, device.base().hash));
  std::printf(
      "\nEmbedding the samples took %.1f ms, the blend %.3f ms (median of 21). One adapter of rank "
      "%zu,\n%zu KB, saved for PEFT in %s\n",
      made.embed_ms, blend_ms[blend_ms.size() / 2], saved.adapter.shape(0).rank,
      saved.adapter.bytes() / 1024, directory.c_str());
  report["embed_ms"] = made.embed_ms;
  report["blend_ms"] = blend_ms[blend_ms.size() / 2];
  report["adapter"] = {{"directory", directory},
                       {"rank", saved.adapter.shape(0).rank},
                       {"bytes", saved.adapter.bytes()}};

  std::printf("\nAccuracy on %zu held-out questions of the mix, 95 %% intervals\n", o.questions);
  std::fflush(stdout);
  CRAYON_CHECK(print_accuracy(on, saved.adapter, made.weights,
                              draw(mix, o.questions, split::held_out, random), report));

  heading("Hybrid inference: the device answers, and asks a server what it should not answer");
  CRAYON_CHECK(play_hybrid(std::move(device), on, files, mix, o.questions, random, report));
  report["seconds"] = watch.seconds();
  std::printf("\n%.1f s\n", watch.seconds());
  return {};
}

}  // namespace crayon::demo

namespace crayon::cli {

void add_demo(CLI::App& parent, selection& chosen) {
  auto o = std::make_shared<demo::options>();
  CLI::App& c = *add_command<demo::options>(
      parent, chosen, "demo", "One user's story: samples, blend, accuracy, hybrid inference", o,
      demo::run);
  c.add_option("--assets", o->assets, "Folder of the demo's models and pool")->type_name("DIR");
  c.add_option("--out", o->out, "Folder for the customized adapter")
      ->type_name("DIR")
      ->capture_default_str();
  c.add_option("--questions", o->questions, "Held-out questions of each part")
      ->check(CLI::Range(std::size_t{40}, std::size_t{720}))
      ->capture_default_str();
  c.add_option("--seed", o->seed, "Of the user's samples and the questions")->capture_default_str();
  CLI::Option* remake = c.add_flag(
      "--remake", o->remake,
      "Make the assets again instead, from the seed: about 25 minutes on two cores");
  c.add_option("--only", o->only, "Of the assets, with the others as they are")
      ->type_name("NAMES")
      ->delimiter(',')
      ->check(CLI::IsMember(demo::asset_names))
      ->needs(remake);
}

}  // namespace crayon::cli
