// SPDX-License-Identifier: MIT
// The adapters that a server's requests may name, and the mixes of them that they asked for.
#pragma once

#include <algorithm>
#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/adapter_set.hpp>
#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>

namespace crayon::serve {

/// Named adapters of one base model, as they are or mixed exactly (`concat`). The mixes that were
/// asked for last are kept. Any number of threads may ask at once.
template <element E, kernel_backend B>
class adapter_shelf {
 public:
  using adapter_type = adapter::lora_adapter<E>;
  using shared = std::shared_ptr<const adapter_type>;
  using mix = std::vector<std::pair<std::string, float>>;

  /// `own`: for requests that name nothing; null: the base model. Errors: two adapters that do not
  /// agree in a module's shape.
  [[nodiscard]] static result<std::shared_ptr<adapter_shelf>> make(
      std::vector<adapter_type> adapters, std::vector<std::string> names, shared own = nullptr,
      std::size_t most_mixes = 16) {
    CRAYON_ASSERT(adapters.size() == names.size());
    std::shared_ptr<adapter_shelf> shelf(
        new adapter_shelf(std::move(names), std::move(own), most_mixes));
    if (adapters.empty()) return shelf;
    for (const auto& one : adapters) shelf->one_.push_back(std::make_shared<adapter_type>(one));
    CRAYON_TRY(shelf->set_, adapter::adapter_set<E>::build(std::move(adapters), shelf->names_));
    return shelf;
  }

  [[nodiscard]] const std::vector<std::string>& names() const noexcept { return names_; }
  [[nodiscard]] const shared& own() const noexcept { return own_; }

  /// Error (not_found): no adapter of that name.
  [[nodiscard]] result<shared> get(std::string_view name) const {
    CRAYON_TRY(const std::size_t slot, slot_of(name));
    return one_[slot];
  }

  /// Errors: not_found, and those of the blend.
  [[nodiscard]] result<shared> blend(const mix& weights) {
    {
      const std::lock_guard lock(mutex_);
      for (auto at = made_.begin(); at != made_.end(); ++at) {
        if (at->weights != weights) continue;
        made_.splice(made_.begin(), made_, at);
        return at->adapter;
      }
    }
    std::vector<weighted_slot> slots;
    for (const auto& [name, weight] : weights) {
      CRAYON_TRY(const std::size_t slot, slot_of(name));
      slots.push_back({slot, weight});
    }
    CRAYON_TRY(auto sum, blend::basic_concat<B>::blend(set_, slots));
    auto made = std::make_shared<const adapter_type>(std::move(sum));
    const std::lock_guard lock(mutex_);
    made_.push_front({weights, made});
    if (made_.size() > most_) made_.pop_back();
    return made;
  }

 private:
  struct kept {
    mix weights;
    shared adapter;
  };

  adapter_shelf(std::vector<std::string> names, shared own, std::size_t most)
      : names_(std::move(names)), own_(std::move(own)), most_(most) {}

  [[nodiscard]] result<std::size_t> slot_of(std::string_view name) const {
    const auto at = std::find(names_.begin(), names_.end(), name);
    if (at != names_.end()) return static_cast<std::size_t>(at - names_.begin());
    return error{errc::not_found, "no adapter \"" + std::string(name) + "\" on this server"};
  }

  std::vector<std::string> names_;
  shared own_;
  std::vector<shared> one_;
  adapter::adapter_set<E> set_;
  const std::size_t most_;
  std::mutex mutex_;
  std::list<kept> made_;  // the last asked for comes first
};

}  // namespace crayon::serve
