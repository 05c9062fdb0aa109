// SPDX-License-Identifier: MIT
#include <crayon/adapter/pool_edit.hpp>

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include <crayon/adapter/mapped_pool.hpp>
#include <crayon/adapter/pool_file.hpp>

#include "../catch.hpp"
#include "../io/scratch.hpp"
#include "random_pool.hpp"

using namespace crayon;
using namespace crayon_test;
using adapter::add_adapter;
using adapter::lora_adapter;
using adapter::mapped_pool;
using adapter::pool_entry;
using adapter::remove_adapter;
using adapter::replace_adapter;
using adapter::save_pool;
using adapter::site_shape;

namespace {

/// What a pool file should hold.
template <element E>
struct model_of_pool {
  std::vector<lora_adapter<E>> adapters;
  std::vector<std::string> names;
  std::vector<float> index;  // (N, 3)
};

template <element E>
model_of_pool<E> model_of(const std::vector<lora_adapter<E>>& adapters) {
  return {adapters, info_of_everything(adapters.size()).names, unit_vectors(adapters.size())};
}

template <element E>
void check_content(const std::string& path, const model_of_pool<E>& want) {
  const auto p = mapped_pool<E>::open(path);
  REQUIRE(p);
  auto info = info_of_everything(0);
  info.names = want.names;
  CHECK(p->info() == info);
  REQUIRE(p->size() == want.adapters.size());
  for (std::size_t k = 0; k < p->size(); ++k) {
    CHECK(same(p->extract(k), want.adapters[k]));
    CHECK(std::equal(p->index(k).begin(), p->index(k).end(), want.index.data() + 3 * k));
  }
}

/// The sites in another order.
template <element E>
lora_adapter<E> reversed(const lora_adapter<E>& from) {
  auto shapes = from.shapes();
  std::reverse(shapes.begin(), shapes.end());
  lora_adapter<E> to(shapes);
  for (std::size_t i = 0; i < to.size(); ++i) {
    const auto f = from.factors(from.size() - 1 - i);
    std::copy_n(f.a.data, f.a.size(), to.a(i).data);
    std::copy_n(f.b.data, f.b.size(), to.b(i).data);
  }
  return to;
}

/// A pool of three f32 adapters of two sites, with two spare slots.
struct edited_file {
  scratch dir;
  std::string path = dir / "p";
  rng random{81};
  std::vector<site_shape> shapes{{"q", 5, 40, 2, 0.5F}, {"v", 3, 9, 3, 0.25F}};
  std::vector<lora_adapter<float>> adapters;
  std::vector<float> unit{0, 0.6F, 0.8F};

  edited_file() {
    for (int k = 0; k < 4; ++k) adapters.push_back(random_adapter<float>(shapes, random));
    REQUIRE(save_pool(path, pool_of(first_three(), 16), {2, {}}));
  }
  std::vector<lora_adapter<float>> first_three() const {
    return {adapters.begin(), adapters.begin() + 3};
  }
  std::string checksum() const { return adapter::pool_contents::open(path)->checksum(); }
};

}  // namespace

