// SPDX-License-Identifier: MIT
// Every way in which the program is given something it cannot use: one line that names the file,
// the tensor and both values, exit status 1, and no file touched.
#include "program.hpp"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <limits>
#include <thread>

#include <crayon/adapter/pool_file.hpp>

using namespace crayon;
using namespace crayon::cli_test;

namespace {

struct bad_case {
  std::string arguments;
  std::vector<std::string> says;
};

void check(const workplace& w, const bad_case& bad) {
  INFO(bad.arguments);
  const auto before = w.snapshot();
  const outcome done = w.run(bad.arguments);
  INFO(done.err);
  CHECK(done.status == 1);
  CHECK(done.err.starts_with("crayon: "));
  CHECK(std::count(done.err.begin(), done.err.end(), '\n') == 1);
  for (const auto& text : bad.says) {
    INFO("expected: " << text);
    CHECK(done.err.find(text) != std::string::npos);
  }
  CHECK(w.snapshot() == before);
}

/// A socket on a free port of loopback, that answers every connection with `answer`.
class listener {
 public:
  explicit listener(std::string answer = {}) : answer_(std::move(answer)) {
    socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(socket_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::listen(socket_, 4) == 0);
    ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    if (!answer_.empty()) thread_ = std::thread([this] { serve(); });
  }
  ~listener() {
    ::shutdown(socket_, SHUT_RDWR);
    ::close(socket_);
    if (thread_.joinable()) thread_.join();
  }
  listener(const listener&) = delete;
  listener& operator=(const listener&) = delete;

  [[nodiscard]] std::string port() const { return std::to_string(port_); }

 private:
  void serve() {
    for (;;) {
      const int one = ::accept(socket_, nullptr, nullptr);
      if (one < 0) return;
      char request[4096];
      (void)!::read(one, request, sizeof request);
      (void)!::write(one, answer_.data(), answer_.size());
      ::close(one);
    }
  }

  std::string answer_;
  int socket_ = -1;
  int port_ = 0;
  std::thread thread_;
};

adapter::peft_info made_for(const std::string& hash) {
  adapter::peft_info info;
  info.base_model = "model.bin";
  info.base_hash = hash;
  return info;
}

}  // namespace

TEST_CASE("bad models and tokenizers") {
  const workplace w;
  make_files(w);
  const std::string whole = read(w / "model.bin");
  write(w / "short.bin", whole.substr(0, whole.size() / 2));
  write(w / "text.bin", "this is a text, and no checkpoint of any model at all");
  write(w / "empty.bin", "");
  fs::create_directory(w / "empty");
  REQUIRE(byte_pieces(41).save((w / "other.bin").string()));
  const std::string pieces = read(w / "tokenizer.bin");
  write(w / "cut.bin", pieces.substr(0, pieces.size() - 3));

  const std::string rest = " --prompt x --tokens 2";
  check(w, {"generate --model none.bin" + rest, {"none.bin", "No such file"}});
  check(w, {"generate --model short.bin" + rest,
            {"short.bin", std::to_string(whole.size()), std::to_string(whole.size() / 2)}});
  check(w, {"generate --model text.bin" + rest, {"text.bin"}});
  check(w, {"generate --model empty.bin" + rest, {"empty.bin", "0"}});
  check(w, {"generate --model empty" + rest, {"empty", "config.json"}});
  check(w,
        {"generate --model model.bin --tokenizer other.bin" + rest, {"other.bin", "300", "259"}});
  check(w, {"generate --model model.bin --tokenizer cut.bin" + rest, {"cut.bin", "piece 258"}});
  check(w, {"generate --model model.bin --tokenizer none.bin" + rest, {"none.bin"}});
  check(w, {"info none.bin", {"none.bin"}});
  check(w, {"info empty", {"empty", "adapter_config.json"}});
  check(w, {"perplexity --model model.bin --text none.txt", {"none.txt"}});
  check(w, {"perplexity --model model.bin --text empty.bin", {"empty.bin", "no text"}});
}

TEST_CASE("token ids that the model does not have, prompts that do not fit") {
  const workplace w;
  make_files(w);
  check(w, {"logits --model model.bin --ids 1,259 --out l.safetensors", {"259", "token 1"}});
  check(w, {"logits --model model.bin --ids -1 --out l.safetensors", {"-1", "259"}});
  check(w, {"generate --model model.bin --prompt '" + std::string(70, 'x') + "'", {"72", "64"}});
  check(w, {"serve --model model.bin --port 0 --context 65", {"model.bin", "65", "64"}});
  check(w, {"logits --model model.bin --ids 1 --out none/l.safetensors", {"none/l.safetensors"}});
}

