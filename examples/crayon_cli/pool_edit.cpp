// SPDX-License-Identifier: MIT
#include <cmath>
#include <cstdio>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/pool_edit.hpp>
#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/cores.hpp>
#include <crayon/core/thread_pool.hpp>
#include <crayon/match/index_space.hpp>

#include "commands.hpp"
#include "matching.hpp"

namespace crayon::cli {
namespace {

/// The index vector of an adapter: the mean direction of its samples in the pool's index space.
/// Empty without samples.
result<std::vector<float>> samples_index(const adapter::pool_contents& pool,
                                         const pool_entry_options& o) {
  if (o.samples.empty()) return std::vector<float>();
  CRAYON_TRY(const stored_model model, load_model(o.model.model));
  const auto& info = pool.info();
  if (const std::string hash = model.hash(); !info.base_hash.empty() && info.base_hash != hash) {
    return error{errc::mismatch, pool.path() + ": made for the base model " + info.base_hash +
                                     ", " + o.model.model + " is " + hash};
  }
  if (info.matcher == "arrow" || info.centroids != 1) {
    return error{errc::unsupported,
                 pool.path() + ": " +
                     (info.matcher == "arrow" ? "its index is made from the weights"
                                              : "its index has " + std::to_string(info.centroids) +
                                                    " centroids of each adapter") +
                     "; import the adapters again to add one"};
  }
  CRAYON_TRY(const llama2c_tokenizer tokens, load_tokenizer(o.model, model.config()));
  CRAYON_TRY(const auto samples, read_samples(o.samples));
  CRAYON_TRY(const auto encoded, encode_samples(samples, tokens, model.config(), o.samples));
  thread_pool threads;
  auto placed = place_samples_of(info, model, encoded, threads);
  if (!placed) return error{placed.error().code, pool.path() + ": " + placed.error().text};
  const std::size_t width = placed->size() / samples.size();
  if (width != pool.index().cols) {
    return error{errc::bad_shape, pool.path() + ": index vectors for embeddings of length " +
                                      std::to_string(pool.index().cols) + ", the model's have " +
                                      std::to_string(width)};
  }
  const std::vector<std::size_t> one_group(samples.size(), 0);
  return match::centroids({placed->data(), samples.size(), width}, one_group, 1);
}

template <element E>
result<void> put_in(const adapter::pool_contents& pool, const pool_entry_options& o,
                    const std::string& name, std::span<const float> index) {
  CRAYON_TRY(const auto loaded, adapter::load_peft<E>(o.adapter));
  if (loaded.info.fan_in_fan_out) {
    return error{errc::unsupported, o.adapter + ": fan_in_fan_out, a pool's base model has none"};
  }
  const adapter::pool_entry<E> entry{loaded.adapter, name, index, loaded.info.base_hash};
  const adapter::pool_edit_options options{o.spare};
  return o.replace ? adapter::replace_adapter(pool.path(), entry, options)
                   : adapter::add_adapter(pool.path(), entry, options);
}

std::string last_part(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path.substr(path.find_last_of('/') + 1);
}

/// What the pool is after the edit.
result<void> tell(const std::string& path, const std::string& what, json& report) {
  CRAYON_TRY(const auto pool, adapter::pool_contents::open(path));
  std::printf("%s: %s; %zu adapters, %zu spare slots\n", path.c_str(), what.c_str(), pool.size(),
              pool.slots() - pool.size());
  report["pool"] = path;
  report["adapters"] = pool.size();
  report["spare"] = pool.slots() - pool.size();
  report["names"] = pool.info().names;
  report["bytes"] = pool.bytes().size();
  return {};
}

}  // namespace

result<void> run(const pool_entry_options& o, json& report) {
  const std::string name = o.name.empty() ? last_part(o.adapter) : o.name;
  {
    CRAYON_TRY(const auto pool, adapter::pool_contents::open(o.pool));
    if (!o.replace && o.samples.empty() && pool.index().cols != 0) {
      return error{errc::bad_value, o.pool + ": has index vectors: " + name +
                                        " needs one too, from --samples and --model"};
    }
    if (!o.samples.empty() && pool.index().cols == 0) {
      return error{errc::bad_value, o.pool + ": has no index vectors, --samples are of no use"};
    }
    CRAYON_TRY(const auto index, samples_index(pool, o));
    switch (pool.type()) {
      case dtype::f32:
        CRAYON_CHECK(put_in<float>(pool, o, name, index));
        break;
      case dtype::bf16:
        CRAYON_CHECK(put_in<bf16>(pool, o, name, index));
        break;
      case dtype::f16:
        CRAYON_CHECK(put_in<f16>(pool, o, name, index));
        break;
    }
  }
  return tell(o.pool, o.replace ? name + " replaced" : name + " added", report);
}

result<void> run(const pool_remove_options& o, json& report) {
  CRAYON_CHECK(adapter::remove_adapter(o.pool, o.name, {o.spare}));
  return tell(o.pool, o.name + " removed", report);
}

result<void> run(const pool_cores_options& o, json& report) {
  const stopwatch watch;
  thread_pool threads;
  CRAYON_TRY(const auto file, adapter::pool_contents::open(o.pool));
  CRAYON_TRY(const auto pool, adapter::load_pool<float>(file));
  CRAYON_TRY(const auto cores, blend::compute_cores(pool, threads));
  report["seconds"] = watch.seconds();
  CRAYON_CHECK(adapter::store_cores(o.pool, cores, file.checksum()));
  return tell(o.pool, "R factors of " + std::to_string(cores.size()) + " sites kept", report);
}

}  // namespace crayon::cli
