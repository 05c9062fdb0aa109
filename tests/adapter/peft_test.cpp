// SPDX-License-Identifier: MIT
#include <crayon/adapter/peft.hpp>

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "../catch.hpp"
#include "../io/scratch.hpp"
#include "random_adapter.hpp"

using namespace crayon;
using namespace crayon_test;
using adapter::load_peft;
using adapter::lora_adapter;
using adapter::peft_info;
using adapter::save_peft;
using adapter::site_kind;

namespace {

const std::string fixtures = CRAYON_FIXTURES "/";

/// dW of every site against the file in which PEFT's own is stored.
template <element E>
void check_deltas(const lora_adapter<E>& adapter, const std::string& name, double tolerance) {
  const auto expected = io::safetensors::open(fixtures + name + "-delta.safetensors");
  REQUIRE(expected);
  REQUIRE(adapter.size() == expected->tensors().size());
  for (std::size_t i = 0; i < adapter.size(); ++i) {
    INFO(adapter.shape(i).module);
    const auto f = adapter.factors(i);
    std::vector<float> theirs(f.b.rows * f.a.cols);
    REQUIRE(io::read_matrix(*expected, adapter.module(i),
                            matrix_view<float>(theirs.data(), f.b.rows, f.a.cols)));
    const std::vector<double> wide(theirs.begin(), theirs.end());
    CHECK(distance(delta(f), wide) <= tolerance * norm(wide));
  }
}

/// Every tensor of one directory is in the other with the same type, shape and bytes.
void check_same_tensors(const std::string& one, const std::string& other) {
  const auto x = io::safetensors::open(one + "/adapter_model.safetensors");
  const auto y = io::safetensors::open(other + "/adapter_model.safetensors");
  REQUIRE(x);
  REQUIRE(y);
  CHECK(x->tensors().size() == y->tensors().size());
  for (const auto& t : x->tensors()) {
    INFO(t.name);
    const auto* w = y->find(t.name);
    REQUIRE(w != nullptr);
    CHECK(w->dtype == t.dtype);
    CHECK(w->shape == t.shape);
    CHECK(std::equal(w->bytes.begin(), w->bytes.end(), t.bytes.begin(), t.bytes.end()));
  }
}

constexpr const char* plain = R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4)";

/// One directory with the factors of module "q": A (2, 3), B (4, 2), unless told otherwise.
void put_adapter(const std::string& path, const std::string& config,
                 std::vector<io::tensor> tensors) {
  std::filesystem::create_directory(path);
  put(path + "/adapter_config.json", config);
  REQUIRE(io::write_safetensors(path + "/adapter_model.safetensors", std::move(tensors)));
}

const std::vector<float> numbers{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

io::tensor tensor(std::string name, std::vector<std::size_t> shape) {
  std::size_t count = 1;
  for (const auto n : shape) count *= n;
  return {std::move(name), "F32", std::move(shape),
          std::as_bytes(std::span(numbers.data(), count))};
}
io::tensor a(std::string name = "base_model.model.q.lora_A.weight") {
  return tensor(std::move(name), {2, 3});
}
io::tensor b(std::string name = "base_model.model.q.lora_B.weight") {
  return tensor(std::move(name), {4, 2});
}

std::string refusal(const std::string& config, std::vector<io::tensor> tensors) {
  const scratch dir;
  put_adapter(dir / "x", config, std::move(tensors));
  const auto loaded = load_peft<float>(dir / "x");
  REQUIRE(!loaded);
  const auto& text = loaded.error().text;
  CHECK(text.rfind(dir / "x/", 0) == 0);  // names the directory
  return text.substr((dir / "x/").size());
}

}  // namespace

TEST_CASE("adapters that PEFT saved give PEFT's own weight change") {
  const auto patterns = load_peft<float>(fixtures + "llama-patterns");
  REQUIRE(patterns);
  check_deltas(patterns->adapter, "llama-patterns", 1e-6);
  CHECK(patterns->info.target_modules.size() == 3);
  CHECK(patterns->adapter.module(0) == "model.layers.0.mlp.down_proj");
  CHECK(patterns->adapter.shape(0).rank == 4);

  const auto rslora = load_peft<bf16>(fixtures + "llama-rslora-bf16");
  REQUIRE(rslora);
  CHECK(rslora->info.scaling.rslora);
  check_deltas(rslora->adapter, "llama-rslora-bf16", 0x1p-8);  // PEFT rounds dW to bf16

  const auto conv = load_peft<float>(fixtures + "gpt2-conv1d");
  REQUIRE(conv);
  CHECK(conv->info.fan_in_fan_out);
  check_deltas(conv->adapter, "gpt2-conv1d", 1e-6);
}

