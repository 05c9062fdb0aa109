// SPDX-License-Identifier: MIT
#include <cstdio>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/pool.hpp>
#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/blend/weights.hpp>

#include "commands.hpp"
#include "models.hpp"

namespace crayon::cli {
namespace {

struct blended {
  adapter::lora_adapter<float> adapter;
  adapter::peft_info info;
  std::size_t of = 0;
};

result<blended> from_pool(const blend_options& o) {
  CRAYON_TRY(const auto pool, adapter::load_pool<float>(o.pool));
  if (o.weights.size() != pool.size()) {
    return error{errc::bad_shape, "--weights has " + std::to_string(o.weights.size()) +
                                      " numbers, " + o.pool + " has " +
                                      std::to_string(pool.size()) + " adapters"};
  }
  blended b;
  b.of = pool.size();
  b.info.base_model = pool.info().base_model;
  b.info.base_hash = pool.info().base_hash;
  const auto slots = blend::slots_of(o.weights);
  if (o.policy == "linear") {
    CRAYON_TRY(b.adapter, blend::linear<backend>::blend(pool, slots));
  } else {
    CRAYON_TRY(b.adapter, blend::concat::blend(pool, slots));
  }
  return b;
}

result<blended> from_directories(const blend_options& o) {
  std::vector<adapter::lora_adapter<float>> adapters;
  std::vector<std::string> names;
  std::vector<float> weights;
  blended b;
  for (const auto& text : o.adapters) {
    const adapter_argument a = parse_adapter_argument(text);
    CRAYON_TRY(auto loaded, adapter::load_peft<float>(a.directory));
    if (names.empty()) {
      b.info.base_model = loaded.info.base_model;
      b.info.base_hash = loaded.info.base_hash;
      b.info.fan_in_fan_out = loaded.info.fan_in_fan_out;
    } else if (loaded.info.base_hash != b.info.base_hash ||
               loaded.info.base_model != b.info.base_model) {
      return error{errc::mismatch, a.directory + ": base model \"" + loaded.info.base_model +
                                       "\" " + loaded.info.base_hash + ", " + names[0] + " has \"" +
                                       b.info.base_model + "\" " + b.info.base_hash};
    } else if (loaded.info.fan_in_fan_out != b.info.fan_in_fan_out) {
      return error{errc::mismatch, a.directory + ": fan_in_fan_out differs from " + names[0]};
    }
    adapters.push_back(std::move(loaded.adapter));
    names.push_back(a.directory);
    weights.push_back(a.scale);
  }
  b.of = adapters.size();
  const auto slots = blend::slots_of(weights);
  if (o.policy == "linear") {
    adapter::pool_info info;
    info.names = names;
    CRAYON_TRY(const auto pool,
               adapter::pool<float>::build(adapters, matrix_view<const float>{}, info));
    CRAYON_TRY(b.adapter, blend::linear<backend>::blend(pool, slots));
  } else {
    CRAYON_TRY(const auto set,
               adapter::adapter_set<float>::build(std::move(adapters), std::move(names)));
    CRAYON_TRY(b.adapter, blend::concat::blend(set, slots));
  }
  return b;
}

}  // namespace

result<void> run(const blend_options& o, json& report) {
  const stopwatch watch;
  CRAYON_TRY(blended b, o.pool.empty() ? from_directories(o) : from_pool(o));
  const double seconds = watch.seconds();
  CRAYON_CHECK(adapter::save_peft(o.out, b.adapter, b.info));
  std::printf("%s: %zu adapters, %s, %zu sites, %zu parameters\n", o.out.c_str(), b.of,
              o.policy.c_str(), b.adapter.size(), b.adapter.bytes() / sizeof(float));
  report["out"] = o.out;
  report["policy"] = o.policy;
  report["adapters"] = b.of;
  report["sites"] = b.adapter.size();
  report["parameters"] = b.adapter.bytes() / sizeof(float);
  report["seconds"] = seconds;
  return {};
}

}  // namespace crayon::cli