TEMPLATE_TEST_CASE("adapters come, change and go, and the others keep every bit", "", float, bf16,
                   f16) {
  rng random(82);
  const scratch dir;
  const std::string path = dir / "p";
  std::size_t in_place = 0, anew = 0;
  for (int repeat = 0; repeat < 6; ++repeat) {
    const auto shapes = shapes_of_all_kinds(random);
    std::vector<lora_adapter<TestType>> adapters;
    for (std::size_t k = 1 + random.below(3); k > 0; --k) {
      adapters.push_back(random_adapter<TestType>(shapes, random));
    }
    const std::size_t tile = alignment / sizeof(TestType) * (1 + random.below(3));
    auto want = model_of(adapters);
    REQUIRE(save_pool(path, pool_of(adapters, tile), {random.below(3), {}}));
    for (int edit = 0; edit < 12; ++edit) {
      const std::string before = get(path);
      const auto old = mapped_pool<TestType>::open(path);
      REQUIRE(old);
      const std::size_t n = want.names.size(), slot = random.below(n);
      const auto made = random_adapter<TestType>(shapes, random);
      const std::vector<float> unit{0, 0.6F, edit % 2 == 0 ? 0.8F : -0.8F};
      const adapter::pool_edit_options options{random.below(2), edit % 4 == 0};
      const auto kind = random.below(3);
      if (kind == 0) {
        const std::string name = "new " + std::to_string(repeat) + "." + std::to_string(edit);
        REQUIRE(add_adapter<TestType>(path, {reversed(made), name, unit, "00ff"}, options));
        want.adapters.push_back(made);
        want.names.push_back(name);
        want.index.insert(want.index.end(), unit.begin(), unit.end());
      } else if (kind == 1) {
        const bool keep_index = random.below(2) == 0;
        REQUIRE(replace_adapter<TestType>(
            path,
            {made, want.names[slot], keep_index ? std::span<const float>() : std::span(unit), ""},
            options));
        want.adapters[slot] = made;
        if (!keep_index) std::copy(unit.begin(), unit.end(), want.index.data() + 3 * slot);
      } else if (n > 1) {
        REQUIRE(remove_adapter(path, want.names[slot], options));
        want.adapters.erase(want.adapters.begin() + static_cast<std::ptrdiff_t>(slot));
        want.names.erase(want.names.begin() + static_cast<std::ptrdiff_t>(slot));
        want.index.erase(want.index.begin() + static_cast<std::ptrdiff_t>(3 * slot),
                         want.index.begin() + static_cast<std::ptrdiff_t>(3 * slot + 3));
      } else {
        continue;
      }
      check_content(path, want);
      CHECK(dir.names() == std::vector<std::string>{"p"});
      // Who has the old file open keeps it.
      REQUIRE(old->check());
      CHECK(old->size() == n);

      const auto now = mapped_pool<TestType>::open(path);
      const bool free_slot = kind == 1 || (kind == 0 && n < old->slots());
      if (free_slot && now->slots() == old->slots()) ++in_place;
      if (!free_slot) {
        ++anew;
        CHECK(now->slots() == now->size() + options.spare);
        // A file written anew is the file of a new pool.
        auto info = info_of_everything(0);
        info.names = want.names;
        auto fresh = adapter::pool<TestType>::build(
            want.adapters, {want.index.data(), want.names.size(), 3}, info, tile);
        REQUIRE(save_pool(dir / "q", *fresh, {options.spare, {}}));
        CHECK(get(path) == get(dir / "q"));
        std::remove((dir / "q").c_str());
      }
    }
  }
  CHECK(in_place > 5);
  CHECK(anew > 5);
}

TEST_CASE("an edit that finds a slot changes the bytes of that slot and the tail only") {
  edited_file f;
  const std::string before = get(f.path);
  const auto old = mapped_pool<float>::open(f.path);
  REQUIRE(old);
  REQUIRE(old->slots() == 5);
  REQUIRE(add_adapter<float>(f.path, {f.adapters[3], "fourth", f.unit}));
  const std::string after = get(f.path);
  const auto now = adapter::pool_contents::open(f.path);
  REQUIRE(now);
  CHECK(now->slots() == 5);
  for (std::size_t factor = 0; factor < 4; ++factor) {
    const auto first = static_cast<std::size_t>(now->factor(factor).data() - now->bytes().data());
    for (std::size_t t = 0; t * 5 * 64 < now->factor(factor).size(); ++t) {
      for (std::size_t slot = 0; slot < 5; ++slot) {
        const std::size_t at = first + (t * 5 + slot) * 64;
        const bool kept = before.compare(at, 64, after, at, 64) == 0;
        CHECK(kept == (slot != 3));
      }
    }
  }
}