TEST_CASE("lora_bias is a site beside its layer, with the layer's scale") {
  const auto loaded = load_peft<float>(fixtures + "llama-bias");
  REQUIRE(loaded);
  check_deltas(loaded->adapter, "llama-bias", 1e-6);
  CHECK(loaded->info.lora_bias);
  REQUIRE(loaded->adapter.size() == 8);
  const auto& layer = loaded->adapter.shape(0);
  const auto& bias = loaded->adapter.shape(1);
  CHECK(layer.module == "model.layers.0.mlp.up_proj");
  CHECK(layer.kind == site_kind::linear);
  CHECK(bias ==
        adapter::site_shape{layer.module + ".bias", 24, 1, 1, layer.scale, site_kind::bias});
}

TEST_CASE("embedding factors load, and so does the base embedding that PEFT saves with them") {
  const auto loaded = load_peft<float>(fixtures + "llama-embedding");
  REQUIRE(loaded);
  check_deltas(loaded->adapter, "llama-embedding", 1e-6);
  const auto at = loaded->adapter.find("model.embed_tokens");
  REQUIRE(at);
  CHECK(loaded->adapter.shape(*at).kind == site_kind::embedding);
  CHECK(loaded->adapter.shape(*at).in == 32);
  REQUIRE(loaded->info.saved.size() == 2);
  CHECK(loaded->info.saved[0].name == "lm_head.base_layer.weight");
  CHECK(loaded->info.saved[1].name == "model.embed_tokens.base_layer.weight");

  const auto gpt2 = load_peft<f16>(fixtures + "gpt2-wte-f16");
  REQUIRE(gpt2);
  check_deltas(gpt2->adapter, "gpt2-wte-f16", 0x1p-11);  // PEFT rounds dW to f16
  CHECK(gpt2->info.stored == dtype::f16);
}

TEST_CASE("what PEFT saved is written again byte by byte") {
  for (const char* name : {"llama-patterns", "llama-rslora-bf16", "gpt2-conv1d", "llama-bias",
                           "llama-embedding", "llama-saved", "gpt2-wte-f16"}) {
    INFO(name);
    const scratch dir;
    const auto loaded = load_peft<float>(fixtures + name);
    REQUIRE(loaded);
    REQUIRE(save_peft(dir / "x", loaded->adapter, loaded->info, loaded->info.stored));
    check_same_tensors(fixtures + name, dir / "x");
    const auto again = load_peft<float>(dir / "x");
    REQUIRE(again);
    CHECK(same(again->adapter, loaded->adapter));
    CHECK(again->info.saved == loaded->info.saved);
    CHECK(again->info.modules_to_save == loaded->info.modules_to_save);
    CHECK(again->info.scaling.rslora == loaded->info.scaling.rslora);
    CHECK(again->info.stored == loaded->info.stored);
  }
}

TEMPLATE_TEST_CASE("an adapter comes back from its directory bit by bit", "", float, bf16, f16) {
  rng random(7);
  const scratch dir;
  for (int repeat = 0; repeat < 20; ++repeat) {
    const auto written = random_adapter<TestType>(random_shapes(random), random);
    peft_info info;
    info.base_model = "some/model";
    info.base_hash = "0123456789abcdef";
    REQUIRE(save_peft(dir / "x", written, info));
    const auto read = load_peft<TestType>(dir / "x");
    REQUIRE(read);
    CHECK(same(read->adapter, written));
    CHECK(read->info.base_model == "some/model");
    CHECK(read->info.base_hash == "0123456789abcdef");
    CHECK(read->info.target_modules.size() == written.size());

    const std::string bytes = get(dir / "x/adapter_model.safetensors");
    const std::string config = get(dir / "x/adapter_config.json");
    REQUIRE(save_peft(dir / "y", read->adapter, read->info));
    CHECK(get(dir / "y/adapter_model.safetensors") == bytes);
    CHECK(get(dir / "y/adapter_config.json") == config);
  }
}

