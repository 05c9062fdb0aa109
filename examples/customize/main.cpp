// SPDX-License-Identifier: MIT
#include <cstdio>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/engine/open.hpp>
#include <crayon/serve/curl_transport.hpp>
#include <crayon/serve/remote_pool.hpp>

int main(int, char** arguments) {
  using namespace crayon;
  auto device = engine::open("device", "device/tokenizer.bin");
  const std::vector<engine::sample> mine = {{"Add 5 days to 8 December.", "December 13"},
                                            {"The sum of six and four?", "X"}};
  const auto answers = [&] {
    for (const char* question : {"Add 4 days to 11 May.", "What is nine plus seven?"}) {
      if (const auto answer = device->answer(question)) std::puts(answer->text.c_str());
    }
  };
  const auto pool = adapter::load_pool<float>("pool.safetensors");
  if (!device || !pool || !device->customize(*pool, mine)) return 1;
  answers();

  // The same with a pool that is elsewhere, at crayon serve --pool: "http://host:port/v1".
  serve::remote_pool<serve::curl_transport> remote({arguments[1]});
  if (!device->customize(remote, mine)) return 1;
  answers();
  std::printf("%zu bytes of scores were sent\n", remote.record().sent_bytes);
}
