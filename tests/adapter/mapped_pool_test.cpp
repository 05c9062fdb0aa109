// SPDX-License-Identifier: MIT
#include <crayon/adapter/mapped_pool.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/blend/activations.hpp>
#include <crayon/blend/concat.hpp>
#include <crayon/blend/linear.hpp>
#include <crayon/io/safetensors.hpp>
#include <crayon/io/safetensors_write.hpp>

#include "../catch.hpp"
#include "../io/scratch.hpp"
#include "random_pool.hpp"

using namespace crayon;
using namespace crayon_test;
using adapter::load_pool;
using adapter::lora_adapter;
using adapter::mapped_pool;
using adapter::pool;
using adapter::save_pool;
using adapter::verification;

static_assert(blend::interleaved_source<mapped_pool<bf16>>);
static_assert(blend::interleaved_source<mapped_pool<float, adapter::lru>>);
static_assert(blend::interleaved_source<pool<float>>);

namespace {

/// A small pool in a file, with a spare slot and R factors of random numbers.
struct small_file {
  scratch dir;
  std::string path = dir / "p.safetensors";
  pool<bf16> written;
  adapter::pool_cores cores;

  explicit small_file(std::uint64_t seed) {
    rng random(seed);
    const std::vector<adapter::site_shape> shapes{{"q", 5, 40, 2, 0.5F}, {"v", 3, 9, 3, 0.25F}};
    std::vector<lora_adapter<bf16>> adapters;
    for (int k = 0; k < 3; ++k) adapters.push_back(random_adapter<bf16>(shapes, random));
    written = pool_of(adapters, 32);
    cores = adapter::pool_cores(std::vector<std::size_t>{6, 9});
    for (std::size_t i = 0; i < 2; ++i) {
      for (const auto m : {cores.r_a(i), cores.r_b(i)}) {
        for (std::size_t j = 0; j < m.size(); ++j) m.data[j] = random.normal();
      }
    }
    REQUIRE(save_pool(path, written, {1, cores.sites()}));
  }
};

bool same_bits(matrix_view<const float> a, matrix_view<const float> b) {
  return a.rows == b.rows && a.cols == b.cols &&
         std::memcmp(a.data, b.data, a.size() * sizeof(float)) == 0;
}

/// Bytes that mean the same to a reader of JSON.
bool both_white(char a, char b) {
  const auto white = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  return white(a) && white(b);
}

}  // namespace

TEMPLATE_TEST_CASE("a mapped pool has what the pool has, and blends to the same bits", "", float,
                   bf16, f16) {
  rng random(61);
  const scratch dir;
  for (int repeat = 0; repeat < 12; ++repeat) {
    const auto written = random_pool_of<TestType>(random, 1 + random.below(6));
    REQUIRE(save_pool(dir / "p", written, {random.below(3), {}}));
    const auto verify = repeat % 2 == 0 ? verification::at_open : verification::by_caller;
    const auto mapped = mapped_pool<TestType>::open(dir / "p", verify);
    REQUIRE(mapped);
    CHECK(mapped->check());
    CHECK(mapped->info() == written.info());
    CHECK(mapped->shapes() == written.shapes());
    CHECK(mapped->tile() == written.tile());
    CHECK(mapped->cores().empty());
    REQUIRE(mapped->size() == written.size());
    for (std::size_t k = 0; k < written.size(); ++k) {
      CHECK(same(mapped->extract(k), written.extract(k)));
      CHECK(std::equal(written.index(k).begin(), written.index(k).end(), mapped->index(k).begin(),
                       mapped->index(k).end()));
    }
    CHECK(reinterpret_cast<std::uintptr_t>(mapped->a(0).data) % alignment == 0);
    const auto loaded = load_pool<TestType>(dir / "p");
    REQUIRE(loaded);
    CHECK(same(loaded->extract(0), written.extract(0)));

    std::vector<weighted_slot> weights;
    for (std::size_t k = 0; k < written.size(); ++k) {
      weights.push_back({k, random.below(3) == 0 ? 0 : random.uniform()});
    }
    CHECK(
        same(*blend::linear<>::blend(*mapped, weights), *blend::linear<>::blend(written, weights)));
    CHECK(same(*blend::concat::blend(*mapped, weights), *blend::concat::blend(written, weights)));
    CHECK(blend::activations::blend(*mapped, weights));
    // A mapped pool can be saved too. Spare slots are not part of it.
    REQUIRE(save_pool(dir / "q", *mapped));
    REQUIRE(save_pool(dir / "r", written));
    CHECK(get(dir / "q") == get(dir / "r"));
  }
}