TEST_CASE("a rule that gives the adapter's ranks and scales is written as it was") {
  const scratch dir;
  const auto loaded = load_peft<float>(fixtures + "llama-rslora-bf16");
  REQUIRE(loaded);
  REQUIRE(save_peft(dir / "x", loaded->adapter, loaded->info));
  const auto again = load_peft<float>(dir / "x");
  REQUIRE(again);
  CHECK(again->info.scaling.rslora);
  CHECK(again->info.scaling.alpha == 6);
  CHECK(again->info.scaling.rank_pattern.empty());
  CHECK(contains(get(dir / "x/adapter_config.json"), "\"lora_alpha\": 6,"));
}

TEST_CASE("all forms of PEFT's keys are read") {
  for (const auto& [first, second] : std::vector<std::pair<std::string, std::string>>{
           {"base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight"},
           {"base_model.model.q.lora_A.default.weight", "base_model.model.q.lora_B.default.weight"},
           {"q.lora_A.weight", "q.lora_B.other.weight"}}) {
    const scratch dir;
    put_adapter(dir / "x", std::string(plain) + "}", {a(first), b(second)});
    const auto loaded = load_peft<float>(dir / "x");
    REQUIRE(loaded);
    REQUIRE(loaded->adapter.size() == 1);
    CHECK(loaded->adapter.shape(0) == adapter::site_shape{"q", 4, 3, 2, 2.0F});
    CHECK(loaded->adapter.factors(0).a(1, 0) == 4);
  }
}

TEST_CASE("keys of embeddings, biases and saved modules with the adapter's name in them") {
  const scratch dir;
  const std::string p = "base_model.model.";
  put_adapter(
      dir / "x",
      std::string(plain) + R"(, "lora_bias": true, "modules_to_save": ["head.out", "no"]})",
      {a(p + "q.lora_A.default.weight"), b(p + "q.lora_B.default.weight"),
       tensor(p + "q.lora_B.default.bias", {4}), tensor(p + "e.lora_embedding_A.default", {2, 5}),
       tensor(p + "e.lora_embedding_B.default", {3, 2}),
       tensor(p + "head.out.modules_to_save.default.weight", {2, 2}),
       tensor(p + "lm_head.weight", {1, 2})});
  const auto loaded = load_peft<float>(dir / "x");
  REQUIRE(loaded);
  REQUIRE(loaded->adapter.size() == 3);
  CHECK(loaded->adapter.shape(0) == adapter::site_shape{"e", 3, 5, 2, 2.0F, site_kind::embedding});
  CHECK(loaded->adapter.shape(2) == adapter::site_shape{"q.bias", 4, 1, 1, 2.0F, site_kind::bias});
  CHECK(loaded->adapter.factors(2).b(2, 0) == 3);
  CHECK(loaded->adapter.factors(2).a(0, 0) == 1);
  REQUIRE(loaded->info.saved.size() == 2);
  CHECK(loaded->info.saved[0].name == "head.out.weight");
  CHECK(loaded->info.saved[1].name == "lm_head.weight");
}

TEST_CASE("a configuration of an old PEFT, with what it lacks as PEFT reads it") {
  const scratch dir;
  put_adapter(dir / "x", R"({"base_model_name_or_path": "m", "bias": "none", "enable_lora": null,
      "fan_in_fan_out": false, "inference_mode": true, "lora_dropout": 0.1, "merge_weights": false,
      "lora_alpha": 16, "modules_to_save": null, "peft_type": "LORA", "target_modules": ["q"]})",
              {tensor("base_model.model.q.lora_A.weight", {8, 1}),
               tensor("base_model.model.q.lora_B.weight", {1, 8})});
  const auto loaded = load_peft<float>(dir / "x");
  REQUIRE(loaded);
  CHECK(loaded->adapter.shape(0).rank == 8);
  CHECK(loaded->adapter.shape(0).scale == 2);
}

TEST_CASE("a pickle is refused with the way out") {
  const scratch dir;
  put(dir / "adapter_config.json", std::string(plain) + "}");
  put(dir / "adapter_model.bin", "PK");
  const auto loaded = load_peft<float>(dir.path());
  REQUIRE(!loaded);
  CHECK(loaded.error().code == errc::unsupported);
  CHECK(loaded.error().text == (dir / "adapter_model.bin") +
                                   ": a pickle, which is not read; load it with PEFT and save it "
                                   "again with save_pretrained, which writes "
                                   "adapter_model.safetensors");
}

