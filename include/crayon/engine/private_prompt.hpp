// SPDX-License-Identifier: MIT
// A prompt that stays on the device.
#pragma once

#include <string>
#include <utility>

namespace crayon::engine {

template <class Config>
class device_engine;

/// Only a `device_engine` reads it: there is no conversion to text, so nothing that sends text can
/// be given one. A hybrid engine answers it on the device, whatever its router says and whatever
/// goes wrong.
class private_prompt {
 public:
  explicit private_prompt(std::string text) noexcept : text_(std::move(text)) {}

 private:
  template <class Config>
  friend class device_engine;

  std::string text_;
};

}  // namespace crayon::engine
