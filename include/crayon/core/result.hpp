// SPDX-License-Identifier: MIT
// A value or an error: how bad input (files, JSON, network, foreign adapters) is reported.
#pragma once

#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include <crayon/core/config.hpp>

namespace crayon {

enum class errc {
  not_found,       ///< a file, a module, a name does not exist
  io_failed,       ///< the operating system refused to read or write
  bad_format,      ///< not the format it claims to be: magic, header, JSON, truncation
  bad_shape,       ///< two shapes or sizes that must agree do not
  bad_value,       ///< a number outside its range: NaN weight, token id, rank 0
  unsupported,     ///< understood, and refused: DoRA, another peft_type
  mismatch,        ///< belongs to something else: another base model, another pool
  network_failed,  ///< refused, cut, malformed or unexpected answer of a server
  timed_out,       ///< the deadline passed, or another limit on waiting
  cancelled,       ///< the caller gave up
  untrusted,       ///< a server did not prove by its certificate that it is the one asked for
  unavailable,     ///< not asked: it failed too often lately
  infeasible,      ///< understood, and nothing keeps it: a risk too small for so few queries
};

/// One error: what kind, and one line that names the file, the tensor and both values.
struct error {
  errc code = errc::bad_value;
  std::string text;
};

/// A `T` or an `error`. Works with and without exceptions: test it, then dereference it.
template <class T>
class [[nodiscard]] result {
  using stored = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

 public:
  using value_type = T;

  result() noexcept requires std::is_void_v<T>
  = default;
  template <class U = stored>
    requires(!std::is_void_v<T> && std::is_constructible_v<stored, U&&> &&
             !std::is_same_v<std::remove_cvref_t<U>, result> &&
             !std::is_same_v<std::remove_cvref_t<U>, crayon::error>)
  result(U&& value) : state_(std::in_place_index<0>, std::forward<U>(value)) {}
  result(crayon::error failure) : state_(std::in_place_index<1>, std::move(failure)) {}

  [[nodiscard]] explicit operator bool() const noexcept { return state_.index() == 0; }

  [[nodiscard]] stored& operator*() & noexcept { return *checked(); }
  [[nodiscard]] const stored& operator*() const& noexcept {
    CRAYON_ASSERT(state_.index() == 0 && "the result holds an error: test it first");
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] stored&& operator*() && noexcept { return std::move(*checked()); }
  [[nodiscard]] stored* operator->() noexcept { return checked(); }
  [[nodiscard]] const stored* operator->() const noexcept { return &**this; }

  /// The error; precondition: there is one.
  [[nodiscard]] const crayon::error& error() const noexcept {
    CRAYON_ASSERT(state_.index() == 1);
    return *std::get_if<1>(&state_);
  }

 private:
  [[nodiscard]] stored* checked() noexcept {
    CRAYON_ASSERT(state_.index() == 0 && "the result holds an error: test it first");
    return std::get_if<0>(&state_);
  }

  std::variant<stored, crayon::error> state_;
};

}  // namespace crayon
