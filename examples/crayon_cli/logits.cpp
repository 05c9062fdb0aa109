// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <type_traits>

#include <crayon/core/aligned.hpp>
#include <crayon/io/safetensors_write.hpp>

#include "commands.hpp"
#include "models.hpp"

namespace crayon::cli {
result<void> run(const logits_options& o, json& report) {
  CRAYON_TRY(const stored_model model, load_model(o.model.model));
  loaded_adapters adapters(model.config());
  CRAYON_CHECK(adapters.add(o.adapters, model));

  thread_pool threads;
  const std::size_t vocab = model.config().vocab;
  aligned_vector<float> all;
  CRAYON_CHECK(model.visit([&](const auto& base) -> result<void> {
    session_of<std::decay_t<decltype(base)>> s(base,
                                               std::min(o.ids.size(), model.config().context));
    CRAYON_CHECK(s.check(o.ids));
    all.resize(o.ids.size() * vocab);
    s.for_each_logits(
        o.ids,
        [&](std::size_t i, std::span<float> logits) {
          std::copy(logits.begin(), logits.end(),
                    all.begin() + static_cast<std::ptrdiff_t>(i * vocab));
        },
        adapters.delta(), threads);
    return {};
  }));

  const auto bad = std::find_if_not(all.begin(), all.end(), io::finite);
  if (bad != all.end()) {
    const auto at = static_cast<std::size_t>(bad - all.begin());
    return error{errc::bad_value, "logit " + std::to_string(at % vocab) + " after " +
                                      std::to_string(at / vocab + 1) + " tokens is not finite"};
  }
  const matrix_view<const float> view{all.data(), o.ids.size(), vocab};
  const std::string hash = model.hash();
  CRAYON_CHECK(io::write_safetensors(o.out, {io::tensor_of("logits", view)}, {{"model", hash}}));
  std::printf("%s: logits F32 [%zu, %zu]\n", o.out.c_str(), view.rows, view.cols);
  report["out"] = o.out;
  report["shape"] = {view.rows, view.cols};
  report["model_hash"] = hash;
  report["backend"] = backend::name();
  return {};
}

}  // namespace crayon::cli