TEST_CASE("tied weights that are adapted or saved together are refused") {
  const std::string tied = std::string(plain) + R"(, "ensure_weight_tying": true})";
  CHECK(contains(
      refusal(tied, {tensor("e.lora_embedding_A", {2, 3}), tensor("e.lora_embedding_B", {4, 2})}),
      "module e has embedding factors, and ensure_weight_tying is true"));
  CHECK(contains(refusal(tied, {a(), b(), tensor("lm_head.weight", {2, 2})}),
                 "has lm_head.weight F32 [2, 2], and ensure_weight_tying is true"));
}

TEST_CASE("sites are in the natural order of their names") {
  const scratch dir;
  std::vector<io::tensor> tensors;
  for (const char* module : {"l.10.v", "l.2.v", "l.2.q", "l.1.v", "l.02"}) {
    const std::string key = std::string("base_model.model.") + module;
    tensors.push_back(a(key + ".lora_A.weight"));
    tensors.push_back(b(key + ".lora_B.weight"));
  }
  put_adapter(dir / "x", std::string(plain) + "}", tensors);
  const auto loaded = load_peft<float>(dir / "x");
  REQUIRE(loaded);
  std::vector<std::string> modules;
  for (const auto& s : loaded->adapter.shapes()) modules.push_back(s.module);
  CHECK(modules == std::vector<std::string>{"l.1.v", "l.2.q", "l.2.v", "l.02", "l.10.v"});
}

TEST_CASE("what is not plain LoRA is refused by key and value") {
  const auto with = [](const std::string& more) {
    return refusal(std::string(plain) + ", " + more + "}", {a(), b()});
  };
  const auto text = [](const std::string& key, const std::string& value) {
    return "adapter_config.json: " + key + " is " + value +
           ", which is not plain LoRA and is not supported";
  };
  CHECK(with(R"("use_dora": true)") == text("use_dora", "true"));
  CHECK(with(R"("use_dora": 1)") == text("use_dora", "1"));
  CHECK(with(R"("use_rslora": "no")") ==
        "adapter_config.json: use_rslora is \"no\", not true or false");
  CHECK(with(R"("trainable_token_indices": [3])") == text("trainable_token_indices", "[3]"));
  CHECK(with(R"("target_parameters": ["w"])") == text("target_parameters", "[\"w\"]"));
  CHECK(with(R"("use_bdlora": {"nblocks": 2})") == text("use_bdlora", "{\"nblocks\":2}"));
  CHECK(with(R"("enable_lora": [true, false])") == text("enable_lora", "[true,false]"));
  CHECK(with(R"("use_what_comes_next": true)") ==
        "adapter_config.json: use_what_comes_next is true, a feature that is not known and may "
        "change what the factors mean");
  CHECK(with(R"("bias": "all")") == text("bias", "\"all\""));
  CHECK(with(R"("layer_replication": [[0, 4]])") == text("layer_replication", "[[0,4]]"));
  CHECK(with(R"("alora_invocation_tokens": [1])") == text("alora_invocation_tokens", "[1]"));
  CHECK(with(R"("kasa_config": {"beta": 1})") == text("kasa_config", "{\"beta\":1}"));
  CHECK(with(R"("init_lora_weights": "pissa_niter_4")") ==
        "adapter_config.json: init_lora_weights is \"pissa_niter_4\", which changes the base "
        "model's weights");
  CHECK(refusal(R"({"peft_type": "LOHA", "r": 2})", {a(), b()}) ==
        "adapter_config.json: peft_type is \"LOHA\", needs \"LORA\"");
  CHECK(refusal("{}", {a(), b()}) == "adapter_config.json: peft_type is null, needs \"LORA\"");
}

