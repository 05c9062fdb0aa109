// SPDX-License-Identifier: MIT
#include <crayon/core/element.hpp>

#include <cmath>
#include <cstdint>
#include <limits>

#include "../catch.hpp"

using namespace crayon;

namespace {

/// The value by definition: (-1)^s 2^(e - bias) (1 + m / 2^bits), or subnormal.
double value_of(std::uint16_t bits, int mantissa_bits, int bias) {
  const int exponent = (bits & 0x7FFF) >> mantissa_bits;
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const int top = (0x7FFF >> mantissa_bits);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == top) return mantissa == 0 ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

template <class E>
constexpr int mantissa_bits = std::same_as<E, bf16> ? 7 : 10;
template <class E>
constexpr int bias = std::same_as<E, bf16> ? 127 : 15;

}  // namespace

TEMPLATE_TEST_CASE("all 65536 values convert to f32 and back", "", bf16, f16) {
  std::size_t wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const TestType e{static_cast<std::uint16_t>(bits)};
    const double expected = value_of(e.bits, mantissa_bits<TestType>, bias<TestType>);
    const float value = to_float(e);
    if (std::isnan(expected)) {
      wrong += !std::isnan(value) || !std::isnan(to_float(from_float<TestType>(value)));
    } else {
      wrong += double{value} != expected || std::signbit(value) != std::signbit(expected);
      wrong += from_float<TestType>(value).bits != e.bits;
    }
  }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("what lies between two values rounds to the nearest, ties to even", "", bf16,
                   f16) {
  // Up to the largest finite value; half a step beyond it is where infinity begins.
  const std::uint16_t infinity = std::same_as<TestType, bf16> ? 0x7F80 : 0x7C00;
  std::size_t wrong = 0;
  for (std::uint16_t bits = 0; bits < infinity; ++bits) {
    const TestType low{bits}, high{static_cast<std::uint16_t>(bits + 1)};
    const double step = value_of(high.bits, mantissa_bits<TestType>, bias<TestType>);
    const double next = std::isinf(step)
                            ? 2 * double{to_float(low)} -
                                  double{to_float(TestType{static_cast<std::uint16_t>(bits - 1)})}
                            : step;
    const auto middle = static_cast<float>((double{to_float(low)} + next) / 2);
    const float below = std::nextafter(middle, 0.0F);
    const float above = std::nextafter(middle, std::numeric_limits<float>::infinity());
    const TestType even = bits % 2 == 0 ? low : high;
    for (const float sign : {1.0F, -1.0F}) {
      const auto expect = [&](float value, TestType e) {
        const auto got = from_float<TestType>(sign * value).bits;
        wrong += got != (e.bits | (sign < 0 ? 0x8000 : 0));
      };
      expect(middle, even);
      expect(below, low);
      expect(above, high);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("an f32 stays what it is") {
  CHECK(from_float<float>(0.1F) == 0.1F);
  CHECK(to_float(0.1F) == 0.1F);
}

TEST_CASE("names and sizes are those of safetensors") {
  CHECK(name(dtype_of<float>) == "F32");
  CHECK(name(dtype_of<bf16>) == "BF16");
  CHECK(name(dtype_of<f16>) == "F16");
  CHECK(size_of(dtype::f32) == sizeof(float));
  CHECK(size_of(dtype::bf16) == sizeof(bf16));
  CHECK(size_of(dtype::f16) == sizeof(f16));
}