TEST_CASE("an edit that is refused leaves the file as it was") {
  edited_file f;
  const std::string before = get(f.path);
  const auto check = [&](const result<void>& done, errc code, const std::string& text) {
    REQUIRE(!done);
    CHECK(done.error().code == code);
    CHECK(done.error().text == f.path + ": " + text);
    CHECK(get(f.path) == before);
    CHECK(f.dir.names() == std::vector<std::string>{"p"});
  };
  const auto& good = f.adapters[3];
  const auto add = [&](const lora_adapter<float>& a, const std::string& name,
                       std::span<const float> index, const std::string& hash = "") {
    return add_adapter<float>(f.path, {a, name, index, hash});
  };
  check(add(good, "name 1", f.unit), errc::bad_value, "has an adapter name 1 already");
  check(add(good, "x", {}), errc::bad_shape,
        "the index vector of x has length 0, the pool's have 3");
  check(add(good, "x", std::vector<float>{1, 1, 1}), errc::bad_value,
        "index vector of x has length 1.732051, needs 1");
  check(add(good, "x", f.unit, "11ee"), errc::mismatch,
        "x was made for the base model 11ee, the pool for 00ff");
  check(add(lora_adapter<float>({f.shapes[0]}), "x", f.unit), errc::bad_shape,
        "x has no module v, which the others have");
  check(add(lora_adapter<float>({f.shapes[0], {"v", 3, 9, 3, 0.5F}}), "x", f.unit), errc::bad_shape,
        "x has v (3, 9) rank 3 scale 0.500000, the others have v (3, 9) rank 3 scale 0.250000");
  check(add_adapter<bf16>(f.path, {lora_adapter<bf16>(f.shapes), "x", f.unit}), errc::mismatch,
        "factors are F32, those of x are BF16");
  auto nan = good;
  nan.b(1).data[4] = NAN;
  check(add(nan, "x", f.unit), errc::bad_value, "tensor v.lora_B of x [4] is nan");
  check(replace_adapter<float>(f.path, {good, "nobody"}), errc::not_found,
        "no adapter nobody in this pool of 3");
  check(replace_adapter<float>(f.path, {nan, "name 0"}), errc::bad_value,
        "tensor v.lora_B of name 0 [4] is nan");
  check(remove_adapter(f.path, "nobody"), errc::not_found, "no adapter nobody in this pool of 3");
  const adapter::pool_cores wrong(std::vector<std::size_t>{6, 8});
  check(adapter::store_cores(f.path, wrong.sites(), f.checksum()), errc::bad_shape,
        "R factor (8, 8) at v, the ranks sum to 9");
  CHECK(remove_adapter(f.dir / "none", "x").error().code == errc::not_found);

  REQUIRE(remove_adapter(f.path, "name 0"));
  REQUIRE(remove_adapter(f.path, "name 1"));
  CHECK(remove_adapter(f.path, "name 2").error().text ==
        f.path + ": name 2 is the pool's only adapter");
}