TEST_CASE("a configuration that cannot be right is refused") {
  const auto from = [](const std::string& config) { return refusal(config, {a(), b()}); };
  CHECK(from("{") == "adapter_config.json: not a JSON object");
  CHECK(from(R"({"peft_type": "LORA", "r": 0, "lora_alpha": 1})") ==
        "adapter_config.json: r is 0, needs a rank of at least 1");
  CHECK(from(R"({"peft_type": "LORA", "r": -3, "lora_alpha": 1})") ==
        "adapter_config.json: r is -3, needs a rank of at least 1");
  CHECK(from(R"({"peft_type": "LORA", "r": 2, "lora_alpha": "1"})") ==
        "adapter_config.json: lora_alpha is \"1\", needs a number");
  CHECK(from(std::string(plain) + R"(, "rank_pattern": {"q": 1.5}})") ==
        "adapter_config.json: rank_pattern is {\"q\":1.5}, not names to numbers");
  CHECK(from(R"({"peft_type": "LORA", "r": 3, "lora_alpha": 1})") ==
        "adapter_model.safetensors: module q has rank 2, adapter_config.json says 3");
  CHECK(from(std::string(plain) + R"(, "alpha_pattern": {"(?!x)q": 1}})") ==
        "adapter_model.safetensors: adapter_config.json beside it: alpha_pattern: pattern "
        "\"(?!x)q\" is not understood at character 3");
}

TEST_CASE("factors without partner, of wrong shape or of another kind are refused") {
  const auto from = [](std::vector<io::tensor> tensors) {
    return refusal(std::string(plain) + "}", std::move(tensors));
  };
  const std::string file = "adapter_model.safetensors: ";
  CHECK(from({a()}) == file + "module q has lora_A but no lora_B");
  CHECK(from({b()}) == file + "module q has lora_B but no lora_A");
  CHECK(from({a(), tensor("base_model.model.q.lora_B.weight", {4, 3})}) ==
        file + "module q has lora_A [2, 3] and lora_B [4, 3], needs (r, in) and (out, r)");
  CHECK(from({tensor("base_model.model.q.lora_A.weight", {2, 3, 1, 1}), b()}) ==
        file + "module q has lora_A [2, 3, 1, 1] and lora_B [4, 2], needs (r, in) and (out, r)");
  for (const char* key :
       {"base_model.model.c.weight", ".lora_A.weight", "base_model.model.q.lora_C.weight",
        "base_model.model.q.lora_A.bias", "base_model.model.e.lora_embedding_A.x.y"}) {
    CHECK(from({a(), b(), tensor(key, {2})}) ==
          file + "tensor " + key +
              " is neither a factor of a linear or embedding layer nor one of modules_to_save");
  }
  for (const char* key : {"base_model.model.q.lora_magnitude_vector",
                          "base_model.model.q.lora_magnitude_vector.default.weight"}) {
    CHECK(from({a(), b(), tensor(key, {2})}) ==
          file + "tensor " + key + " belongs to DoRA, which is not supported");
  }
  const std::string embedding = "base_model.model.e.lora_embedding_";
  CHECK(from({a(), b(), tensor(embedding + "A", {2, 3})}) ==
        file + "module e has lora_embedding_A but no lora_embedding_B");
  CHECK(from({a(), b(), tensor("base_model.model.q.lora_embedding_A", {2, 3})}) ==
        file +
            "module q is both a linear layer and an embedding (tensor "
            "base_model.model.q.lora_embedding_A)");
  const io::tensor bias = tensor("base_model.model.q.lora_B.bias", {4});
  CHECK(from({a(), b(), bias}) ==
        file + "module q has lora_B.bias, adapter_config.json says lora_bias is false");
  const std::string biased = std::string(plain) + R"(, "lora_bias": true})";
  CHECK(refusal(biased, {a(), b(), tensor("base_model.model.q.lora_B.bias", {3})}) ==
        file + "module q has lora_B.bias [3], needs [4]");
  CHECK(refusal(biased, {a(), b(), tensor("base_model.model.p.lora_B.bias", {3})}) ==
        file + "module p has lora_B.bias but no lora_A");
  CHECK(from({a(), b(), a("base_model.model.q.lora_A.second.weight")}) ==
        file +
            "tensors base_model.model.q.lora_A.second.weight and "
            "base_model.model.q.lora_A.weight are one factor");
  CHECK(from({}) == file + "holds no LoRA factors");
}

