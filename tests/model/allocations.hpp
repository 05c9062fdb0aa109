// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>

/// How often operator new has been called in this program.
std::size_t allocations() noexcept;
