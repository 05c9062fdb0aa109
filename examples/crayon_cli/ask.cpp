// SPDX-License-Identifier: MIT
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/engine/hybrid_engine.hpp>
#include <crayon/engine/router_binding.hpp>
#include <crayon/serve/hedged.hpp>
#include <crayon/serve/openai_client.hpp>
#include <crayon/serve/router_file.hpp>

#include "budget_count.hpp"
#include "commands.hpp"
#include "domains.hpp"
#include "models.hpp"
#include "samples.hpp"

namespace crayon::cli {
namespace {

/// Customizes the engine in place; only then are scope distances measured. What blend it is.
result<std::string> customize(device& made, const ask_options& o) {
  CRAYON_TRY(const auto pool, adapter::load_pool<float>(o.pool));
  CRAYON_TRY(const auto read, read_samples(o.samples));
  std::vector<engine::sample> samples;
  for (const auto& s : read) samples.push_back({s.prompt, s.completion});
  if (const auto done = made.customize(pool, samples); !done) {
    return error{done.error().code, o.pool + ": " + done.error().text};
  }
  return engine::blend_of<config>(pool);
}

json number(float value) {
  return std::isfinite(value) ? json(value) : json();
}

serve::openai_client client_of(const ask_options& o, const std::string& url, const char* key) {
  serve::client_options server;
  server.base_url = url;
  while (server.base_url.ends_with('/')) server.base_url.pop_back();
  server.model = o.server_model;
  if (const char* value = std::getenv(key)) server.api_key = value;
  server.deadline = std::chrono::milliseconds(o.deadline_ms);
  return serve::openai_client(
      std::move(server), serve::reliable_transport(serve::circuit_breaker<serve::curl_transport>(),
                                                   {.retries = o.retries}));
}

template <class Remote>
result<void> ask(device made, const router::rules& policy, Remote server, const ask_options& o,
                 json& report) {
  engine::hybrid_options hybrid_options;
  hybrid_options.server_deadline_ms = o.deadline_ms;
  engine::hybrid_engine<config, Remote> hybrid(std::move(made), policy, std::move(server),
                                               hybrid_options);

  const auto print = [](std::string_view piece) {
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
    return true;
  };
  CRAYON_TRY(const auto answer, o.no_fallback ? hybrid.answer(o.prompt, o.generation)
                                              : hybrid.answer(o.prompt, o.generation, print));
  const auto& record = answer.record;
  if (o.no_fallback) {
    if (!record.server_error.empty()) return error{errc::network_failed, record.server_error};
    print(answer.text);
  }
  std::fputc('\n', stdout);
  std::fflush(stdout);
  if (record.source == engine::answer_source::server_cut_off) {
    return error{errc::network_failed, "the server's answer ends here: " + record.server_error};
  }
  const bool asked = !record.server.empty();
  const double left_ms = o.deadline_ms - record.server_ms;
  std::fprintf(
      stderr, "[%s, %s, %.0f ms%s]%s%s\n", std::string(name(record.source)).c_str(),
      std::string(name(record.reason)).c_str(), record.milliseconds,
      asked ? (", " + std::to_string(std::llround(left_ms)) + " ms left").c_str() : "",
      record.server_error.empty() ? "" : " the server failed: ", record.server_error.c_str());

  report["text"] = answer.text;
  report["source"] = name(record.source);
  report["reason"] = name(record.reason);
  const auto& decided = record.decided;
  report["decided_by"] = decided.by.empty() ? json() : json(decided.by);
  report["score"] = number(decided.score);
  report["threshold"] = number(decided.threshold);
  const bool promises = decided.made.kind != router::promise_kind::none;
  report["promise"] = promises ? json(router::words(decided.made)) : json();
  report["under_promise"] = record.under_promise;
  report["attempts"] = record.attempts;
  report["bytes_sent"] = record.bytes_sent;
  report["server"] = record.server;
  report["server_error"] = record.server_error;
  report["tokens"] = record.tokens;
  report["wasted_tokens"] = record.wasted_tokens;
  report["wasted_ms"] = record.wasted_ms;
  report["milliseconds"] = record.milliseconds;
  report["server_ms"] = record.server_ms;
  report["server_deadline_left_ms"] = asked ? json(left_ms) : json();
  for (const auto which : router::all_signals) {
    report["signals"][std::string(name(which))] = number(router::value_of(record.seen, which));
  }
  return {};
}

/// One server, or two.
result<void> ask(device made, const router::rules& policy, const ask_options& o, json& report) {
  auto first = client_of(o, o.server, "CRAYON_API_KEY");
  if (o.hedge.empty()) return ask(std::move(made), policy, std::move(first), o, report);
  return ask(std::move(made), policy,
             serve::hedged(std::move(first), client_of(o, o.hedge, "CRAYON_HEDGE_API_KEY"),
                           {.after = std::chrono::milliseconds(o.hedge_after_ms)}),
             o, report);
}

/// Signals that take passes of their own: those that the policy looks at, and with a space of
/// domains all of them.
result<void> measure_question(device& made, const router::rules& policy, const ask_options& o,
                              router::binding& used) {
  engine::question_measures what;
  what.surprise = !o.domains.empty() || policy.looks_at(router::signal_kind::question_surprise);
  if (!o.domains.empty()) {
    CRAYON_TRY(auto file, open_domains(o.domains, made.base().hash));
    used.domains = match::domain_hash(file.space);
    what.domains = std::make_shared<const match::domain_space>(std::move(file.space));
  }
  return made.also_measure(what);
}

}  // namespace

result<void> run(const ask_options& o, json& report) {
  CRAYON_TRY(const serve::router_file router, serve::read_router(o.router));
  const auto& policy = router.policy;
  if (o.pool.empty() && policy.looks_at(router::signal_kind::scope_distance)) {
    return error{errc::bad_value, o.router + ": its threshold on scope_distance needs --pool and " +
                                      "--samples, without which no distance is measured"};
  }
  if (o.domains.empty() && policy.looks_at(router::signal_kind::domain_mismatch)) {
    return error{errc::bad_value, o.router + ": domain_mismatch needs --domains, --pool and " +
                                      "--samples, without which it is not measured"};
  }
  if ((policy.budget != nullptr) != !o.budget_count.empty()) {
    return error{errc::bad_value,
                 policy.budget ? o.router + ": its budget is over many questions: --budget-count " +
                                     "FILE keeps the count"
                               : "--budget-count: " + o.router + " has no budget"};
  }
  CRAYON_TRY(device made, open_device(o.model, o.adapters, o.context));
  router::binding used = engine::binding_of(made.base());
  CRAYON_CHECK(measure_question(made, policy, o, used));
  if (!o.pool.empty()) {
    CRAYON_TRY(used.blend, customize(made, o));
  }
  if (made.blended() != nullptr) used.adapter = engine::adapter_hash(*made.blended());
  used.server = o.server_model;
  if (!policy.looks_at(router::signal_kind::domain_mismatch)) {
    used.domains = router.bound_to.domains;  // measured to be recorded, not to decide
  }
  CRAYON_CHECK(router::check_binding(router.bound_to, used, o.router));
  if (!policy.budget) return ask(std::move(made), policy, o, report);

  CRAYON_TRY(const auto count, budget_count::open(o.budget_count, *policy.budget));
  router::rules limited = policy;
  limited.budget = count.budget();
  CRAYON_CHECK(count.reserve());
  const auto answered = ask(std::move(made), limited, o, report);
  CRAYON_CHECK(count.save());
  report["budget"] = {{"queries", count.budget()->queries()}, {"calls", count.budget()->calls()}};
  return answered;
}

}  // namespace crayon::cli
