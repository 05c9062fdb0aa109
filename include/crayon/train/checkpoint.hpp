// SPDX-License-Identifier: MIT
// Training that goes on where it was interrupted: one safetensors file. Needs nlohmann_json.
#pragma once

#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/pool_json.hpp>
#include <crayon/core/result.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/io/safetensors.hpp>
#include <crayon/io/safetensors_write.hpp>
#include <crayon/train/adamw.hpp>
#include <crayon/train/trainer.hpp>

namespace crayon::train {

struct checkpoint_options {
  std::string file;             ///< empty: none is written
  std::size_t every_steps = 0;  ///< 0: by time alone
  double every_seconds = 30;    ///< 0: by steps alone
};

/// What a run of several stages (a first adapter, then a pool) has done so far: the results of the
/// finished stages; of the one under way parameters, moments of AdamW, step, random state and
/// losses. A stage that is run again with `hooks` begins where the file left it, and then does the
/// same steps as if nothing had happened. The file is replaced as a whole or not at all, and only
/// by parameters whose loss and gradient are finite.
class checkpoint {
 public:
  /// Everything that decides what a run does, by name: options, data, base model, threads.
  using identity = std::map<std::string, std::string>;

  checkpoint() = default;
  /// Reads the file, if there is one. Errors: it is no checkpoint, was altered, cannot be written,
  /// or is of a run that is not `run`; then both values are named.
  [[nodiscard]] static result<checkpoint> open(checkpoint_options options, identity run);

  [[nodiscard]] const std::string& file() const noexcept { return options_.file; }
  /// The file has something to go on from.
  [[nodiscard]] bool kept() const noexcept { return kept_; }

  /// The step that a stage would begin with.
  [[nodiscard]] std::size_t step_of(const std::string& stage) const {
    return stage == stage_ ? step_ : 0;
  }
  [[nodiscard]] bool finished(const std::string& stage) const { return done_.contains(stage); }
  /// What a finished stage left.
  [[nodiscard]] std::span<const float> values(const std::string& stage) const {
    return done_.at(stage).values;
  }
  /// The loss of every step of a stage, before its update.
  [[nodiscard]] std::vector<double> losses(const std::string& stage) const {
    if (const auto at = done_.find(stage); at != done_.end()) return at->second.losses;
    return stage == stage_ ? losses_ : std::vector<double>();
  }

  /// The stage is over, and this is its result: written when the next stage has found its first
  /// loss and gradient to be finite, or by `end`.
  void finish(const std::string& stage, std::span<const float> values) {
    done_[stage] = {{values.begin(), values.end()}, losses(stage)};
    stage_.clear();
    for (auto* moments : {&values_, &first_, &second_}) moments->clear();
    losses_.clear();
    step_ = 0;
    pending_ = true;
  }
  /// No stage follows.
  [[nodiscard]] result<void> end() { return pending_ ? write() : result<void>{}; }

  /// Hooks of `train_loop` for one stage; `random` is what its batches are drawn with.
  class stage_hooks {
   public:
    [[nodiscard]] result<std::size_t> begin(std::span<const parameter_group> groups,
                                            adamw& optimizer) {
      groups_ = groups;
      optimizer_ = &optimizer;
      return owner_->begin(name_, groups, optimizer, *random_);
    }
    [[nodiscard]] result<void> after_gradient() {
      return owner_->after_gradient(groups_, *optimizer_);
    }
    [[nodiscard]] result<void> after_step(const training_progress& now,
                                          std::span<const parameter_group>, const adamw&) {
      owner_->after_step(now, *random_);
      return {};
    }

   private:
    friend class checkpoint;
    stage_hooks(checkpoint& owner, std::string name, rng& random)
        : owner_(&owner), name_(std::move(name)), random_(&random) {}

    checkpoint* owner_;
    std::string name_;
    rng* random_;
    std::span<const parameter_group> groups_;
    const adamw* optimizer_ = nullptr;
  };
  [[nodiscard]] stage_hooks hooks(std::string stage, rng& random) {
    return {*this, std::move(stage), random};
  }

 private:
  using clock = std::chrono::steady_clock;
  struct stage_result {
    std::vector<float> values;
    std::vector<double> losses;
  };
  static constexpr std::string_view format = "crayon training checkpoint 3";

  result<std::size_t> begin(const std::string& stage, std::span<const parameter_group> groups,
                            adamw& optimizer, rng& random) {
    written_ = clock::now();
    due_ = false;
    if (stage != stage_ || values_.empty()) {
      stage_ = stage;
      losses_.clear();
      step_ = 0;
      return std::size_t{0};
    }
    std::size_t count = 0;
    for (const auto& g : groups) count += g.values.size();
    if (count != values_.size() || first_.size() != count || second_.size() != count) {
      return error{errc::bad_shape, options_.file + ": " + std::to_string(values_.size()) +
                                        " parameters, the run has " + std::to_string(count)};
    }
    const float* from = values_.data();
    for (const auto& g : groups) {
      std::copy_n(from, g.values.size(), g.values.data());
      from += g.values.size();
    }
    optimizer.restore(first_, second_, step_);
    random = rng(random_);
    return step_;
  }

  void after_step(const training_progress& now, const rng& random) {
    losses_.push_back(now.loss);
    const std::chrono::duration<double> since = clock::now() - written_;
    due_ = !options_.file.empty() &&
           ((options_.every_steps != 0 && (now.step + 1) % options_.every_steps == 0) ||
            (options_.every_seconds > 0 && since.count() >= options_.every_seconds));
    if (!due_) return;
    step_ = now.step + 1;
    random_ = random.state();
  }