TEST_CASE("a disk that fills up in the middle of an edit leaves the old pool") {
  edited_file f;
  const std::string before = get(f.path);
  ::rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  std::size_t failures = 0;
  for (std::size_t room = 0; room < before.size(); room += 97) {
    const ::rlimit small{room, limit.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    const auto added = add_adapter<float>(f.path, {f.adapters[3], "fourth", f.unit});
    const auto removed = remove_adapter(f.path, "name 1");
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
    INFO("room for " << room << " bytes");
    if (removed) break;  // what is left needs less room
    REQUIRE((get(f.path) == before));
    REQUIRE(f.dir.names() == std::vector<std::string>{"p"});
    REQUIRE(!added);
    CHECK(contains(added.error().text, "cannot write " + f.path));
    ++failures;
  }
  std::signal(SIGXFSZ, old_handler);
  CHECK(failures > 10);
}

TEST_CASE("an altered pool is not passed on under a new checksum") {
  edited_file f;
  std::string bad = get(f.path);
  const auto opened = adapter::pool_contents::open(f.path);
  const auto at = static_cast<std::size_t>(opened->at(2, 0, 1) - opened->bytes().data());
  bad[at] = static_cast<char>(bad[at] ^ 1);
  put(f.path, bad);
  // Every tile is written anew: the old ones are compared first.
  const auto removed = remove_adapter(f.path, "name 0");
  REQUIRE(!removed);
  CHECK(contains(removed.error().text, "checksum of v.lora_A of name 1 is "));
  CHECK(get(f.path) == bad);
  // The others' tiles stay as they are, and so do their checksums.
  REQUIRE(add_adapter<float>(f.path, {f.adapters[3], "fourth", f.unit}));
  const auto still = mapped_pool<float>::open(f.path);
  REQUIRE(!still);
  CHECK(contains(still.error().text, "checksum of v.lora_A of name 1 is "));
}

TEST_CASE("R factors are stored beside a pool, and leave with any edit") {
  edited_file f;
  adapter::pool_cores cores(std::vector<std::size_t>{6, 9});
  for (std::size_t i = 0; i < 2; ++i) {
    for (const auto m : {cores.r_a(i), cores.r_b(i)}) {
      for (std::size_t j = 0; j < m.size(); ++j) m.data[j] = f.random.normal();
    }
  }
  for (int edit = 0; edit < 4; ++edit) {
    REQUIRE(adapter::store_cores(f.path, cores.sites(), f.checksum()));
    {
      const auto with = mapped_pool<float>::open(f.path);
      REQUIRE(with);
      REQUIRE(with->cores().size() == 2);
      const auto got = with->cores()[1].r_b, want = cores.sites()[1].r_b;
      CHECK(std::memcmp(got.data, want.data, want.size() * sizeof(float)) == 0);
      check_content(f.path, model_of(f.first_three()));
    }
    if (edit == 0) REQUIRE(adapter::store_cores(f.path, {}, ""));
    if (edit == 1) REQUIRE(replace_adapter<float>(f.path, {f.adapters[1], "name 1"}));
    if (edit == 2) {
      REQUIRE(add_adapter<float>(f.path, {f.adapters[3], "fourth", f.unit}));
      CHECK(mapped_pool<float>::open(f.path)->cores().empty());
      REQUIRE(remove_adapter(f.path, "fourth"));
    }
    if (edit < 3) CHECK(mapped_pool<float>::open(f.path)->cores().empty());
  }
}

TEST_CASE("R factors of adapters that have changed meanwhile are not stored") {
  edited_file f;
  const adapter::pool_cores cores(std::vector<std::size_t>{6, 9});
  const std::string computed_from = f.checksum();
  REQUIRE(replace_adapter<float>(f.path, {f.adapters[3], "name 1"}));
  const std::string now = f.checksum(), bytes = get(f.path);
  REQUIRE(now != computed_from);
  const auto stored = adapter::store_cores(f.path, cores.sites(), computed_from);
  REQUIRE(!stored);
  CHECK(stored.error().code == errc::mismatch);
  CHECK(stored.error().text ==
        f.path + ": has the checksum " + now + ", its R factors are of " + computed_from);
  CHECK(get(f.path) == bytes);
}

TEST_CASE("a pool under another index keeps its adapters' bytes, spare slots and R factors") {
  edited_file f;
  REQUIRE(remove_adapter(f.path, "name 2", {2}));
  adapter::pool_cores cores(std::vector<std::size_t>{4, 6});
  for (std::size_t i = 0; i < 2; ++i) {
    for (const auto m : {cores.r_a(i), cores.r_b(i)}) {
      for (std::size_t j = 0; j < m.size(); ++j) m.data[j] = f.random.normal();
    }
  }
  REQUIRE(adapter::store_cores(f.path, cores.sites(), f.checksum()));
  const auto from = adapter::pool_contents::open(f.path);
  REQUIRE(from);
  auto info = from->info();
  info.tau = 0.25F;
  info.centre.clear();
  const std::vector<float> index{0.6F, 0.8F, -1, 0};
  const std::string other = f.path + ".other";
  REQUIRE(adapter::save_reindexed(other, *from, {index.data(), 2, 2}, info));
  const auto made = adapter::pool_contents::open(other);
  REQUIRE(made);
  REQUIRE(made->check());
  CHECK(made->slots() == 4);
  CHECK(made->type() == from->type());
  CHECK(made->info() == info);
  CHECK(made->index().row(1)[0] == -1);
  const auto same_bytes = [](auto x, auto y) {
    return std::equal(x.begin(), x.end(), y.begin(), y.end());
  };
  for (std::size_t k = 0; k < 4; ++k) {
    CHECK(same_bytes(made->factor(k), from->factor(k)));
    CHECK(same_bytes(made->cores()[k], from->cores()[k]));
  }
  info.names.pop_back();
  CHECK_FALSE(adapter::save_reindexed(other, *from, {index.data(), 2, 2}, info));
}

TEST_CASE("an edit keeps the permissions of the file") {
  edited_file f;
  for (const ::mode_t mode : {0600U, 0664U, 0444U}) {
    REQUIRE(::chmod(f.path.c_str(), mode) == 0);
    REQUIRE(replace_adapter<float>(f.path, {f.adapters[mode % 3], "name 1"}));
    struct stat status {};
    REQUIRE(::stat(f.path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777U) == mode);
  }
}

TEST_CASE("a pool of format 1 becomes one of format 2 with its first edit") {
  const scratch dir;
  const std::string path = dir / "p";
  put(path, get(CRAYON_SOURCE_DIR "/examples/crayon_cli/demo/assets/pool.safetensors"));
  const auto before = mapped_pool<bf16>::open(path);
  REQUIRE(before);
  const std::string last = before->info().names.back();
  REQUIRE(replace_adapter<bf16>(path, {before->extract(0), last}));
  const auto after = mapped_pool<bf16>::open(path);
  REQUIRE(after);
  CHECK(!adapter::pool_contents::open(path)->sums(0).empty());
  REQUIRE(after->size() == before->size());
  CHECK(after->info() == before->info());
  for (std::size_t k = 0; k < after->size(); ++k) {
    CHECK(same(after->extract(k), before->extract(k + 1 == after->size() ? 0 : k)));
  }
}
