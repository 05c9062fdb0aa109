// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/common_info.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/adapter/cores.hpp>
#include <crayon/adapter/pool_contents.hpp>
#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/dare.hpp>
#include <crayon/blend/error_report.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/magnitude_prune.hpp>
#include <crayon/blend/peft_linear.hpp>
#include <crayon/blend/peft_sparse.hpp>
#include <crayon/blend/procrustes.hpp>
#include <crayon/blend/recompress.hpp>
#include <crayon/blend/ties.hpp>
#include <crayon/blend/weights.hpp>

#include "commands.hpp"
#include "models.hpp"

namespace crayon::cli {
namespace {

using blended = result<adapter::lora_adapter<float>>;
using adapter_list = std::vector<adapter::lora_adapter<float>>;
using blend::domain;

/// What is blended, and what the result says of itself.
struct ingredients {
  adapter_list adapters;
  std::vector<std::string> names;
  std::vector<float> weights;
  adapter::peft_info info;
  adapter::pool_cores cores;  ///< of all adapters, if the pool's file has them
  std::string made_for;       ///< the policy that the pool's file records
};

/// The name of an exact blend in this program.
std::string as_command(const std::string& policy) {
  return policy == "activations" || policy == "merge" ? "concat" : policy;
}

result<ingredients> from_pool(const blend_options& o) {
  CRAYON_TRY(const auto file, adapter::pool_contents::open(o.pool));
  CRAYON_TRY(const auto pool, adapter::load_pool<float>(file));
  if (o.weights.size() != pool.size()) {
    return error{errc::bad_shape, "--weights has " + std::to_string(o.weights.size()) +
                                      " numbers, " + o.pool + " has " +
                                      std::to_string(pool.size()) + " adapters"};
  }
  ingredients from;
  from.info.base_model = pool.info().base_model;
  from.info.base_hash = pool.info().base_hash;
  from.info.stored = file.type();
  from.weights = o.weights;
  from.names = pool.info().names;
  from.made_for = as_command(pool.info().blend);
  CRAYON_TRY(from.cores, adapter::load_cores(file));
  for (std::size_t k = 0; k < pool.size(); ++k) from.adapters.push_back(pool.extract(k));
  return from;
}

result<ingredients> from_directories(const blend_options& o) {
  ingredients from;
  std::vector<adapter::peft_info> infos;
  for (const auto& text : o.adapters) {
    const adapter_argument a = parse_adapter_argument(text);
    CRAYON_TRY(auto loaded, adapter::load_peft<float>(a.directory));
    infos.push_back(std::move(loaded.info));
    from.adapters.push_back(std::move(loaded.adapter));
    from.names.push_back(a.directory);
    from.weights.push_back(a.scale);
  }
  std::vector<const adapter::peft_info*> all;
  for (const auto& info : infos) all.push_back(&info);
  CRAYON_TRY(from.info, adapter::common_info(all, from.names));
  return from;
}

/// Those of a weight other than zero (if none has, the first) as a pool, and their weights.
struct weighed_pool {
  adapter::pool<float> pool;
  std::vector<weighted_slot> mix;
};
result<weighed_pool> pool_of(const ingredients& from) {
  adapter_list adapters;
  adapter::pool_info info;
  weighed_pool made;
  for (std::size_t k = 0; k < from.adapters.size(); ++k) {
    if (from.weights[k] == 0) continue;
    made.mix.push_back({adapters.size(), from.weights[k]});
    adapters.push_back(from.adapters[k]);
    info.names.push_back(from.names[k]);
  }
  if (adapters.empty()) {
    made.mix.push_back({0, 0.0F});
    adapters.push_back(from.adapters[0]);
  }
  CRAYON_TRY(made.pool, adapter::pool<float>::build(adapters, matrix_view<const float>{}, info));
  return made;
}

using slots = std::span<const weighted_slot>;

/// Every policy that makes one adapter, by its name.
blended run_policy(const blend_options& o, const std::string& name, const ingredients& from,
                   const adapter::adapter_set<float>& set, slots mix, thread_pool& threads) {
  blend::sparse_options sparse;
  sparse.density = o.density;
  sparse.elect = o.frequency_sign ? blend::majority_sign::frequency : blend::majority_sign::total;
  sparse.seed = o.seed;
  sparse.rank = o.rank;
  sparse.cores = from.cores;
  const auto is = [&](auto policy) { return name == decltype(policy)::name(); };
  const auto sparsely = [&](auto policy) {
    return decltype(policy)::blend(set, mix, sparse, threads);
  };
  if (is(blend::concat{})) return blend::concat::blend(set, mix);
  if (is(blend::recompress<backend>{})) {
    blend::recompress_options options;
    options.rank = o.rank;
    options.error = o.error;
    options.cores = from.cores;
    return blend::recompress<backend>::blend(set, mix, options, threads);
  }
  if (is(blend::peft_linear<backend>{})) {
    return blend::peft_linear<backend>::blend(set, mix, threads);
  }
  if (is(blend::linear<backend>{})) {
    CRAYON_TRY(const auto weighed, pool_of(from));
    return blend::linear<backend>::blend(weighed.pool, weighed.mix, threads);
  }
  using blend::sparse_rule;
  if (name.starts_with("peft_")) {
    if (is(blend::peft_sparse<sparse_rule::ties>{})) {
      return sparsely(blend::peft_sparse<sparse_rule::ties>{});
    }
    if (is(blend::peft_sparse<sparse_rule::dare>{})) {
      return sparsely(blend::peft_sparse<sparse_rule::dare>{});
    }
    if (is(blend::peft_sparse<sparse_rule::dare_ties>{})) {
      return sparsely(blend::peft_sparse<sparse_rule::dare_ties>{});
    }
    return sparsely(blend::peft_sparse<sparse_rule::magnitude_prune>{});
  }
  const auto in_domain = [&]<domain D>(std::integral_constant<domain, D>) -> blended {
    if (is(blend::ties<D, backend>{})) return sparsely(blend::ties<D, backend>{});
    if (is(blend::dare<D, backend>{})) return sparsely(blend::dare<D, backend>{});
    if (is(blend::dare_ties<D, backend>{})) return sparsely(blend::dare_ties<D, backend>{});
    if (is(blend::magnitude_prune<D, backend>{})) {
      return sparsely(blend::magnitude_prune<D, backend>{});
    }
    return error{errc::not_found, "no policy " + name};
  };
  if (name.starts_with("knots_")) {
    return in_domain(std::integral_constant<domain, domain::aligned>{});
  }
  return in_domain(std::integral_constant<domain, domain::core>{});
}

/// JSON has no infinity: an error where the exact sum is zero is null.
json number(double x) {
  return std::isfinite(x) ? json(x) : json();
}

void print_report(const blend::error_report& errors, json& report) {
  const auto total = errors.total();
  std::size_t width = 8;
  for (const auto& s : errors.sites) width = std::max(width, s.module.size());
  const auto line = [&](const blend::site_error& s) {
    std::printf("  %-*s %12.5g %12.5g  %.3g\n", static_cast<int>(width), s.module.c_str(), s.norm,
                s.error, s.relative());
  };
  std::printf("\n  %-*s %12s %12s  %s\n", static_cast<int>(width), "site", "|exact sum|", "|error|",
              "relative");
  json sites = json::array();
  for (const auto& s : errors.sites) {
    line(s);
    sites.push_back({{"module", s.module},
                     {"norm", number(s.norm)},
                     {"error", number(s.error)},
                     {"relative", number(s.relative())}});
  }
  line(total);
  report["errors"] = {{"sites", sites},
                      {"norm", number(total.norm)},
                      {"error", number(total.error)},
                      {"relative", number(total.relative())}};
}

/// The relative error of `linear`; nothing where it cannot blend these.
std::optional<double> linear_error(const ingredients& from, thread_pool& threads) {
  const auto weighed = pool_of(from);
  if (!weighed) return std::nullopt;
  const auto made = blend::linear<backend>::blend(weighed->pool, weighed->mix, threads);
  if (!made) return std::nullopt;
  const auto errors = blend::report_error(weighed->pool, weighed->mix, *made, threads);
  if (!errors) return std::nullopt;
  return errors->total().relative();
}

/// Replaces the adapters that take part by themselves in one gauge, and tells what that does to
/// `linear`.
result<void> align(ingredients& from, thread_pool& threads, json& report) {
  adapter_list active;
  std::vector<std::string> names;
  for (std::size_t k = 0; k < from.adapters.size(); ++k) {
    if (from.weights[k] == 0) continue;
    active.push_back(from.adapters[k]);
    names.push_back(from.names[k]);
  }
  if (active.empty()) return {};
  blend::align_options options;
  options.names = names;
  CRAYON_TRY(auto aligned,
             blend::align(std::span<const adapter::lora_adapter<float>>(active), options, threads));
  const auto before = linear_error(from, threads);
  for (std::size_t k = 0, next = 0; k < from.adapters.size(); ++k) {
    if (from.weights[k] != 0) from.adapters[k] = std::move(aligned.adapters[next++]);
  }
  from.cores = {};
  const auto after = linear_error(from, threads);
  std::printf("aligned: spread of the factors %.3g -> %.3g", aligned.spread_before,
              aligned.spread_after);
  if (after) {
    std::printf(", error of linear %s -> %.3g",
                before ? std::to_string(*before).c_str() : "(scales differ)", *after);
  }
  std::printf("\n");
  report["alignment"] = {{"spread_before", aligned.spread_before},
                         {"spread_after", aligned.spread_after},
                         {"linear_error_before", before ? number(*before) : json()},
                         {"linear_error_after", after ? number(*after) : json()}};
  return {};
}

/// --policy, or what the pool was made for; another one is named on stderr and in the report.
result<std::string> policy_of(const blend_options& o, const ingredients& from, json& report) {
  if (!from.made_for.empty()) report["pool_policy"] = from.made_for;
  if (o.policy.empty()) {
    const std::string policy = from.made_for.empty() ? "concat" : from.made_for;
    if (const std::string unused = unused_option(policy, o.given); !unused.empty()) {
      return error{errc::bad_value, o.pool + ": made for the policy " + policy +
                                        ", which does not use " + unused +
                                        "; --policy names another"};
    }
    return policy;
  }
  if (!from.made_for.empty() && o.policy != from.made_for) {
    std::fprintf(stderr, "crayon: %s was made for the policy %s, --policy %s is used instead\n",
                 o.pool.c_str(), from.made_for.c_str(), o.policy.c_str());
  }
  return o.policy;
}

}  // namespace

std::string unused_option(const std::string& policy, const std::vector<std::string>& given) {
  const bool factors = policy.starts_with("peft_");
  const auto has = [&](const char* part) { return policy.find(part) != std::string::npos; };
  const bool sparse = has("ties") || has("dare") || has("prune");
  for (const auto& option : given) {
    const bool used =
        policy.empty() ||
        (option == "--rank" && (policy == "recompress" || (sparse && !factors))) ||
        (option == "--error" && policy == "recompress") || (option == "--density" && sparse) ||
        (option == "--frequency-sign" && has("ties")) || (option == "--seed" && has("dare"));
    if (!used) return option;
  }
  return {};
}

result<void> run(const blend_options& o, json& report) {
  CRAYON_TRY(ingredients from, o.pool.empty() ? from_directories(o) : from_pool(o));
  CRAYON_TRY(const std::string policy, policy_of(o, from, report));
  const auto mix = blend::slots_of(from.weights);
  thread_pool threads;
  if (o.align) CRAYON_CHECK(align(from, threads, report));
  CRAYON_TRY(const auto set, adapter::adapter_set<float>::build(from.adapters, from.names));
  const stopwatch watch;
  CRAYON_TRY(const auto made, run_policy(o, policy, from, set, mix, threads));
  const double seconds = watch.seconds();
  const dtype type = o.type == "f32"    ? dtype::f32
                     : o.type == "bf16" ? dtype::bf16
                     : o.type == "f16"  ? dtype::f16
                                        : from.info.stored;
  CRAYON_CHECK(adapter::save_peft(o.out, made, from.info, type));

  std::size_t least = made.shape(0).rank, most = least;
  for (const auto& s : made.shapes()) {
    least = std::min(least, s.rank);
    most = std::max(most, s.rank);
  }
  const std::string ranks =
      least == most ? std::to_string(least) : std::to_string(least) + " to " + std::to_string(most);
  std::printf("%s: %zu adapters, %s, %zu sites of rank %s, %zu parameters\n", o.out.c_str(),
              from.adapters.size(), policy.c_str(), made.size(), ranks.c_str(),
              made.bytes() / sizeof(float));
  report["out"] = o.out;
  report["policy"] = policy;
  report["dtype"] = name(type);
  report["adapters"] = from.adapters.size();
  report["sites"] = made.size();
  report["least_rank"] = least;
  report["most_rank"] = most;
  report["parameters"] = made.bytes() / sizeof(float);
  report["seconds"] = seconds;
  report["kept_r_factors"] = from.cores.size() != 0;
  if (o.report) {
    CRAYON_TRY(const auto errors, blend::report_error(set, mix, made, threads));
    print_report(errors, report);
  }
  return {};
}

}  // namespace crayon::cli
