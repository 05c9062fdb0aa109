// SPDX-License-Identifier: MIT
#include <crayon/adapter/pool_file.hpp>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "../io/scratch.hpp"
#include "random_pool.hpp"

using namespace crayon;
using namespace crayon_test;
using adapter::load_pool;
using adapter::lora_adapter;
using adapter::pool;
using adapter::pool_info;
using adapter::save_pool;

namespace {

/// Replaces the first `from` in a file; both of the same length.
void edit(const std::string& path, const std::string& from, const std::string& to) {
  std::string bytes = get(path);
  const auto at = bytes.find(from);
  REQUIRE(at != std::string::npos);
  REQUIRE(from.size() == to.size());
  put(path, bytes.replace(at, from.size(), to));
}

/// Writes a pool's content with some metadata or tensor changed, under a checksum that fits it.
template <class Change>
std::string error_after(const scratch& dir, const std::string& good, Change&& change) {
  const auto file = io::safetensors::open(good);
  REQUIRE(file);
  auto tensors = file->tensors();
  auto metadata = file->metadata();
  change(tensors, metadata);
  metadata["checksum"] = adapter::pool_json::checksum(tensors, metadata, false);
  REQUIRE(io::write_safetensors(dir / "changed", tensors, metadata));
  const auto loaded = load_pool<float>(dir / "changed");
  REQUIRE(!loaded);
  const std::string& text = loaded.error().text;
  CHECK(text.rfind((dir / "changed") + ": ", 0) == 0);
  return text.substr((dir / "changed").size() + 2);
}

}  // namespace

TEMPLATE_TEST_CASE("a pool comes back from its file bit by bit, and gives the same file", "", float,
                   bf16, f16) {
  rng random(31);
  const scratch dir;
  for (int repeat = 0; repeat < 15; ++repeat) {
    const auto written = random_pool_of<TestType>(random, 1 + random.below(6));
    REQUIRE(save_pool(dir / "p", written));
    const auto read = load_pool<TestType>(dir / "p");
    REQUIRE(read);
    CHECK(read->info() == written.info());
    CHECK(read->shapes() == written.shapes());
    CHECK(read->tile() == written.tile());
    REQUIRE(read->size() == written.size());
    for (std::size_t k = 0; k < read->size(); ++k) {
      CHECK(same(read->extract(k), written.extract(k)));
      CHECK(std::equal(read->index(k).begin(), read->index(k).end(), written.index(k).begin()));
    }
    REQUIRE(save_pool(dir / "q", *read));
    CHECK(get(dir / "p") == get(dir / "q"));
  }
}

TEMPLATE_TEST_CASE("a pool may be stored in another type: rounded once", "", bf16, f16) {
  rng random(33);
  const scratch dir;
  const auto written = random_pool_of<float>(random, 3);
  const adapter::pool_file_options how{.spare = 1, .stored = dtype_of<TestType>};
  REQUIRE(save_pool(dir / "p", written, how));
  const auto read = load_pool<TestType>(dir / "p");
  REQUIRE(read);
  CHECK(read->info() == written.info());
  for (std::size_t k = 0; k < read->size(); ++k) {
    CHECK(same(read->extract(k), adapter::rounded_to<TestType>(written.extract(k))));
  }
  REQUIRE(save_pool(dir / "q", *load_pool<float>(dir / "p"), how));
  CHECK(get(dir / "p") == get(dir / "q"));
  const auto size_of_file = get(dir / "p").size();
  REQUIRE(save_pool(dir / "whole", written, {.spare = 1}));
  CHECK(size_of_file < get(dir / "whole").size());
}

TEST_CASE("a value that the stored type cannot hold is refused, and nothing is written") {
  rng random(34);
  const scratch dir;
  auto large = random_pool_of<float>(random, 2);
  large.a(0).at(0, 1)[0] = 1e30F;
  REQUIRE(save_pool(dir / "p", large, {.stored = dtype::bf16}));
  const std::string before = get(dir / "p");
  const auto refused = save_pool(dir / "p", large, {.stored = dtype::f16});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().text.find(std::string(large.module(0))) != std::string::npos);
  CHECK(get(dir / "p") == before);
}

TEST_CASE("the factors in a pool file lie on cache lines") {
  rng random(32);
  const scratch dir;
  REQUIRE(save_pool(dir / "p", random_pool_of<bf16>(random, 3)));
  const auto file = io::safetensors::open(dir / "p");
  REQUIRE(file);
  // The file is mapped at the start of a page.
  for (const auto& t : file->tensors()) {
    if (contains(t.name, ".lora_")) {
      CHECK(reinterpret_cast<std::uintptr_t>(t.bytes.data()) % alignment == 0);
    }
  }
  REQUIRE(adapter::pool_dtype(*file));
  CHECK(*adapter::pool_dtype(*file) == dtype::bf16);
}