TEST_CASE("adapters that do not fit") {
  const workplace w;
  make_files(w);
  const std::string hash = model::read_llama2c<float>((w / "model.bin").string())->hash();
  const std::string run = "generate --model model.bin --prompt x --tokens 2 --adapter ";

  auto wide_config = tiny_config();
  wide_config.dim = 32;
  wide_config.heads = 4;
  REQUIRE(
      adapter::save_peft((w / "wide").string(), random_adapter(wide_config, 3), made_for(hash)));
  check(w, {run + "wide", {"wide", "model.layers.0.mlp.down_proj", "(32, 2)", "(16, 24)"}});

  auto deep_config = tiny_config();
  deep_config.layers = 3;
  REQUIRE(
      adapter::save_peft((w / "deep").string(), random_adapter(deep_config, 3), made_for(hash)));
  check(w, {run + "deep", {"deep", "model.layers.2.mlp.down_proj", "2 layers"}});

  REQUIRE(adapter::save_peft((w / "foreign").string(), random_adapter(tiny_config(), 3),
                             made_for("0123456789abcdef")));
  check(w, {run + "foreign", {"foreign", "0123456789abcdef", hash}});

  fs::copy(w / "adapter", w / "cut");
  const std::string bytes = read(w / "adapter/adapter_model.safetensors");
  write(w / "cut/adapter_model.safetensors", bytes.substr(0, bytes.size() - 8));
  check(w, {run + "cut", {"cut/adapter_model.safetensors", "tensor", "truncated"}});

  fs::copy(w / "adapter", w / "nan");
  std::string poisoned = bytes;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  poisoned.replace(poisoned.size() - 4, 4, reinterpret_cast<const char*>(&nan), 4);
  write(w / "nan/adapter_model.safetensors", poisoned);
  check(w, {run + "nan", {"nan/adapter_model.safetensors", "tensor", "lora_", "nan"}});

  fs::copy(w / "adapter", w / "loha");
  std::string config = read(w / "loha/adapter_config.json");
  const auto at = config.find("\"LORA\"");
  REQUIRE(at != std::string::npos);
  write(w / "loha/adapter_config.json", config.replace(at, 6, "\"LOHA\""));
  check(w, {run + "loha", {"loha/adapter_config.json", "LOHA"}});

  fs::create_directory(w / "bare");
  check(w, {run + "bare", {"bare/adapter_config.json"}});
  check(w, {run + "adapter:nan", {"adapter:nan", "not a finite number"}});
  check(w, {run + "adapter:0.5 --adapter adapter:inf", {"adapter:inf", "not a finite number"}});
  check(w, {run + "none", {"none"}});
}

