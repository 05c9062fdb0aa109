// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>

#include <crayon/io/file.hpp>

#include "commands.hpp"
#include "models.hpp"

namespace crayon::cli {
namespace {

/// -log softmax(logits)[token], in nats.
double surprise(std::span<const float> logits, std::int32_t token) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float l : logits) sum += std::exp(double{l} - double{top});
  return std::log(sum) + double{top} - double{logits[static_cast<std::size_t>(token)]};
}

/// Of windows of `context` tokens, each after its own BOS, without overlap.
template <element E>
result<double> total_surprise(const model::llama_weights<E>& model,
                              const std::vector<std::int32_t>& ids, std::size_t context,
                              const delta& with) {
  thread_pool threads;
  model::llama_session<backend, E> s(model, context);
  progress_bar bar("perplexity");
  double total = 0;
  for (std::size_t first = 0; first < ids.size(); first += context) {
    std::vector<std::int32_t> window{llama2c_tokenizer::bos()};
    const std::size_t count = std::min(context, ids.size() - first);
    window.insert(window.end(), ids.begin() + static_cast<std::ptrdiff_t>(first),
                  ids.begin() + static_cast<std::ptrdiff_t>(first + count));
    const std::span<const std::int32_t> seen(window.data(), count);
    s.reset();
    CRAYON_CHECK(s.check(seen));
    s.for_each_logits(
        seen,
        [&](std::size_t i, std::span<float> logits) { total += surprise(logits, window[i + 1]); },
        with, threads);
    bar.show(first + count, ids.size());
  }
  return total;
}

}  // namespace

result<void> run(const perplexity_options& o, json& report) {
  CRAYON_TRY(const stored_model model, load_model(o.model.model));
  CRAYON_TRY(const llama2c_tokenizer tokens, load_tokenizer(o.model, model.config()));
  loaded_adapters adapters(model.config());
  CRAYON_CHECK(adapters.add(o.adapters, model));
  CRAYON_TRY(const std::string text, io::read_text(o.text));
  const auto ids = tokens.encode(text);
  if (ids.empty()) return error{errc::bad_format, o.text + ": no text"};
  const std::size_t longest = model.config().context;
  const std::size_t context = o.context == 0 ? longest : o.context;
  if (context < 2 || context > longest) {
    return error{errc::bad_value, "--context " + std::to_string(context) +
                                      " is not within 2 and the model's " +
                                      std::to_string(longest)};
  }

  const stopwatch watch;
  CRAYON_TRY(const double total, model.visit([&](const auto& base) {
    return total_surprise(base, ids, context, adapters.delta());
  }));
  const double mean = total / static_cast<double>(ids.size());
  std::printf("perplexity %.4f, %.4f nats per token, %zu tokens\n", std::exp(mean), mean,
              ids.size());
  report["perplexity"] = std::exp(mean);
  report["nats_per_token"] = mean;
  report["tokens"] = ids.size();
  report["context"] = context;
  report["seconds"] = watch.seconds();
  report["backend"] = backend::name();
  return {};
}

}  // namespace crayon::cli