TEST_CASE("a pool without index vectors, centre and notes has a file too") {
  const scratch dir;
  const std::vector<lora_adapter<float>> adapters(2, lora_adapter<float>({{"q", 3, 2, 1, 1.0F}}));
  const auto p = pool<float>::build(adapters, {}, {});
  REQUIRE(save_pool(dir / "p", *p));
  const auto read = load_pool<float>(dir / "p");
  REQUIRE(read);
  CHECK(read->index(1).empty());
  CHECK(read->info() == p->info());
}

TEST_CASE("text that is not UTF-8 is replaced, and the file still fits its checksum") {
  const scratch dir;
  pool_info info;
  info.base_model = "caf\xE9";
  info.notes["\xFF"] = "\xFE";
  const std::vector<lora_adapter<float>> adapters(1, lora_adapter<float>({{"q", 3, 2, 1, 1.0F}}));
  REQUIRE(save_pool(dir / "p", *pool<float>::build(adapters, {}, info)));
  const auto read = load_pool<float>(dir / "p");
  REQUIRE(read);
  CHECK(contains(read->info().base_model, "caf"));
}

TEST_CASE("a pool file that changed by accident is refused") {
  rng random(33);
  const scratch dir;
  REQUIRE(save_pool(dir / "p", random_pool_of<float>(random, 2)));
  const std::string good = get(dir / "p");
  CHECK(load_pool<bf16>(dir / "p").error().text ==
        (dir / "p") + ": factors are F32, asked for BF16");
  std::string bytes = good;
  bytes[bytes.size() - 5] = static_cast<char>(bytes[bytes.size() - 5] ^ 1);
  put(dir / "p", bytes);
  CHECK(contains(load_pool<float>(dir / "p").error().text, ": checksum is "));
  put(dir / "p", good);
  edit(dir / "p", "\"tau\":\"0.07\"", "\"tau\":\"0.70\"");
  CHECK(contains(load_pool<float>(dir / "p").error().text, ": checksum is "));
  put(dir / "p", good.substr(0, good.size() - 1));
  CHECK_FALSE(load_pool<float>(dir / "p"));
  put(dir / "p", good);
  edit(dir / "p", "crayon.pool/2", "crayon.pool/9");
  CHECK(load_pool<float>(dir / "p").error().text ==
        (dir / "p") + ": not a pool: its format is crayon.pool/9, needs crayon.pool/2");
  REQUIRE(io::write_safetensors(dir / "other", {}));
  CHECK(load_pool<float>(dir / "other").error().text ==
        (dir / "other") + ": not a pool: its format is not given, needs crayon.pool/2");
}

TEST_CASE("a pool file that contradicts itself is refused by name and value") {
  const scratch dir;
  const std::string good = dir / "p";
  const std::vector<lora_adapter<float>> adapters(2, lora_adapter<float>({{"q", 3, 2, 1, 1.0F}}));
  REQUIRE(save_pool(good, *pool<float>::build(adapters, {}, {}, 16)));
  using tensors_t = std::vector<io::tensor>;
  using metadata_t = std::map<std::string, std::string>;
  const auto with = [&](const std::string& key, const std::string& value) {
    return error_after(dir, good, [&](tensors_t&, metadata_t& m) { m[key] = value; });
  };
  CHECK(with("sites", "[[\"q\",3,2,20,\"1\"]]") ==
        "tensor q.lora_A has shape [1, 2, 16], a factor of 20 x 2 needs [3, 2, 16]");
  CHECK(
      with("sites", "[[\"q\",4294967296,2,4294967296,\"1\"]]") ==
      "tensor q.lora_A has shape [1, 2, 16], a factor of 4294967296 x 2 needs [536870912, 2, 16]");
  CHECK(with("sites", "[[\"k\",3,2,1,\"1\"]]") == "tensor k.lora_A is missing");
  CHECK(with("sites", "[[\"q\",3,2,0,\"1\"]]") ==
        "tensor q.lora_A has shape [1, 2, 16], a factor of 0 x 2 needs [0, 2, 16]");
  CHECK(with("sites", "[[\"q\",3,2,1,\"nan\"]]") == "metadata \"sites\" is not a list of sites");
  CHECK(with("sites", "[]") == "a pool of 2 adapters with 0 sites");
  CHECK(with("sites", "oops") == "metadata \"sites\" is not a list of sites");
  CHECK(with("names", "[\"a\"]") == "metadata \"names\" is not a list of 2 names");
  CHECK(with("tau", "warm") == "metadata \"tau\" is warm, needs a number");
  CHECK(error_after(dir, good, [](tensors_t& t, metadata_t&) {
          std::erase_if(t, [](const io::tensor& x) { return x.name == "index"; });
        }) == "tensor index is missing");
  CHECK(error_after(dir, good, [](tensors_t& t, metadata_t&) {
          t.push_back({"more", "F32", {0}, {}});
        }) == "has 6 tensors, needs 5");

  std::vector<float> nan(32);
  nan[17] = std::nanf("");
  CHECK(error_after(dir, good, [&](tensors_t& t, metadata_t&) {
          for (auto& x : t) {
            if (x.name == "q.lora_B") x.bytes = std::as_bytes(std::span(nan));
          }
        }) == "tensor q.lora_B of adapter-1 [1] is nan");
}