TEST_CASE("pools and samples that cannot be used") {
  const workplace w;
  make_files(w);
  const auto config = tiny_config();
  const std::string hash = model::read_llama2c<float>((w / "model.bin").string())->hash();
  std::vector<float> index(2 * 2 * config.dim);
  index[0] = index[2 * config.dim + 1] = 1;
  const std::vector adapters{random_adapter(config, 1), random_adapter(config, 2)};
  const auto save = [&](const char* name, const std::string& base, std::size_t width) {
    adapter::pool_info info;
    info.base_hash = base;
    info.embedding = "mean_pooling";
    info.matcher = "cosine_softmax";
    info.blend = "concat";
    std::vector<float> rows(2 * width);
    rows[0] = rows[width + 1] = 1;
    const auto pool = adapter::pool<float>::build(
        adapters, matrix_view<const float>(rows.data(), 2, width), info);
    REQUIRE(pool);
    REQUIRE(adapter::save_pool((w / name).string(), *pool));
  };
  save("pool.safetensors", hash, 2 * config.dim);
  save("foreign.safetensors", "0123456789abcdef", 2 * config.dim);
  save("narrow.safetensors", hash, 8);
  const std::string bytes = read(w / "pool.safetensors");
  write(w / "cut.safetensors", bytes.substr(0, bytes.size() - 64));
  std::string flipped = bytes;
  flipped[flipped.size() - 500] = static_cast<char>(flipped[flipped.size() - 500] ^ 0x10);
  write(w / "flipped.safetensors", flipped);
  write(w / "empty.jsonl", "");
  write(w / "blank.jsonl", "\n \n");
  write(w / "broken.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"\n");
  write(w / "half.jsonl", "{\"prompt\": \"a\"}\n");
  write(w / "long.jsonl",
        R"({"prompt": ")" + std::string(80, 'x') + R"(", "completion": "b"})" + "\n");

  const auto customize = [](const std::string& pool, const std::string& samples) {
    return "customize --model model.bin --pool " + pool + " --samples " + samples + " --out made";
  };
  check(w, {customize("none.safetensors", "samples.jsonl"), {"none.safetensors"}});
  check(w, {customize("cut.safetensors", "samples.jsonl"), {"cut.safetensors", "tensor"}});
  check(w, {customize("flipped.safetensors", "samples.jsonl"), {"flipped.safetensors"}});
  check(w, {customize("foreign.safetensors", "samples.jsonl"),
            {"foreign.safetensors", "0123456789abcdef", hash}});
  check(w, {customize("narrow.safetensors", "samples.jsonl"), {"narrow.safetensors", "8", "32"}});
  check(w, {customize("pool.safetensors", "empty.jsonl"), {"empty.jsonl", "no samples"}});
  check(w, {customize("pool.safetensors", "blank.jsonl"), {"blank.jsonl", "no samples"}});
  check(w, {customize("pool.safetensors", "broken.jsonl"), {"broken.jsonl:2"}});
  check(w, {customize("pool.safetensors", "half.jsonl"), {"half.jsonl:1", "completion"}});
  check(w, {customize("pool.safetensors", "long.jsonl"), {"long.jsonl", "sample 1", "64"}});
  check(w,
        {"blend --pool pool.safetensors --weights 1 --out made", {"pool.safetensors", "1", "2"}});
  check(w, {"blend --pool pool.safetensors --weights 1,nan --out made", {"nan", "weight of"}});
  check(w, {"blend --pool pool.safetensors --weights 1,1 --out model.bin",
            {"model.bin", "not a directory"}});
  check(w, {"pool build --model model.bin --data samples.jsonl --adapters 41 --rank 2 --out p",
            {"samples.jsonl", "40", "41"}});
}

TEST_CASE("ports in use and servers that are none") {
  const workplace w;
  make_files(w);
  const listener silent;
  check(w, {"serve --model model.bin --port " + silent.port(), {"127.0.0.1:" + silent.port()}});

  const auto router_to = [](const char* model, const char* server, const char* policy = "all_of",
                            const char* threshold = "") {
    return R"({"format": "crayon-router-2", "policy": ")" + std::string(policy) +
           R"(", "thresholds": [)" + threshold + R"(], "bound_to": {"model": ")" + model +
           R"(", "quantisation": "F32", "adapter": "none", "blend": "none", )"
           R"("template": "none", "server": ")" +
           server + "\"}}";
  };
  write(w / "always.json", router_to("any", "any"));
  write(w / "bad.json", R"({"format": "crayon-router-9"})");
  write(w / "loose.json", R"({"format": "crayon-router-2", "policy": "all_of", "thresholds": []})");
  write(w / "empty.json", router_to("any", ""));
  write(w / "other.json", router_to("00ff", "any"));
  const listener html(
      "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n"
      "Connection: close\r\n\r\n<html>Welcome</html>");
  const std::string url = "http://127.0.0.1:" + html.port() + "/v1";
  const std::string ask = "ask --model model.bin --server " + url + " --deadline 3000 ";
  check(w, {ask + "--router always.json --no-fallback hello", {url, "html"}});
  check(w, {ask + "--router bad.json hello", {"bad.json", "crayon-router-9", "crayon-router-3"}});
  check(w, {ask + "--router loose.json hello", {"loose.json", "bound_to is missing"}});
  check(w,
        {ask + "--router empty.json hello", {"empty.json", "bound_to.server is missing or empty"}});
  check(w,
        {ask + "--router other.json hello", {"other.json", "fitted to the model 00ff, not to "}});
  check(w, {ask + "--router none.json hello", {"none.json"}});
  write(w / "scope.json",
        router_to("any", "any", "any_of", R"({"signal": "scope_distance", "threshold": 4})"));
  check(w, {ask + "--router scope.json hello", {"scope.json", "scope_distance", "--pool"}});
  check(w, {ask + "--router always.json --context 65 hello", {"model.bin", "65", "64"}});

  // Without that flag the device answers, and one line says why.
  const auto done = w.run(ask + "--router always.json --tokens 3 hello --json r.json");
  INFO(done.err);
  CHECK(done.status == 0);
  CHECK_FALSE(done.out.empty());
  CHECK(std::count(done.err.begin(), done.err.end(), '\n') == 1);
  CHECK(done.err.find(" ms left] the server failed: " + url) != std::string::npos);
  CHECK(done.err.find("text/html") != std::string::npos);
  CHECK(read(w / "r.json").find("device_after_failure") != std::string::npos);
  CHECK(read(w / "r.json").find("\"attempts\": 1,") != std::string::npos);
  CHECK(read(w / "r.json").find("\"bytes_sent\": 0,") == std::string::npos);
  CHECK(read(w / "r.json").find("\"server\": \"" + url + "\"") != std::string::npos);

  // Half of the server's answer is no answer.
  const listener cut(
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
      "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n");
  const std::string there = "http://127.0.0.1:" + cut.port() + "/v1";
  const auto half =
      w.run("ask --model model.bin --router always.json --server " + there + " hello");
  INFO(half.err);
  CHECK(half.status == 1);
  CHECK(half.out == "Hel\n");
  CHECK(half.err.find("the server's answer ends here: " + there) != std::string::npos);
  CHECK(std::count(half.err.begin(), half.err.end(), '\n') == 1);
}
