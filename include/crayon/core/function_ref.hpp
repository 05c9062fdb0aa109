// SPDX-License-Identifier: MIT
// A callable that somebody else owns: a pointer and a function, no allocation.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace crayon {

template <class Signature>
class function_ref;

/// Refers to a callable for the duration of one call; it does not keep it alive. Meant for
/// parameters, where the argument outlives the call.
template <class R, class... Args>
class function_ref<R(Args...)> {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, function_ref> &&
             std::is_object_v<std::remove_reference_t<F>> && std::is_invocable_r_v<R, F&, Args...>)
  function_ref(F&& callable)
  noexcept
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
        call_([](void* object, Args... args) -> R {
          return (*static_cast<std::add_pointer_t<std::remove_reference_t<F>>>(object))(
              std::forward<Args>(args)...);
        }) {}

  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

}  // namespace crayon
