// SPDX-License-Identifier: MIT
// What differs between Highway 1.0.3 (Debian 12) and current ones, set before its first inclusion.
#pragma once

// g++ before 12.3 miscompiles some of EMU128's integer operations (GCC bug 106322), so Highway
// falls back to one lane. The kernels use none of those, and a test runs them all. (With sanitizers
// one lane it is: the emulated four then take g++ 12 minutes to compile. clang does not say that it
// has them on: the preset asan does.)
#if !defined(HWY_BROKEN_EMU128) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define HWY_BROKEN_EMU128 0
#endif

// -march=x86-64-v3 and -v4 do not include AES, which Highway 1.0.3 wants for anything above SSSE3.
#if (defined(__x86_64__) || defined(__i386__)) && !defined(__AES__) && \
    !defined(HWY_DISABLE_PCLMUL_AES)
#define HWY_DISABLE_PCLMUL_AES
#endif

// In Highway 1.0.3, a baseline that has AVX3_DL (-march=native on Ice Lake, Zen 4) is an #error
// without this.
#ifndef HWY_WANT_AVX3_DL
#define HWY_WANT_AVX3_DL
#endif
