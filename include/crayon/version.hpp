// SPDX-License-Identifier: MIT
#pragma once

namespace crayon {

struct version_number {
  int major, minor, patch;
};

/// The version of these headers, following semantic versioning.
inline constexpr version_number version{0, 1, 0};

}  // namespace crayon
