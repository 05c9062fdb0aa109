// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <crayon/adapter/peft.hpp>
#include <crayon/adapter/pool_edit.hpp>
#include <crayon/adapter/pool_file.hpp>
#include <crayon/io/file.hpp>
#include <crayon/io/file_copy.hpp>
#include <crayon/train/build_pool.hpp>
#include <crayon/train/extend_pool.hpp>

#include "commands.hpp"
#include "encoded.hpp"
#include "matching.hpp"

namespace crayon::cli {
namespace {

/// What every kind of training tells in the end.
void tell(const train::pool_report& done, const std::string& what, const pool_options& o,
          const stored_model& model, double seconds, json& report) {
  const std::string type(name(model.type()));
  std::printf(
      "%s: %s, loss %.4f, %.0f tokens/s, %.1f s, at most %.0f MB, of which %.0f are the model as "
      "%s\n",
      o.out.c_str(), what.c_str(), done.loss,
      done.seconds > 0 ? static_cast<double>(done.rows) / done.seconds : 0.0, seconds,
      static_cast<double>(peak_memory()) / 1e6, static_cast<double>(model.bytes()) / 1e6,
      type.c_str());
  report["model_type"] = type;
  report["model_bytes"] = model.bytes();
  report["out"] = o.out;
  report["steps"] = done.steps;
  report["resumed_at"] = done.resumed;
  report["loss"] = done.loss;
  report["losses"] = done.losses;
  report["tokens"] = done.rows;
  report["training_seconds"] = done.seconds;
  report["training_bytes"] = done.bytes;
  report["peak_memory_bytes"] = peak_memory();
  report["seconds"] = seconds;
  report["backend"] = backend::name();
}

void tell_usage(const train::usage_report& usage, const std::vector<std::string>& names,
                json& report) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    std::printf("  %-16s weight %.3f, nearest of %s\n", names[i].c_str(), usage.mean[i],
                counted(usage.nearest[i], "sample").c_str());
    report["usage"].push_back({{"name", names[i]},
                               {"mean_weight", usage.mean[i]},
                               {"nearest_samples", usage.nearest[i]}});
  }
  report["imbalance"] = usage.imbalance;
}

/// Which file it is about: the checkpoint's errors say so themselves; what an addition cannot be
/// made to is the pool.
error about(const pool_options& o, const error& e) {
  const std::string& saved = o.how.checkpoint.file;
  if (!saved.empty() && e.text.starts_with(saved + ":")) return e;
  if (e.text.starts_with("cannot write ")) return e;
  const bool of_pool = !o.add.empty() && (e.code == errc::mismatch || e.code == errc::bad_shape ||
                                          e.code == errc::unsupported);
  return {e.code, (of_pool ? o.add : o.data) + ": " + e.text};
}

template <element E>
result<void> put_as(const std::string& pool, const std::string& name, const std::string& base_hash,
                    const train::pool_addition& made) {
  const auto rounded = adapter::rounded_to<E>(made.adapter);
  return adapter::add_adapter(pool, adapter::pool_entry<E>{rounded, name, made.index, base_hash});
}

result<void> put_in(const std::string& pool, dtype type, const std::string& name,
                    const std::string& base_hash, const train::pool_addition& made) {
  if (type == dtype::bf16) return put_as<bf16>(pool, name, base_hash, made);
  if (type == dtype::f16) return put_as<f16>(pool, name, base_hash, made);
  return put_as<float>(pool, name, base_hash, made);
}

/// The pool `from` with one more adapter, as the file `to`: whole or not at all.
result<void> put_beside(const std::string& from, const std::string& to, dtype type,
                        const std::string& name, const std::string& base_hash,
                        const train::pool_addition& made) {
  if (from == to) return put_in(to, type, name, base_hash, made);
  CRAYON_TRY(const std::string target, io::link_target(to));
  const std::string work = io::temporary_name(target);
  CRAYON_TRY(auto copy, io::atomic_file::create(work));
  CRAYON_CHECK(io::copy_contents(from, copy));
  CRAYON_CHECK(copy.commit());
  auto done = put_in(work, type, name, base_hash, made);
  if (done && std::rename(work.c_str(), target.c_str()) != 0) {
    done = io::file_error("write", to, errno);
  }
  if (!done) std::remove(work.c_str());
  return done;
}

/// "data/dates.jsonl" -> "dates"
std::string name_of(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  path = path.substr(path.find_last_of('/') + 1);
  const std::size_t dot = path.rfind('.');
  return dot == 0 || dot == std::string::npos ? path : path.substr(0, dot);
}

