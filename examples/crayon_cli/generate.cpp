// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>

#include <crayon/model/generate.hpp>

#include "commands.hpp"
#include "models.hpp"

namespace crayon::cli {
namespace {

const char* text_of(model::stop_reason reason) {
  switch (reason) {
    case model::stop_reason::stop_token:
      return "stop token";
    case model::stop_reason::limit:
      return "limit";
    case model::stop_reason::context_full:
      return "context full";
    case model::stop_reason::cancelled:
      return "cancelled";
  }
  return "";
}

template <element E>
result<void> generate(const generate_options& o, const model::llama_weights<E>& model,
                      const llama2c_tokenizer& tokens, const delta& with, json& report) {
  thread_pool threads;
  const auto prompt = engine::encode_prompt(tokens, o.prompt);
  const std::size_t longest = model.config().context;
  model::llama_session<backend, E> s(
      model, std::min(longest, prompt.size() + std::min(o.tokens, longest)));
  CRAYON_CHECK(s.check(prompt));
  std::fwrite(o.prompt.data(), 1, o.prompt.size(), stdout);

  model::random_sampler draw(o.sampling, o.seed);
  const std::array stops{llama2c_tokenizer::bos(), llama2c_tokenizer::end_of_sequence};
  std::vector<std::int32_t> drawn;
  std::string text;
  std::int32_t previous = prompt.back();
  const stopwatch watch;
  CRAYON_TRY(const model::generation done,
             model::generate(
                 s, prompt, draw,
                 [&](std::int32_t id) {
                   const std::string_view piece = tokens.decode(previous, id);
                   previous = id;
                   drawn.push_back(id);
                   text += piece;
                   std::fwrite(piece.data(), 1, piece.size(), stdout);
                   std::fflush(stdout);
                 },
                 {.max_tokens = o.tokens, .tokens = stops}, with, threads));
  const double seconds = watch.seconds();
  std::fputc('\n', stdout);

  report["prompt_tokens"] = prompt;
  report["tokens"] = drawn;
  report["text"] = text;
  report["stopped_by"] = text_of(done.reason);
  report["seconds"] = seconds;
  report["tokens_per_second"] =
      static_cast<double>(prompt.size() + drawn.size()) / (seconds > 0 ? seconds : 1);
  report["backend"] = backend::name();
  report["threads"] = threads.concurrency();
  return {};
}

}  // namespace

result<void> run(const generate_options& o, json& report) {
  CRAYON_TRY(const stored_model model, load_model(o.model.model));
  CRAYON_TRY(const llama2c_tokenizer tokens, load_tokenizer(o.model, model.config()));
  loaded_adapters adapters(model.config());
  CRAYON_CHECK(adapters.add(o.adapters, model));
  return model.visit(
      [&](const auto& base) { return generate(o, base, tokens, adapters.delta(), report); });
}

}  // namespace crayon::cli