  /// Only now are the parameters that the last step left known to be good.
  result<void> after_gradient(std::span<const parameter_group> groups, const adamw& optimizer) {
    if (!due_) return end();
    due_ = false;
    values_.clear();
    for (const auto& g : groups) values_.insert(values_.end(), g.values.begin(), g.values.end());
    first_.assign(optimizer.first_moments().begin(), optimizer.first_moments().end());
    second_.assign(optimizer.second_moments().begin(), optimizer.second_moments().end());
    return write();
  }

  template <class T>
  static io::tensor tensor(std::string name, const char* dtype, const std::vector<T>& values) {
    return {std::move(name), dtype, {values.size()}, std::as_bytes(std::span(values))};
  }

  result<void> write() {
    written_ = clock::now();
    pending_ = false;
    if (options_.file.empty()) return {};
    identity metadata{{"format", std::string(format)},
                      {"stage", stage_},
                      {"step", std::to_string(step_)},
                      {"rng", std::to_string(random_)}};
    for (const auto& [key, value] : run_) metadata["run." + key] = value;
    std::vector<io::tensor> tensors;
    for (const auto& [stage, left] : done_) {
      tensors.push_back(tensor("done." + stage + ".values", "F32", left.values));
      tensors.push_back(tensor("done." + stage + ".losses", "F64", left.losses));
    }
    tensors.push_back(tensor("values", "F32", values_));
    tensors.push_back(tensor("adamw.m", "F32", first_));
    tensors.push_back(tensor("adamw.v", "F32", second_));
    tensors.push_back(tensor("losses", "F64", losses_));
    metadata["checksum"] = adapter::pool_json::checksum(tensors, metadata, true);
    CRAYON_CHECK(io::write_safetensors(options_.file, std::move(tensors), metadata, true));
    kept_ = true;
    return {};
  }

  template <class T>
  result<std::vector<T>> read(const io::safetensors& file, const std::string& name) const {
    const io::tensor* t = file.find(name);
    if (t == nullptr || t->bytes.size() % sizeof(T) != 0) {
      return error{errc::bad_format, options_.file + ": no tensor " + name + " of a checkpoint"};
    }
    std::vector<T> values(t->bytes.size() / sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), t->bytes.data(), t->bytes.size());
    return values;
  }

  result<void> check_run(const identity& metadata) const;
  result<void> load();

  checkpoint_options options_;
  identity run_;
  std::map<std::string, stage_result> done_;
  std::string stage_;  // under way; empty: none
  bool due_ = false;
  bool pending_ = false;  // a finished stage that is not in the file
  bool kept_ = false;
  std::size_t step_ = 0;
  std::uint64_t random_ = 0;
  std::vector<float> values_, first_, second_;
  std::vector<double> losses_;
  clock::time_point written_ = clock::now();
};

inline result<checkpoint> checkpoint::open(checkpoint_options options, identity run) {
  checkpoint made;
  made.options_ = std::move(options);
  made.run_ = std::move(run);
  if (made.options_.file.empty()) return made;
  CRAYON_CHECK(made.load());
  CRAYON_CHECK(io::atomic_file::create(made.options_.file));  // before the work
  return made;
}

inline result<void> checkpoint::check_run(const identity& metadata) const {
  const std::string prefix = "run.";
  for (const auto& [key, value] : run_) {
    const auto at = metadata.find(prefix + key);
    const std::string there = at == metadata.end() ? "none" : at->second;
    if (there == value) continue;
    return error{errc::mismatch, options_.file + ": the checkpoint is of a run with " + key + " " +
                                     there + ", this run has " + value};
  }
  for (const auto& [key, value] : metadata) {
    if (!key.starts_with(prefix) || run_.contains(key.substr(prefix.size()))) continue;
    return error{errc::mismatch, options_.file + ": the checkpoint is of a run with " +
                                     key.substr(prefix.size()) + " " + value +
                                     ", this run has none"};
  }
  return {};
}

inline result<void> checkpoint::load() {
  auto opened = io::safetensors::open(options_.file);
  if (!opened && opened.error().code == errc::not_found) return {};
  if (!opened) return opened.error();
  const io::safetensors file = *std::move(opened);
  identity metadata = file.metadata();
  if (metadata["format"] != format) {
    return error{errc::bad_format, options_.file + ": not a training checkpoint"};
  }
  const auto sum = adapter::pool_json::checksum(file.tensors(), metadata, true);
  if (sum != metadata["checksum"]) {
    return error{errc::bad_format, options_.file + ": its checksum is " + metadata["checksum"] +
                                       ", the content has " + sum};
  }
  CRAYON_CHECK(check_run(metadata));
  kept_ = true;
  stage_ = metadata["stage"];
  const auto number = [&](const std::string& key, auto& value) -> result<void> {
    const std::string& text = metadata[key];
    const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
    if (read.ec == std::errc() && read.ptr == text.data() + text.size()) return {};
    return error{errc::bad_format, options_.file + ": its " + key + " is \"" + text + "\""};
  };
  CRAYON_CHECK(number("step", step_));
  CRAYON_CHECK(number("rng", random_));
  CRAYON_TRY(values_, read<float>(file, "values"));
  CRAYON_TRY(first_, read<float>(file, "adamw.m"));
  CRAYON_TRY(second_, read<float>(file, "adamw.v"));
  CRAYON_TRY(losses_, read<double>(file, "losses"));
  const std::string prefix = "done.", suffix = ".values";
  for (const auto& t : file.tensors()) {
    if (!t.name.starts_with(prefix) || !t.name.ends_with(suffix)) continue;
    const std::string stage =
        t.name.substr(prefix.size(), t.name.size() - prefix.size() - suffix.size());
    CRAYON_TRY(done_[stage].values, read<float>(file, t.name));
    CRAYON_TRY(done_[stage].losses, read<double>(file, prefix + stage + ".losses"));
  }
  return {};
}

}  // namespace crayon::train
