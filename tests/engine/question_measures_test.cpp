// SPDX-License-Identifier: MIT
#include <crayon/engine/question_measures.hpp>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <crayon/core/rng.hpp>
#include <crayon/engine/completion_loss.hpp>
#include <crayon/engine/device_engine.hpp>
#include <crayon/router/confidence.hpp>

#include "../catch.hpp"
#include "tiny.hpp"

namespace {

namespace measures {

using namespace crayon;
using engine::question_measures;
using test::tiny_config;

using device = engine::device_engine<tiny_config>;

device make_device() {
  return *device::make(test::tiny_weights(1, 48), {});
}

/// Three tasks of two domains in a random space of 2 directions.
std::shared_ptr<const match::domain_space> random_space(std::size_t wide = 48) {
  auto s = std::make_shared<match::domain_space>();
  rng random(8);
  s->space.centre.resize(wide);
  s->space.projection.resize(2 * wide);
  for (float& x : s->space.projection) x = random.normal();
  s->means = {1, 0, 0, 1, -1, -1};
  s->domain = {0, 1, 0};
  s->domains = 2;
  return s;
}

const std::vector<engine::sample> mine = {{"2+2=", "4"}, {"5+1=", "6"}};

}  // namespace measures

}  // namespace

TEST_CASE("begin measures of a question what it was asked to, and nothing else", "[engine]") {
  using namespace measures;
  device made = make_device();
  const auto pool = test::tiny_pool(made.base().weights);
  REQUIRE(made.customize(pool, mine));
  const std::string text = made.answer("3+3=")->text;
  auto seen = made.begin("3+3=");
  REQUIRE(seen);
  CHECK(std::isnan(seen->domain_mismatch));
  CHECK(std::isnan(seen->question_surprise));
  const float distance = seen->scope_distance;

  const auto space = random_space();
  REQUIRE(made.also_measure({true, space}));
  CHECK(std::isnan(made.begin("3+3=")->domain_mismatch));  // the samples are not placed yet
  REQUIRE(made.customize(pool, mine));
  seen = made.begin("3+3=");
  REQUIRE(seen);
  CHECK(seen->scope_distance == distance);
  CHECK(made.answer("3+3=")->text == text);

  // The same by hand, without the adapter.
  device plain = make_device();
  model::llama_session<simd::scalar, float> session(plain.base().weights, 48);
  serial_executor threads;
  const auto ids_of = [&](const char* question) {
    return engine::encode_prompt(plain.base().tokens, question);
  };
  const auto ids = ids_of("3+3=");
  const auto loss = engine::completion_loss(session, {ids, 1});
  REQUIRE(loss.tokens == ids.size() - 1);
  CHECK(double{seen->question_surprise} == Approx(loss.mean()).epsilon(1e-5));
  const auto weights = [&](const char* question) {
    return engine::domain_weights(session, ids_of(question), *space, threads);
  };
  std::vector<float> user(2);
  for (const auto& s : mine) {
    const auto w = weights(s.prompt.c_str());
    for (std::size_t d = 0; d < 2; ++d) user[d] += w[d] / 2;
  }
  CHECK(seen->domain_mismatch == Approx(router::domain_mismatch(weights("3+3="), user)));
  CHECK(made.fork().begin("3+3=")->domain_mismatch == seen->domain_mismatch);
  // It stays what it was through the answer.
  CHECK(made.answer("3+3=")->seen.domain_mismatch == seen->domain_mismatch);

  // An empty question is of no domain, and goes to the server.
  const auto empty = made.begin("");
  REQUIRE(empty);
  CHECK(std::isnan(empty->domain_mismatch));
  const router::confidence on_domains{router::signal_kind::domain_mismatch, 100};
  CHECK(on_domains.decide(*empty) == route::server);

  // Nor is a sample without a question of one; such samples alone say nothing of the user.
  std::vector<engine::sample> some = mine;
  some.push_back({"", "7"});
  REQUIRE(made.customize(pool, some));
  CHECK(made.begin("3+3=")->domain_mismatch == seen->domain_mismatch);
  REQUIRE(made.customize(pool, std::vector<engine::sample>{{"", "7"}}));
  CHECK(std::isnan(made.begin("3+3=")->domain_mismatch));

  made.use_base();  // no task, no mismatch
  CHECK(std::isnan(made.begin("3+3=")->domain_mismatch));
  CHECK(made.begin("3+3=")->question_surprise == seen->question_surprise);
}

TEST_CASE("a space of domains for another model is refused", "[engine]") {
  using namespace measures;
  device made = make_device();
  const auto refused = made.also_measure({false, random_space(60)});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().text ==
        "the space of domains is for questions of length 60, this model's have 48");
  // An empty question has no tokens to be surprised at.
  REQUIRE(made.also_measure({true, nullptr}));
  const auto empty = made.begin("");
  REQUIRE(empty);
  CHECK(std::isnan(empty->question_surprise));
  const router::confidence policy{router::signal_kind::question_surprise, 100};
  CHECK(policy.decide(*empty) == route::server);
}
