// SPDX-License-Identifier: MIT
#include <crayon/model/hf_llama.hpp>

#include <filesystem>

#include <crayon/model/llama.hpp>

#include "../io/scratch.hpp"
#include "fixture.hpp"

using namespace crayon;
using crayon_test::scratch;

namespace {

/// The config.json of the fixture with one text replaced by another.
std::string changed(const std::string& from, const std::string& to) {
  std::string text = text_of(fixture("tiny/config.json"));
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("Hugging Face directories of transformers are read", "[model]") {
  const auto tiny = model::read_hf_llama<float>(fixture("tiny"));
  REQUIRE(tiny);
  CHECK(tiny->config() == model::llama_config{.dim = 64,
                                              .hidden = 96,
                                              .layers = 2,
                                              .heads = 4,
                                              .kv_heads = 2,
                                              .head_dim = 16,
                                              .vocab = 96,
                                              .context = 64,
                                              .tied = false});
  const auto wide = model::read_hf_llama<float>(fixture("wide"));  // in shards
  REQUIRE(wide);
  CHECK(wide->config().q_dim() == 96);
  CHECK(wide->config().rope_theta == 500000.0F);
  CHECK(wide->config().tied);
}

TEST_CASE("scaled rope gives the logits of transformers", "[model]") {
  const auto file = io::safetensors::open(fixture("rope_scaling/expected.safetensors"));
  REQUIRE(file);
  const auto bytes = file->find("ids")->bytes;
  std::vector<std::int64_t> ids(bytes.size() / sizeof(std::int64_t));
  std::memcpy(ids.data(), bytes.data(), bytes.size());
  const scratch dir;
  std::filesystem::copy(fixture("tiny/model.safetensors"), dir / "model.safetensors");
  for (const std::string kind : {"llama3", "linear"}) {
    INFO(kind);
    write(dir / "config.json", text_of(fixture("rope_scaling/" + kind + ".json")));
    const auto weights = model::read_hf_llama<float>(dir.path());
    REQUIRE(weights);
    std::vector<float> want(ids.size() * weights->config().vocab), logits;
    REQUIRE(io::read_matrix(*file, kind + ".logits",
                            matrix_view<float>(want.data(), ids.size(), weights->config().vocab)));
    model::llama_session<simd::highway_dynamic, float> s(*weights);
    for (const std::int64_t id : ids) {
      const auto row = s.forward(static_cast<std::int32_t>(id));
      logits.insert(logits.end(), row.begin(), row.end());
    }
    CHECK(relative_distance(logits, want) < 1e-4);
  }
}

TEMPLATE_TEST_CASE("Hugging Face directories come back as they were written", "[model]", float,
                   bf16, f16) {
  const scratch dir;
  auto config = small_config();
  config.rope_theta = 12345.5F;
  config.norm_epsilon = 3e-6F;
  config.head_dim = 10;
  config.scaling = {8.0F, 1.5F, 3.0F, 48};
  for (const bool tied : {true, false}) {
    config.tied = tied;
    const auto weights = random_weights<TestType>(config);
    REQUIRE(model::write_hf_llama(dir / "m", weights));  // the second time over the first
    const auto again = model::read_hf_llama<TestType>(dir / "m");
    REQUIRE(again);
    CHECK(again->config() == config);
    CHECK(again->hash() == weights.hash());

    REQUIRE(model::write_hf_llama<float>(dir / "f32", weights));
    const auto widened = model::read_hf_llama<TestType>(dir / "f32");
    REQUIRE(widened);
    CHECK(widened->hash() == weights.hash());
  }
}

TEST_CASE("a head of its own in a model that says it has none is refused", "[model]") {
  const scratch dir;
  auto config = small_config();
  config.tied = false;
  REQUIRE(model::write_hf_llama(dir / "m", random_weights<float>(config)));
  std::string text = text_of(dir / "m/config.json");
  const std::string from = "\"tie_word_embeddings\": false";
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  write(dir / "m/config.json", text.replace(at, from.size(), "\"tie_word_embeddings\": true"));
  const auto weights = model::read_hf_llama<float>(dir / "m");
  REQUIRE_FALSE(weights);
  CHECK(weights.error().text ==
        dir / "m: tensor lm_head.weight differs from model.embed_tokens.weight, config.json says "
              "tie_word_embeddings is true");
}

TEST_CASE("a config.json that means another computation is refused", "[model]") {
  const scratch dir;
  const auto refused = [&](const std::string& config) {
    write(dir / "config.json", config);
    const auto weights = model::read_hf_llama<float>(dir.path());
    REQUIRE_FALSE(weights);
    const std::string& text = weights.error().text;
    const std::string prefix = (dir / "config.json") + ": ";
    REQUIRE(text.starts_with(prefix));
    return text.substr(prefix.size());
  };
  CHECK(refused("{") == "not a JSON object");
  CHECK(refused("[]") == "not a JSON object");
  CHECK(refused("{}") == "model_type is missing");
  CHECK(refused(changed("\"model_type\": \"llama\"", "\"model_type\": \"qwen2\"")) ==
        "model_type = \"qwen2\" is not supported, only \"llama\"");
  CHECK(refused(changed("\"silu\"", "\"gelu\"")) ==
        "hidden_act = \"gelu\" is not supported, only \"silu\"");
  CHECK(refused(changed("\"attention_bias\": false", "\"attention_bias\": true")) ==
        "attention_bias = true is not supported, only false");
  CHECK(refused(changed("\"rope_type\": \"default\"", "\"rope_type\": \"llama3\"")) ==
        "rope_parameters.factor is missing");
  CHECK(refused(changed("\"rope_parameters\"",
                        "\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2.0},\n"
                        "\"rope_parameters\"")) ==
        R"(rope_scaling.type = "yarn" is not supported, only "default", "linear" and "llama3")");
  CHECK(refused(changed("\"hidden_size\": 64", "\"hidden_size\": -64")) ==
        "hidden_size = -64 is not a value it can have");
  CHECK(refused(changed("\"hidden_size\": 64", "\"hidden_size\": \"64\"")) ==
        "hidden_size = \"64\" is not a value it can have");
  CHECK(refused(changed("\"hidden_size\": 64,", "")) == "hidden_size is missing");
  CHECK(refused(changed("\"head_dim\": 16", "\"head_dim\": 15")) == "head_dim = 15 is not even");
  CHECK(refused(changed("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3")) ==
        "num_key_value_heads = 3 does not divide num_attention_heads = 4");
  CHECK(refused(changed("1e-05", "0")) == "rms_norm_eps = 0 is not a value it can have");
}

TEST_CASE("tensors that do not fit config.json are refused by name", "[model]") {
  const scratch dir;
  const auto refused = [&](const std::string& config) {
    write(dir / "config.json", config);
    const auto weights = model::read_hf_llama<float>(dir.path());
    REQUIRE_FALSE(weights);
    return weights.error().text;
  };
  const std::string file = dir / "model.safetensors";
  CHECK(refused(text_of(fixture("tiny/config.json"))) ==
        "cannot open " + file + ": No such file or directory");
  std::filesystem::copy(fixture("tiny/model.safetensors"), file);
  CHECK(refused(changed("\"intermediate_size\": 96", "\"intermediate_size\": 100")) ==
        file +
            ": tensor model.layers.0.mlp.gate_proj.weight has shape [96, 64], the model's "
            "config.json needs [100, 64]");
  CHECK(refused(changed("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3")) ==
        file + ": tensor model.layers.2.input_layernorm.weight is missing");
  CHECK(refused(changed("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"))
            .starts_with(dir.path() + ": tensor model.layers.1."));
  CHECK(refused(changed("\"vocab_size\": 96", "\"vocab_size\": 16777216")) ==
        file +
            ": tensor model.embed_tokens.weight has shape [96, 64], the model's config.json "
            "needs [16777216, 64]");

  write(dir / "config.json", text_of(fixture("tiny/config.json")));
  std::string bytes = text_of(file);

  // A broken file is the error, even beside an index of whole ones.
  write(dir / "model-00001-of-00001.safetensors", bytes);
  write(dir / "model.safetensors.index.json",
        R"({"weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}})");
  write(file, bytes.substr(0, bytes.size() - 4));
  CHECK(refused(text_of(fixture("tiny/config.json"))).starts_with(file + ": tensor "));
  const float nan = std::nanf("");
  std::memcpy(bytes.data() + bytes.size() - 4, &nan, 4);
  write(file, bytes);
  const auto weights = model::read_hf_llama<float>(dir.path());
  REQUIRE_FALSE(weights);
  CHECK(weights.error().text.ends_with("is nan"));
}
