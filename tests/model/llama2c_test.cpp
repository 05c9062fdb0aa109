// SPDX-License-Identifier: MIT
#include <crayon/model/llama2c.hpp>

#include <crayon/model/generate.hpp>
#include <crayon/tokenizer/llama2c_tokenizer.hpp>

#include "../io/scratch.hpp"
#include "fixture.hpp"

using namespace crayon;
using crayon_test::scratch;

namespace {

model::llama_config llama2c_config(bool tied) {
  auto config = small_config();
  config.tied = tied;
  return config;
}

std::string header(std::initializer_list<std::int32_t> numbers) {
  std::string bytes;
  for (const std::int32_t n : numbers) bytes.append(reinterpret_cast<const char*>(&n), 4);
  return bytes;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("generates what llama2.c's run.c generates", "[model]", every_backend) {
  struct story {
    const char *model, *ids;
  };
  for (const auto& [file, ids] : {story{"models/stories260K/stories260K.bin", "stories260K.txt"},
                                  story{"models/llama2xs-281K/model.bin", "llama2xs.txt"}}) {
    const std::string path = shared_data(file);
    const std::string pieces = shared_data("models/stories260K/tok512.bin");
    if (path.empty() || pieces.empty()) return;
    const auto weights = model::read_llama2c<float>(path);
    REQUIRE(weights);
    const auto t = tokenizer::llama2c_tokenizer::load(pieces, weights->config().vocab);
    REQUIRE(t);
    std::vector<std::int32_t> prompt = t->encode("Once upon a time");
    std::vector<std::int32_t> all = prompt;
    prompt.insert(prompt.begin(), t->bos());
    const auto want = read_ids(fixture(ids));
    REQUIRE(want.size() >= 200);
    model::llama_session<TestType, float> s(*weights);
    model::greedy best;
    REQUIRE(model::generate(s, prompt, best, [&](std::int32_t id) { all.push_back(id); },
                            {.max_tokens = want.size() - all.size()}));
    CHECK(all == want);
  }
}

TEST_CASE("llama2.c checkpoints come back as they were written", "[model]") {
  const scratch dir;
  for (const bool tied : {true, false}) {
    const auto weights = random_weights<float>(llama2c_config(tied));
    REQUIRE(model::write_llama2c(dir / "m.bin", weights));
    const auto again = model::read_llama2c<float>(dir / "m.bin");
    REQUIRE(again);
    CHECK(again->config() == weights.config());
    CHECK(again->hash() == weights.hash());

    // The same weights in the order and with the header of version 1.
    const std::string v0 = text_of(dir / "m.bin");
    const auto& c = weights.config();
    std::string v1 = "24ka" + header({1}) + v0.substr(0, 28);
    const auto vocab = static_cast<std::int32_t>(c.vocab);
    std::memcpy(v1.data() + 28, &vocab, 4);
    v1 += tied ? '\1' : '\0';
    v1.resize(256);
    std::size_t at = 28;
    const auto take = [&](std::size_t floats) {
      at += 4 * floats;
      return v0.substr(at - 4 * floats, 4 * floats);
    };
    const std::string embedding = take(c.vocab * c.dim), norms = take(c.layers * c.dim);
    const std::string attention = take(c.layers * c.dim * 2 * (c.q_dim() + c.kv_dim()));
    const std::string mlp_norms = take(c.layers * c.dim),
                      mlp = take(3 * c.layers * c.dim * c.hidden);
    const std::string final_norm = take(c.dim);
    take(c.context * c.head_dim);
    v1 += norms + mlp_norms + final_norm + embedding + attention + mlp;
    if (!tied) v1 += take(c.vocab * c.dim);
    CHECK(at == v0.size());
    write(dir / "v1.bin", v1);
    const auto other = model::read_llama2c<float>(dir / "v1.bin");
    REQUIRE(other);
    CHECK(other->config() == weights.config());
    CHECK(other->hash() == weights.hash());
  }
}

TEST_CASE("rows for rope move from pairs to halves and back", "[model]") {
  std::vector<float> rows{0, 1, 2, 3, 10, 11, 12, 13};  // two heads of 4, one column
  model::reorder_rope_rows(matrix_view<float>(rows.data(), 8, 1), 4, true);
  CHECK(rows == std::vector<float>{0, 2, 1, 3, 10, 12, 11, 13});
  model::reorder_rope_rows(matrix_view<float>(rows.data(), 8, 1), 4, false);
  CHECK(rows == std::vector<float>{0, 1, 2, 3, 10, 11, 12, 13});
}

TEST_CASE("llama2.c checkpoints that make no sense are refused", "[model]") {
  const scratch dir;
  const std::string path = dir / "m.bin";
  const auto refused = [&](const std::string& bytes) {
    write(path, bytes);
    const auto weights = model::read_llama2c<bf16>(path);
    REQUIRE_FALSE(weights);
    const std::string text = weights.error().text;
    REQUIRE(text.starts_with(path + ": "));
    return text.substr(path.size() + 2);
  };
  const std::string no = "not a llama2.c checkpoint: ";
  CHECK(refused("") == no + "its header has 28 bytes, the file 0");
  CHECK(refused("24ka" + header({1})) == no + "its header has 28 bytes, the file 8");
  CHECK(refused("24ka" + std::string(40, '\0')) == no + "its header has 256 bytes, the file 44");
  CHECK(refused("24ka" + header({2}) + std::string(256, '\0')) ==
        "llama2.c version 2, can read 0 and 1");
  CHECK(refused("GGUF" + std::string(60, 'x')) == no + "dim = 1179993927, expected 1 ... 65536");
  CHECK(refused(header({32, 48, 2, 4, 2, 0, 40})) ==
        no + "vocab_size = 0, expected 1 ... 16777216");
  CHECK(refused(header({32, 48, 2, 4, 2, -2147483647 - 1, 40})) ==
        no + "vocab_size = -2147483648, expected 1 ... 16777216");
  CHECK(refused(header({32, 48, 2, 5, 5, 50, 40})) ==
        no + "dim = 32 does not give 5 heads of an even size");
  CHECK(refused(header({32, 48, 2, 4, 3, 50, 40})) ==
        no + "n_heads = 4 is no multiple of n_kv_heads = 3");

  const auto weights = random_weights<float>(llama2c_config(true));
  REQUIRE(model::write_llama2c(path, weights));
  const std::string good = text_of(path);
  const auto size = std::to_string(good.size());
  const std::string needs = "the header (dim 32, 2 layers, vocabulary 50) needs a file of " + size +
                            " bytes, this one has ";
  CHECK(refused(good.substr(0, good.size() - 1)) == needs + std::to_string(good.size() - 1));
  CHECK(refused(good + "x") == needs + std::to_string(good.size() + 1));
  std::string nan = good;
  const float value = std::nanf("");
  std::memcpy(nan.data() + 28 + 4 * (32 * 7 + 5), &value, 4);
  CHECK(refused(nan) == "tensor model.embed_tokens.weight [7, 5] is nan");

  const auto missing = model::read_llama2c<float>(dir / "none.bin");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == errc::not_found);
  CHECK(missing.error().text ==
        "cannot open " + (dir / "none.bin") + ": No such file or directory");
}

TEST_CASE("a model that llama2.c cannot describe is not written", "[model]") {
  const scratch dir;
  auto config = llama2c_config(true);
  config.rope_theta = 500000;
  const auto written = model::write_llama2c(dir / "m.bin", random_weights<float>(config));
  REQUIRE_FALSE(written);
  CHECK(written.error().code == errc::unsupported);
  CHECK(dir.names().empty());
}