TEST_CASE("R factors come back bit by bit, without being read into memory") {
  const small_file f(62);
  const auto mapped = mapped_pool<bf16>::open(f.path);
  REQUIRE(mapped);
  REQUIRE(mapped->cores().size() == 2);
  REQUIRE(adapter::check_cores(*mapped, mapped->cores()));
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(same_bits(mapped->cores()[i].r_a, f.cores.sites()[i].r_a));
    CHECK(same_bits(mapped->cores()[i].r_b, f.cores.sites()[i].r_b));
  }
  // R factors of other adapters are refused.
  const adapter::pool_cores other(std::vector<std::size_t>{6, 8});
  const auto refused = save_pool(f.path, f.written, {0, other.sites()});
  REQUIRE(!refused);
  CHECK(refused.error().text == "R factor (8, 8) at v, the ranks sum to 9");
  CHECK(load_pool<bf16>(f.path));
}

TEST_CASE("a pool file with any byte altered is refused") {
  const small_file f(63);
  const std::string good = get(f.path);
  const auto opened = mapped_pool<bf16>::open(f.path);
  REQUIRE(opened);
  // Where the bytes lie that only `check` reads: factors and R factors.
  const auto bytes_of = [](const auto& view) { return view.size() * sizeof(*view.data); };
  std::size_t large = 0;
  for (std::size_t i = 0; i < 2; ++i) {
    large += bytes_of(opened->a(i)) + bytes_of(opened->b(i)) + bytes_of(opened->cores()[i].r_a) +
             bytes_of(opened->cores()[i].r_b);
  }
  const std::string path = f.dir / "altered.safetensors";
  rng random(64);
  std::size_t at_open = 0, by_check = 0, white = 0;
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ static_cast<char>(1 + random.below(255)));
    put(path, bad);
    const auto trusting = mapped_pool<bf16>::open(path, verification::by_caller);
    at_open += !trusting;
    if (trusting && both_white(good[i], bad[i])) {
      ++white;  // one kind of white space between the header and the tensors for another
      continue;
    }
    by_check += trusting && !trusting->check();
    INFO("byte " << i << ": " << good.substr(i - std::min<std::size_t>(i, 40), 60) << " becomes "
                 << int(bad[i]));
    REQUIRE(!mapped_pool<bf16>::open(path));
    if (i % 7 == 0) REQUIRE(!load_pool<bf16>(path));
  }
  CHECK(by_check == large);
  CHECK(at_open + by_check + white == good.size());
  CHECK(white < 10);

  // Which factor of which adapter, and both values.
  std::string bad = good;
  const auto* third = opened->a(0).at(1, 2);
  const auto first = static_cast<std::size_t>(reinterpret_cast<const char*>(third) -
                                              reinterpret_cast<const char*>(opened->a(0).data));
  const std::size_t start = good.find("\"q.lora_A\"");
  REQUIRE(start != std::string::npos);
  std::uint64_t header = 0;
  std::memcpy(&header, good.data(), 8);
  bad[8 + header + first] = static_cast<char>(bad[8 + header + first] ^ 1);
  put(path, bad);
  const auto refused = mapped_pool<bf16>::open(path);
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::bad_format);
  CHECK(contains(refused.error().text, path + ": checksum of q.lora_A of name 2 is "));
  CHECK(contains(refused.error().text, ", the content has "));
  const auto trusting = mapped_pool<bf16>::open(path, verification::by_caller);
  REQUIRE(trusting);
  CHECK(!trusting->check(0));
  CHECK(trusting->check(1));
}

TEST_CASE("a truncated pool file is refused, however it is opened") {
  const small_file f(65);
  const std::string good = get(f.path);
  const std::string path = f.dir / "cut.safetensors";
  for (std::size_t length = 0; length < good.size(); length += length < 600 ? 1 : 13) {
    put(path, good.substr(0, length));
    INFO(length << " bytes");
    REQUIRE(!mapped_pool<bf16>::open(path, verification::by_caller));
    REQUIRE(!load_pool<bf16>(path));
  }
  put(path, good.substr(0, good.size() - 1));
  CHECK(!mapped_pool<bf16>::open(path, verification::by_caller));
  put(path, good + '\0');
  CHECK(!mapped_pool<bf16>::open(path, verification::by_caller));
}

