// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/common_info.hpp>
#include <crayon/adapter/padded.hpp>
#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/error_report.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/procrustes.hpp>
#include <crayon/match/arrow.hpp>

#include "commands.hpp"
#include "matching.hpp"

namespace crayon::cli {
namespace {

using adapter_vector = std::vector<adapter::lora_adapter<float>>;

/// The last part of a path; the whole path where two adapters have the same last part.
std::vector<std::string> names_of(const std::vector<std::string>& paths) {
  std::vector<std::string> names;
  for (std::string path : paths) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    names.push_back(path.substr(path.find_last_of('/') + 1));
  }
  const auto all = names;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (std::count(all.begin(), all.end(), names[i]) > 1) names[i] = paths[i];
  }
  return names;
}

/// The relative error of averaging all adapters factor by factor.
result<double> error_of_linear(const adapter_vector& adapters, thread_pool& threads) {
  CRAYON_TRY(const auto pool, adapter::pool<float>::build(adapters, {}, {}));
  const std::vector<float> even(adapters.size(), 1.0F / static_cast<float>(adapters.size()));
  const auto weighted = blend::slots_of(even);
  CRAYON_TRY(const auto made, blend::linear<backend>::blend(pool, weighted, threads));
  CRAYON_TRY(const auto errors, blend::report_error(pool, weighted, made, threads));
  return errors.total().relative();
}

/// The adapters in one gauge, and what that does to a factor-wise blend.
result<void> align(adapter_vector& adapters, thread_pool& threads, json& report) {
  CRAYON_TRY(const double before, error_of_linear(adapters, threads));
  CRAYON_TRY(auto aligned,
             blend::align(std::span<const adapter::lora_adapter<float>>(adapters), {}, threads));
  adapters = std::move(aligned.adapters);
  CRAYON_TRY(const double after, error_of_linear(adapters, threads));
  std::printf(
      "aligned: spread of the factors %.3g -> %.3g, error of their even average by factors "
      "%.3g -> %.3g of the exact sum\n",
      aligned.spread_before, aligned.spread_after, before, after);
  report["alignment"] = {{"spread_before", aligned.spread_before},
                         {"spread_after", aligned.spread_after},
                         {"linear_error_before", before},
                         {"linear_error_after", after}};
  return {};
}

/// Index vectors from one file of sample texts per adapter.
result<placed_index> index_from_texts(const pool_import_options& o, const stored_model& model,
                                      const std::vector<std::string>& names, thread_pool& threads,
                                      json& report) {
  CRAYON_TRY(const llama2c_tokenizer tokens, load_tokenizer(o.model, model.config()));
  std::vector<engine::encoded_sample> all;
  std::vector<std::size_t> owner;
  for (std::size_t k = 0; k < o.samples.size(); ++k) {
    CRAYON_TRY(const auto samples, read_samples(o.samples[k]));
    CRAYON_TRY(auto encoded, encode_samples(samples, tokens, model.config(), o.samples[k]));
    owner.insert(owner.end(), encoded.size(), k);
    std::move(encoded.begin(), encoded.end(), std::back_inserter(all));
  }
  CRAYON_TRY(const auto rows, embed_by_name(o.index.embedding, o.index.layer, model, all, threads));
  CRAYON_TRY(auto made, make_index(rows, owner, o.adapters.size(), o.index));

  adapter::pool_info info;
  info.matcher = "centroid";
  const std::size_t cols = made.index.size() / o.adapters.size();
  std::vector<std::size_t> count(o.adapters.size()), right(o.adapters.size());
  for (std::size_t i = 0; i < owner.size(); ++i) {
    CRAYON_TRY(const auto votes,
               match_by_name(info, {made.index.data(), o.adapters.size(), cols},
                             {made.places.data() + i * made.width, 1, made.width}));
    ++count[owner[i]];
    right[owner[i]] += votes[owner[i]] > 0 ? 1U : 0U;
  }
  std::printf("%-24s %8s  nearest to its own centroid\n", "adapter", "samples");
  json each = json::array();
  for (std::size_t k = 0; k < names.size(); ++k) {
    const double share = static_cast<double>(right[k]) / static_cast<double>(count[k]);
    std::printf("%-24s %8zu  %5.1f %%\n", names[k].c_str(), count[k], 100 * share);
    each.push_back({{"name", names[k]}, {"samples", count[k]}, {"nearest_own", share}});
  }
  report["index"] = std::move(each);
  return made;
}

}  // namespace

