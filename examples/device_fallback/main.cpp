// SPDX-License-Identifier: MIT
// device_fallback [URL [MODEL]]: http://127.0.0.1:8080/v1 of llama-server, vLLM, crayon serve, ...
#include <chrono>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/engine/hybrid_engine.hpp>
#include <crayon/engine/open.hpp>
#include <crayon/serve/openai_client.hpp>

int main(int count, char** arguments) {
  using namespace crayon;
  auto device = engine::open("device", "device/tokenizer.bin");
  const auto pool = adapter::load_pool<float>("pool.safetensors");
  if (!device || !pool) return 1;
  const std::vector<engine::sample> mine = {{"Add 5 days to 8 December.", "December 13"},
                                            {"The sum of six and four?", "X"}};
  if (!device->customize(*pool, mine)) return 1;

  serve::client_options there;
  there.base_url = count > 1 ? arguments[1] : "http://127.0.0.1:9/v1";  // nobody listens there
  there.model = count > 2 ? arguments[2] : "";
  there.deadline = std::chrono::seconds(2);  // of all attempts
  engine::hybrid_engine hybrid(*std::move(device), router::scope{3}, serve::openai_client(there));
  const auto show = [](const char* question, const result<engine::hybrid_answer>& answer) {
    if (!answer) return;
    const auto& record = answer->record;
    std::printf("%-32s %-8s %s, %s, %zu attempts, %zu bytes\n", question, answer->text.c_str(),
                std::string(name(record.source)).c_str(), std::string(name(record.reason)).c_str(),
                record.attempts, record.bytes_sent);
    if (!record.server_error.empty()) std::fprintf(stderr, "%s\n", record.server_error.c_str());
  };
  for (const char* question : {"Add 4 days to 11 May.", "What is the capital of France?"}) {
    show(question, hybrid.answer(question, {.max_tokens = 16}));
  }
  // No overload takes this one to a server.
  const engine::private_prompt mine_alone("What is the capital of Spain?");
  show("(private)", hybrid.answer(mine_alone, {.max_tokens = 16}));
}
