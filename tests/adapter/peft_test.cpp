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
  CHECK(with(R"("modules_to_save": ["classifier"])") ==
        text("modules_to_save", "[\"classifier\"]"));
  CHECK(with(R"("lora_bias": true)") == text("lora_bias", "true"));
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
        "adapter_model.safetensors: pattern \"(?!x)q\" is not understood at character 3");
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
       {"base_model.model.e.lora_embedding_A", "base_model.model.c.weight",
        "base_model.model.q.lora_magnitude_vector", "base_model.model.q.lora_B.bias",
        ".lora_A.weight", "base_model.model.q.lora_C.weight"}) {
    CHECK(from({a(), b(), tensor(key, {2})}) ==
          file + "tensor " + key + " is not a lora_A or lora_B weight of a linear layer");
  }
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
  REQUIRE(save_peft(dir / "x", gpt2->adapter, gpt2->info));
  const auto again = load_peft<float>(dir / "x");
  REQUIRE(again);
  CHECK(same(again->adapter, gpt2->adapter));
  const auto original = io::safetensors::open(root + "/gpt2-clm-r8/adapter_model.safetensors");
  const auto written = io::safetensors::open(dir / "x/adapter_model.safetensors");
  REQUIRE(original);
  REQUIRE(written);
  REQUIRE(written->tensors().size() == 72);
  for (const auto& t : original->tensors()) {
    const auto* w = written->find(t.name);
    REQUIRE(w != nullptr);
    CHECK(w->shape == t.shape);
    CHECK(std::equal(w->bytes.begin(), w->bytes.end(), t.bytes.begin(), t.bytes.end()));
  }

  const auto neox = load_peft<f16>(root + "/gptneox-f16-r1");
  REQUIRE(neox);
  CHECK(neox->adapter.size() == 24);
  CHECK(neox->adapter.shape(10).module == "gpt_neox.layers.10.attention.query_key_value");
  CHECK(neox->adapter.shape(0).scale == 32);
  CHECK(load_peft<bf16>(root + "/gptneox-f16-r1"));

  const auto roberta = load_peft<float>(root + "/roberta-modules-to-save");
  REQUIRE(!roberta);
  CHECK(roberta.error().text ==
        root +
            "/roberta-modules-to-save/adapter_config.json: modules_to_save is "
            "[\"classifier\",\"score\"], which is not plain LoRA and is not supported");
  const auto unilora = load_peft<float>(root + "/not-lora-unilora");
  REQUIRE(!unilora);
  CHECK(unilora.error().text == root +
                                    "/not-lora-unilora/adapter_config.json: peft_type is "
                                    "\"UNILORA\", needs \"LORA\"");
}