TEST_CASE("what is not a pool of that element type is not mapped") {
  const small_file f(66);
  CHECK(mapped_pool<float>::open(f.path).error().text ==
        f.path + ": factors are BF16, asked for F32");
  CHECK(load_pool<float>(f.path));  // widened
  CHECK(load_pool<f16>(f.path).error().text == f.path + ": factors are BF16, asked for F16");
  REQUIRE(io::write_safetensors(f.dir / "other", {}));
  CHECK(mapped_pool<bf16>::open(f.dir / "other").error().text ==
        (f.dir / "other") + ": not a pool: its format is not given, needs crayon.pool/2");
  CHECK(mapped_pool<bf16>::open(f.dir / "none").error().code == errc::not_found);

  // A header of another length is the same content, but its factors are not aligned.
  const std::string good = get(f.path);
  std::uint64_t header = 0;
  std::memcpy(&header, good.data(), 8);
  ++header;
  std::string moved(8, ' ');
  std::memcpy(moved.data(), &header, 8);
  moved += good.substr(8, header - 1) + ' ' + good.substr(8 + header - 1);
  put(f.path, moved);
  const auto misaligned = mapped_pool<bf16>::open(f.path);
  REQUIRE(!misaligned);
  CHECK(contains(misaligned.error().text, "tensor q.lora_A is not aligned for BF16"));
  CHECK(same(load_pool<bf16>(f.path)->extract(1), f.written.extract(1)));
}

TEST_CASE("a pool whose factors are not finite is neither written nor read") {
  const small_file f(67);
  const std::string before = get(f.path);
  auto bad = f.written;
  bad.b(1).at(0, 2)[4] = from_float<bf16>(INFINITY);
  CHECK(save_pool(f.path, bad).error().text == f.path + ": tensor v.lora_B of name 2 [4] is inf");
  CHECK(get(f.path) == before);
  CHECK(f.dir.names() == std::vector<std::string>{"p.safetensors"});
}

TEST_CASE("every element type's infinities and NaN are found, and no number is") {
  const auto check = [](auto zero, dtype type) {
    using E = decltype(zero);
    for (const float value : {0.0F, -1.0F, 65504.0F, -65504.0F, 5.9e-8F}) {
      const std::vector<E> good(32, from_float<E>(value));
      CHECK(!adapter::not_finite(type, reinterpret_cast<const std::byte*>(good.data()),
                                 good.size() * sizeof(E)));
      for (const float wrong : {INFINITY, -INFINITY, NAN, -NAN}) {
        for (std::size_t i = 0; i < good.size(); ++i) {
          auto bad = good;
          bad[i] = from_float<E>(wrong);
          CHECK(adapter::not_finite(type, reinterpret_cast<const std::byte*>(bad.data()),
                                    bad.size() * sizeof(E)) == i);
        }
      }
    }
  };
  check(float{}, dtype::f32);
  check(bf16{}, dtype::bf16);
  check(f16{}, dtype::f16);
}

TEST_CASE("a pool file of format 1 loads and maps, and is read as a whole") {
  // As it was written before there were checksums of each factor.
  const small_file f(8);
  const scratch old;
  const std::string path = old / "p";
  REQUIRE(save_pool(old / "new", f.written));
  const auto now = io::safetensors::open(old / "new");
  REQUIRE(now);
  auto metadata = now->metadata();
  std::vector<io::tensor> tensors;
  for (const auto& t : now->tensors()) {
    if (t.name != "checksums") tensors.push_back(t);
  }
  metadata["format"] = adapter::pool_format_1;
  metadata["checksum"] = adapter::pool_json::checksum(tensors, metadata, true);
  REQUIRE(io::write_safetensors(path, tensors, metadata));

  const auto loaded = load_pool<bf16>(path);
  REQUIRE(loaded);
  for (std::size_t k = 0; k < f.written.size(); ++k) {
    CHECK(same(loaded->extract(k), f.written.extract(k)));
  }
  const auto stored = adapter::pool_contents::open(path);
  REQUIRE(stored);
  CHECK(stored->sums(0).empty());
  const auto check = [&](const auto& mapped) {
    REQUIRE(mapped);
    REQUIRE(mapped->size() == loaded->size());
    CHECK(mapped->info() == loaded->info());
    for (std::size_t k = 0; k < loaded->size(); ++k) {
      CHECK(same(mapped->extract(k), loaded->extract(k)));
    }
  };
  check(mapped_pool<bf16>::open(path, verification::by_caller));
  const scratch dir;
  std::string bytes = get(path);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  put(dir / "p", bytes);
  CHECK(contains(mapped_pool<bf16>::open(dir / "p", verification::by_caller).error().text,
                 ": checksum is "));
  // Saved again, it is of format 2 and has the same content.
  REQUIRE(save_pool(dir / "q", *loaded));
  CHECK(same(mapped_pool<bf16>::open(dir / "q")->extract(0), loaded->extract(0)));
}