TEST_CASE("a projection is kept, and its size is that of index and centre") {
  const scratch dir;
  const std::string good = dir / "p";
  const std::vector<lora_adapter<float>> adapters(2, lora_adapter<float>({{"q", 3, 2, 1, 1.0F}}));
  const std::vector<float> index{1, 0, 0.6F, 0.8F};
  pool_info info;
  info.centre = {1, 2, 3};
  info.projection = {0.5F, -1, 2, 4, 5, -0.25F};
  const auto build = [&] { return pool<float>::build(adapters, {index.data(), 2, 2}, info); };
  REQUIRE(save_pool(good, *build()));
  const auto read = load_pool<float>(good);
  REQUIRE(read);
  CHECK(read->info() == build()->info());
  REQUIRE(save_pool(dir / "q", *read));
  CHECK(get(good) == get(dir / "q"));

  using tensors_t = std::vector<io::tensor>;
  const auto with = [&](const std::string& name, std::vector<std::size_t> shape,
                        std::span<const float> values) {
    return error_after(dir, good, [&](tensors_t& tensors, auto&) {
      for (auto& t : tensors) {
        if (t.name != name) continue;
        t.shape = shape;
        t.bytes = std::as_bytes(values);
      }
    });
  };
  const std::vector<float> zeros(9);
  CHECK(with("projection", {3, 2}, std::span(zeros).first(6)) ==
        "tensor projection has shape [3, 2], needs [2, 3]");
  CHECK(with("projection", {2, 2}, std::span(zeros).first(4)) ==
        "index vectors of length 2 and a centre of 3, but a projection of 4 elements");
  CHECK(with("projection", {3, 3}, zeros) == "tensor projection has shape [3, 3], needs [2, 4]");
  CHECK(with("centre", {2}, std::span(zeros).first(2)) ==
        "index vectors of length 2 and a centre of 2, but a projection of 6 elements");
  CHECK(error_after(dir, good, [](tensors_t& t, auto&) {
          std::erase_if(t, [](const io::tensor& x) { return x.name == "projection"; });
        }) == "index vectors of length 2, but a centre of 3");

  info.projection.pop_back();
  CHECK(build().error().text ==
        "index vectors of length 2 and a centre of 3, but a projection of 5 elements");
  info.projection = {1, 0, 0, 1};
  info.centre.clear();
  CHECK(build().error().text ==
        "index vectors of length 2 and a centre of 0, but a projection of 4 elements");
}

TEST_CASE("a tensor without bytes takes no memory, whatever its shape says") {
  const scratch dir;
  const std::string good = dir / "p";
  const std::vector<lora_adapter<float>> adapters(2, lora_adapter<float>({{"q", 3, 2, 1, 1.0F}}));
  REQUIRE(save_pool(good, *pool<float>::build(adapters, {}, {})));
  const auto with = [&](const std::string& name, std::vector<std::size_t> shape) {
    return error_after(dir, good, [&](std::vector<io::tensor>& tensors, auto&) {
      for (auto& t : tensors) {
        if (t.name == name) t.shape = shape;
      }
    });
  };
  CHECK(with("index", {0, 1ULL << 60}) ==
        "tensor index has shape [0, 1152921504606846976], needs [2, 0]");
  CHECK(with("centre", {0, 1ULL << 61}) ==
        "tensor centre has shape [0, 2305843009213693952], needs [1, 0]");
}

TEST_CASE("what could not be read again is not written") {
  rng random(5);
  const scratch dir;
  const auto good = random_pool_of<float>(random, 2);
  const auto refused = [&](auto&& change, std::size_t spare = 0) {
    auto info = good.info();
    change(info);
    auto changed = pool<float>::zeros(good.shapes(), good.size(), good.index(), info, good.tile());
    REQUIRE(changed);
    const auto saved = save_pool(dir / "p", *changed, {.spare = spare});
    REQUIRE(!saved);
    CHECK_FALSE(std::filesystem::exists(dir / "p"));
    return saved.error().text.substr((dir / "p").size());
  };
  CHECK(refused([](auto& i) { i.tau = INFINITY; }) == ": tau is inf");
  CHECK(refused([](auto& i) { i.top_k = 2000000; }) == ": top_k is 2000000, at most 2^20");
  CHECK(refused([](auto&) {}, ~std::size_t{0}) == ": 1 slots for 2 adapters, at most 2^20");
  CHECK(refused([](auto&) {}, 2000000) == ": 2000002 slots for 2 adapters, at most 2^20");
}
