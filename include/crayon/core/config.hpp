// SPDX-License-Identifier: MIT
// Every macro of the library. Policies are types; these few are what a type cannot say.
#pragma once

#include <cassert>

/// A broken precondition of the caller. Define before the first include to replace it.
#ifndef CRAYON_ASSERT
#define CRAYON_ASSERT(condition) assert(condition)
#endif

/// The pointer is the only way to its memory in this scope.
#if defined(_MSC_VER)
#define CRAYON_RESTRICT __restrict
#else
#define CRAYON_RESTRICT __restrict__
#endif

#define CRAYON_CONCAT_INNER(a, b) a##b
#define CRAYON_CONCAT(a, b) CRAYON_CONCAT_INNER(a, b)

/// `CRAYON_TRY(auto file, mapped_file::open(path));` declares `file`, or returns the error from a
/// function that itself returns a `result<T>`.
#define CRAYON_TRY(declaration, ...) \
  CRAYON_TRY_WITH(CRAYON_CONCAT(crayon_try_, __LINE__), declaration, __VA_ARGS__)
#define CRAYON_TRY_WITH(name, declaration, ...) \
  auto name = (__VA_ARGS__);                    \
  if (!name) return name.error();               \
  declaration = *std::move(name)

/// `CRAYON_CHECK(write(file));` for a `result<void>`: returns its error, if it has one.
#define CRAYON_CHECK(...) CRAYON_CHECK_WITH(CRAYON_CONCAT(crayon_check_, __LINE__), __VA_ARGS__)
#define CRAYON_CHECK_WITH(name, ...) \
  if (auto name = (__VA_ARGS__); !name) return name.error()

/// Inlined whatever the optimiser thinks: a kernel's step must become part of its loop.
#if defined(_MSC_VER)
#define CRAYON_INLINE __forceinline
#else
#define CRAYON_INLINE inline __attribute__((always_inline))
#endif