/// One more adapter for a pool that stays as it is.
result<void> extend(const pool_options& o, const stored_model& model,
                    std::span<const engine::encoded_sample> samples, const train::pool_options& how,
                    thread_pool& threads, train::stage_progress progress, json& report) {
  const stopwatch watch;
  const std::string name = o.name.empty() ? name_of(o.data) : o.name;
  CRAYON_TRY(const auto file, adapter::pool_contents::open(o.add));
  CRAYON_TRY(const auto pool, adapter::load_pool<float>(file));
  const auto& names = pool.info().names;
  if (std::find(names.begin(), names.end(), name) != names.end()) {
    return error{errc::bad_value, o.add + ": has an adapter " + name + " already"};
  }
  auto placed = place_samples_of(pool.info(), model, samples, threads);
  if (!placed) return error{placed.error().code, o.add + ": " + placed.error().text};
  const std::string hash = model.hash();
  auto made = train::train_addition<backend>(
      model.visit([](const auto& base) { return train::base_weights(base); }), hash, pool, samples,
      {placed->data(), samples.size(), placed->size() / samples.size()}, how, threads, progress);
  if (!made) return about(o, made.error());
  CRAYON_CHECK(put_beside(o.add, o.out, file.type(), name, hash, *made));
  tell(made->report,
       "adapter " + name + " beside " + counted(pool.size(), "other") + " from " +
           counted(samples.size(), "sample"),
       o, model, watch.seconds(), report);
  auto all = names;
  all.push_back(name);
  tell_usage(made->report.usage, all, report);
  report["adapters"] = all.size();
  report["rank"] = made->adapter.shape(0).rank;
  return {};
}

}  // namespace

result<void> run(const pool_options& o, json& report) {
  CRAYON_CHECK(o.single ? check_output_directory(o.out) : check_output_file(o.out));
  CRAYON_TRY(const stored_model model, load_model(o.model.model));
  CRAYON_TRY(const llama2c_tokenizer tokens, load_tokenizer(o.model, model.config()));
  CRAYON_TRY(const auto texts, read_samples(o.data));
  CRAYON_TRY(const auto encoded, encode_samples(texts, tokens, model.config(), o.data));
  const std::span<const engine::encoded_sample> samples(encoded);
  const stopwatch watch;
  thread_pool threads(o.threads == 0 ? std::thread::hardware_concurrency() : o.threads);
  train::pool_options how = o.how;
  how.base_model = o.model.model;
  how.memory = free_memory();
  std::optional<progress_bar> embedding(std::in_place, "embedding");
  const auto embedded = [&](std::size_t done, std::size_t count) { embedding->show(done, count); };
  const train::embedding_progress watch_embedding(embedded);
  how.embedding = &watch_embedding;
  training_bar bar;
  const auto progress = [&](std::string_view stage, const train::training_progress& now,
                            std::size_t steps) {
    embedding.reset();
    bar.show(stage, now.step, steps, now.loss, now.tokens_per_second);
    return true;
  };
  report["samples"] = texts.size();
  report["rank"] = how.rank;

  if (!o.add.empty()) return extend(o, model, samples, how, threads, progress, report);
  if (o.single) {
    auto made = model.visit([&](const auto& base) {
      return train::build_single<backend>(base, samples, how, threads, progress);
    });
    if (!made) return about(o, made.error());
    adapter::peft_info info;
    info.base_model = o.model.model;
    info.base_hash = model.hash();
    CRAYON_CHECK(adapter::save_peft(o.out, made->adapter, info, o.stored));
    tell(made->report, "an adapter of rank " + std::to_string(how.rank), o, model, watch.seconds(),
         report);
    return {};
  }
  std::vector<std::string> tasks, groups;
  for (const auto& t : texts) {
    tasks.push_back(t.task);
    groups.push_back(t.group);
  }
  how.groups = groups;
  const auto build = [&]<class Embedding>(Embedding*) {
    return model.visit([&](const auto& base) {
      return train::build_pool<backend, Embedding>(
          base, samples, std::span<const std::string>(tasks), how, threads, progress);
    });
  };
  auto made = o.embedding == match::mean_pooling::name()
                  ? build(static_cast<match::mean_pooling*>(nullptr))
              : o.embedding == match::last_token::name()
                  ? build(static_cast<match::last_token*>(nullptr))
                  : build(static_cast<match::error_pooling*>(nullptr));
  if (!made) return about(o, made.error());
  CRAYON_CHECK(adapter::save_pool(o.out, made->pool, {.stored = o.stored}));
  const auto& done = made->report;
  const bool named = std::count(tasks.begin(), tasks.end(), "") == 0;
  tell(done,
       counted(made->pool.size(), "adapter") + " of rank " + std::to_string(how.rank) + " from " +
           counted(texts.size(), "sample") + " of " +
           counted(done.tasks, named ? "task" : "cluster") +
           (done.groups > 1 ? " in " + std::to_string(done.groups) + " groups" : ""),
       o, model, watch.seconds(), report);
  tell_usage(done.usage, made->pool.info().names, report);
  report["adapters"] = made->pool.size();
  report["tasks"] = done.tasks;
  report["groups"] = done.groups;
  report["shared_losses"] = done.shared_losses;
  report["cluster_sizes"] = done.sizes;
  report["bytes"] = made->pool.bytes();
  return {};
}

}  // namespace crayon::cli
