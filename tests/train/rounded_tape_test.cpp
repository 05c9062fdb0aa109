// SPDX-License-Identifier: MIT
#include <crayon/train/rounded_tape.hpp>

#include <cmath>
#include <vector>

#include <crayon/core/rng.hpp>

#include "oracle.hpp"

using namespace crayon;

TEST_CASE("a tape gives back what was written, in order, rounded once", "[train]") {
  rng random(1);
  std::vector<float> first(37), second(2 * 19);
  for (float& x : first) x = 10 * random.normal();
  for (float& x : second) x = random.normal();
  first[3] = 0;
  first[4] = -0.0F;
  first[5] = 1e-40F;  // rounds to a subnormal
  train::rounded_tape tape;
  for (int pass = 0; pass < 2; ++pass) {
    tape.rewind();
    tape.write({first.data(), 1, 37});
    tape.write({second.data(), 2, 19});
    CHECK(tape.bytes() == 2 * (37 + 38));
    tape.rewind();
    std::vector<float> one(37), two(38);
    tape.read({one.data(), 1, 37});
    tape.read({two.data(), 2, 19});
    for (std::size_t j = 0; j < one.size(); ++j) {
      CHECK(one[j] == to_float(from_float<bf16>(first[j])));
      CHECK(std::signbit(one[j]) == std::signbit(first[j]));
    }
    for (std::size_t j = 0; j < two.size(); ++j) {
      CHECK(std::fabs(two[j] - second[j]) <= unit_roundoff<bf16> * std::fabs(second[j]));
    }
  }
  tape.rewind();
  tape.write({second.data(), 1, 4});  // keeps its memory
  CHECK(tape.bytes() == 2 * (37 + 38));
}