TEST_CASE("NaN in a factor is refused on the way in and out") {
  const scratch dir;
  std::vector<float> bad(6, 1);
  bad[5] = std::numeric_limits<float>::quiet_NaN();
  const io::tensor nan{
      "base_model.model.q.lora_A.weight", "F32", {2, 3}, std::as_bytes(std::span(bad))};
  CHECK(refusal(std::string(plain) + "}", {nan, b()}) ==
        "adapter_model.safetensors: tensor base_model.model.q.lora_A.weight [1, 2] is nan");

  lora_adapter<float> adapter({{"q", 2, 2, 1, 1}});
  adapter.b(0)(1, 0) = std::numeric_limits<float>::infinity();
  CHECK(save_peft(dir / "x", adapter, {}).error().text ==
        (dir / "x") + ": module q has NaN or infinity");
  CHECK_FALSE(save_peft(dir / "x", lora_adapter<float>({{"q", 2, 2, 0, 1}}), {}));
  CHECK_FALSE(save_peft(dir / "x", lora_adapter<float>({{"q", 2, 2, 1, std::nanf("")}}), {}));
  CHECK_FALSE(save_peft(dir / "x", lora_adapter<float>(), {}));
  CHECK(dir.names().empty());
}

TEST_CASE("factors are written as the type that is asked for, or refused") {
  const scratch dir;
  lora_adapter<float> adapter({{"q", 2, 2, 1, 1}});
  adapter.b(0)(1, 0) = 1.0F + 0x1p-9F;
  adapter.a(0)(0, 1) = -3;
  REQUIRE(save_peft(dir / "x", adapter, {}, dtype::bf16));
  const auto file = io::safetensors::open(dir / "x/adapter_model.safetensors");
  REQUIRE(file);
  for (const auto& t : file->tensors()) CHECK(t.dtype == "BF16");
  const auto read = load_peft<float>(dir / "x");
  REQUIRE(read);
  CHECK(read->adapter.factors(0).b(1, 0) == 1);  // rounded to nearest, ties to even
  CHECK(read->adapter.factors(0).a(0, 1) == -3);

  adapter.b(0)(0, 0) = 70000;
  CHECK(save_peft(dir / "y", adapter, {}, dtype::f16).error().text ==
        (dir / "y") + ": module q has 70000.000000, too large for F16");
  CHECK(dir.names() == std::vector<std::string>{"x"});
}

TEST_CASE("a bias of any rank and scale is written as the vector that it is") {
  const scratch dir;
  lora_adapter<float> adapter(
      {{"q", 2, 3, 1, 0.5F}, {"q.bias", 2, 1, 2, 4.0F, site_kind::bias}, {"p", 3, 3, 1, 1.0F}});
  adapter.a(1)(0, 0) = 2;
  adapter.a(1)(1, 0) = -1;
  adapter.b(1)(0, 0) = 3;
  adapter.b(1)(0, 1) = 5;
  adapter.b(1)(1, 1) = 7;
  REQUIRE(save_peft(dir / "x", adapter, {}));
  const auto read = load_peft<float>(dir / "x");
  REQUIRE(read);
  const auto at = read->adapter.find("q.bias");
  REQUIRE(at);
  CHECK(read->adapter.shape(*at).scale == 0.5F);
  CHECK(read->adapter.factors(*at).b(0, 0) == 8);    // (2 * 3 - 5) * 4 / 0.5
  CHECK(read->adapter.factors(*at).b(1, 0) == -56);  // -7 * 4 / 0.5
  const auto other = read->adapter.find("p.bias");   // PEFT has a bias at every layer or at none
  REQUIRE(other);
  CHECK(read->adapter.factors(*other).b(2, 0) == 0);
}

TEST_CASE("what PEFT has no form for is not written") {
  const scratch dir;
  const auto text = [&](std::vector<adapter::site_shape> shapes) {
    return save_peft(dir / "x", lora_adapter<float>(std::move(shapes)), {})
        .error()
        .text.substr(dir.path().size() + 4);
  };
  const adapter::site_shape q{"q", 2, 3, 1, 1.0F};
  CHECK(text({{"q.bias", 2, 1, 1, 1.0F, site_kind::bias}}) ==
        "module q.bias is a bias without factors of its layer");
  CHECK(text({q, {"q.bias", 3, 1, 1, 1.0F, site_kind::bias}}) ==
        "module q.bias has shape [3, 1], its layer has 2 outputs");
  CHECK(
      text({q,
            {"q.bias", 2, 1, 1, 1.0F, site_kind::bias},
            {"e", 2, 9, 1, 1.0F, site_kind::embedding}}) ==
      "module e is an embedding, beside the bias q.bias: PEFT takes no lora_bias with embeddings");
  CHECK(dir.names().empty());
}