result<void> run(const pool_import_options& o, json& report) {
  CRAYON_CHECK(check_output_file(o.out));
  if (!o.samples.empty() && o.samples.size() != o.adapters.size()) {
    return error{errc::bad_value, std::to_string(o.samples.size()) + " files of samples for " +
                                      std::to_string(o.adapters.size()) +
                                      " adapters: one each, in the same order, or none"};
  }
  const match::arrow routing;
  const float tau = o.tau.value_or(o.samples.empty() ? routing.temperature : 0.1F);
  const std::size_t top_k = o.top_k.value_or(o.samples.empty() ? routing.top_k : 0);
  CRAYON_CHECK(match::cosine_softmax::with_tau(tau));
  CRAYON_TRY(const stored_model model, load_model(o.model.model));
  const std::string hash = model.hash();
  const std::vector<std::string> names = names_of(o.adapters);
  std::vector<adapter::peft_adapter<float>> loaded;
  for (const auto& directory : o.adapters) {
    CRAYON_TRY(auto one,
               model.visit([&](const auto& base) { return load_adapter(directory, base, hash); }));
    if (const auto bound = delta::bind(model.config(), one.adapter); !bound) {
      return error{bound.error().code, directory + ": " + bound.error().text};
    }
    loaded.push_back(std::move(one));
  }
  std::vector<const adapter::peft_info*> infos;
  for (const auto& one : loaded) infos.push_back(&one.info);
  CRAYON_TRY(const auto common, adapter::common_info(infos, o.adapters));
  adapter_vector adapters;
  for (auto& one : loaded) adapters.push_back(std::move(one.adapter));
  CRAYON_TRY(const auto set, adapter::adapter_set<float>::build(std::move(adapters), names));
  std::size_t changed = 0;
  adapters = adapter::padded(set);
  for (std::size_t k = 0; k < set.size(); ++k) {
    const auto& own = set.adapter(k).shapes();
    const auto same = [&](const adapter::site_shape& s) {
      return std::find(own.begin(), own.end(), s) != own.end();
    };
    if (!std::all_of(adapters[k].shapes().begin(), adapters[k].shapes().end(), same)) ++changed;
  }
  thread_pool threads;
  if (o.align) CRAYON_CHECK(align(adapters, threads, report));

  adapter::pool_info info;
  info.base_model = common.base_model.empty() ? o.model.model : common.base_model;
  info.base_hash = hash;
  info.names = names;
  info.blend = o.align ? "linear" : "concat";
  info.top_k = top_k;
  info.tau = tau;
  std::vector<float> index;
  if (o.samples.empty()) {
    CRAYON_TRY(const auto prototypes, match::arrow_prototypes::of(set));
    index = prototypes.index();
    info.matcher = match::arrow::name();
  } else {
    CRAYON_TRY(auto made, index_from_texts(o, model, names, threads, report));
    index = std::move(made.index);
    info.matcher = top_k == 0 ? o.matcher : "top_k";
    info.embedding = o.index.embedding;
    info.layer = o.index.layer;
    info.centroids = o.index.centroids;
    info.centre = std::move(made.space.centre);
    info.projection = std::move(made.space.projection);
  }
  const std::size_t width = index.size() / adapters.size();
  CRAYON_TRY(const auto pool,
             adapter::pool<float>::build(
                 adapters, matrix_view<const float>(index.data(), adapters.size(), width), info));
  const dtype stored = o.stored.value_or(common.stored);
  CRAYON_CHECK(adapter::save_pool(o.out, pool, {.spare = o.spare, .stored = stored}));

  std::printf("%s: %s over %s, %s padded to the others' shape; index %s\n", o.out.c_str(),
              counted(pool.size(), "adapter").c_str(), counted(pool.sites(), "site").c_str(),
              counted(changed, "adapter").c_str(),
              o.samples.empty() ? "from the weights (arrow)" : "from texts");
  report["out"] = o.out;
  report["adapters"] = pool.size();
  report["names"] = names;
  report["sites"] = pool.sites();
  report["padded"] = changed;
  report["matcher"] = info.matcher;
  report["tau"] = tau;
  report["top_k"] = top_k;
  report["index_dim"] = width;
  report["dtype"] = name(stored);
  report["bytes"] = pool.bytes() / sizeof(float) * size_of(stored);
  return {};
}

}  // namespace crayon::cli