TEST_CASE("a name that is the end of another has its own rank and scale") {
  const scratch dir;
  rng random(3);
  const auto written = random_adapter<float>(
      {{"q", 3, 4, 1, 0.5F}, {"x.q", 3, 4, 2, 2.0F}, {"y.x.q", 3, 4, 3, 1.0F}, {"aq", 2, 2, 1, 1}},
      random);
  REQUIRE(save_peft(dir / "x", written, {}));
  const auto read = load_peft<float>(dir / "x");
  REQUIRE(read);
  for (const auto& s : written.shapes()) {
    const auto at = read->adapter.find(s.module);
    REQUIRE(at);
    CHECK(read->adapter.shape(*at) == s);
  }
}

TEST_CASE("a missing file is an error that names it") {
  const scratch dir;
  CHECK(load_peft<float>(dir / "no").error().text ==
        "cannot open " + (dir / "no/adapter_config.json") + ": No such file or directory");
  put(dir / "adapter_config.json", std::string(plain) + "}");
  const auto loaded = load_peft<float>(dir.path());
  REQUIRE(!loaded);
  CHECK(loaded.error().code == errc::not_found);
  CHECK(contains(loaded.error().text, "adapter_model.safetensors"));
}

TEST_CASE("real adapters load, come back, or are refused clearly") {
  const std::string root = data_path("adapters");
  if (root.empty()) {
    WARN("skipped: no CRAYON_DATA");
    return;
  }
  const scratch dir;
  const auto gpt2 = load_peft<float>(root + "/gpt2-clm-r8");
  REQUIRE(gpt2);
  CHECK(gpt2->adapter.size() == 36);
  CHECK(gpt2->info.base_model == "gpt2");
  CHECK(gpt2->info.fan_in_fan_out);
  CHECK(gpt2->adapter.shape(0).scale == 4);
  REQUIRE(save_peft(dir / "gpt2", gpt2->adapter, gpt2->info));
  check_same_tensors(root + "/gpt2-clm-r8", dir / "gpt2");

  const auto neox = load_peft<f16>(root + "/gptneox-f16-r1");
  REQUIRE(neox);
  CHECK(neox->adapter.size() == 24);
  CHECK(neox->adapter.shape(10).module == "gpt_neox.layers.10.attention.query_key_value");
  CHECK(neox->adapter.shape(0).scale == 32);
  REQUIRE(save_peft(dir / "neox", neox->adapter, neox->info));
  check_same_tensors(root + "/gptneox-f16-r1", dir / "neox");
  const auto wide = load_peft<float>(root + "/gptneox-f16-r1");
  REQUIRE(wide);
  CHECK(wide->info.stored == dtype::f16);
  REQUIRE(save_peft(dir / "narrow", wide->adapter, wide->info, wide->info.stored));
  check_same_tensors(root + "/gptneox-f16-r1", dir / "narrow");

  const auto roberta = load_peft<float>(root + "/roberta-modules-to-save");
  REQUIRE(roberta);
  CHECK(roberta->adapter.size() == 24);
  CHECK(roberta->info.modules_to_save == std::vector<std::string>{"classifier", "score"});
  REQUIRE(roberta->info.saved.size() == 4);
  CHECK(describe(roberta->info.saved[3]) == "classifier.out_proj.weight F32 [2, 768]");
  REQUIRE(save_peft(dir / "roberta", roberta->adapter, roberta->info));
  check_same_tensors(root + "/roberta-modules-to-save", dir / "roberta");

  const auto unilora = load_peft<float>(root + "/not-lora-unilora");
  REQUIRE(!unilora);
  CHECK(unilora.error().text == root +
                                    "/not-lora-unilora/adapter_config.json: peft_type is "
                                    "\"UNILORA\", needs \"LORA\"");
}

TEST_CASE("0 and 1 are false and true") {
  const auto flags = [](const std::string& more) {
    const auto info = adapter::parse_peft_config("c", std::string(plain) + more + "}");
    REQUIRE(info);
    return std::array{info->scaling.rslora, info->fan_in_fan_out, info->lora_bias};
  };
  CHECK(flags(R"(, "use_rslora": 0, "fan_in_fan_out": 0, "lora_bias": 0, "use_dora": 0)") ==
        std::array{false, false, false});
  CHECK(flags(R"(, "use_rslora": 1, "fan_in_fan_out": true, "lora_bias": 1)") ==
        std::array{true, true, true});
}
