// SPDX-License-Identifier: MIT
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/engine/hybrid_engine.hpp>
#include <crayon/engine/open.hpp>
#include <crayon/router/budgeted.hpp>

/// To the server: what is not of the user's tasks, and what gets doubtful while it is answered.
struct my_router {
  static crayon::route decide(const crayon::signals& seen) {
    const bool foreign = !(seen.scope_distance <= 4.4F);  // true of NaN: it was not measured
    const bool doubtful = seen.tokens > 0 && seen.low_log_prob < -0.12F;
    return foreign || doubtful ? crayon::route::server : crayon::route::device;
  }
};
static_assert(crayon::router_policy<my_router>);

struct each_token : crayon::router::decision_points {
  static constexpr std::size_t every = 1;
};

struct my_config : crayon::engine::default_config {
  using router = crayon::router::budgeted<my_router>;  // at most a share of the queries
  using decide_at = each_token;                        // and after prefill, and after the answer
};

/// Stands in for crayon::serve::openai_client.
struct somewhere {
  static crayon::remote_answer complete(std::string_view, const crayon::generation_options&,
                                        crayon::piece_sink on_piece) {
    on_piece("(the server's answer)");
    crayon::remote_answer answer;
    answer.text = "(the server's answer)";
    return answer;
  }
};

int main() {
  auto device = crayon::engine::open<my_config>("device", "device/tokenizer.bin");
  const auto pool = crayon::adapter::load_pool<float>("pool.safetensors");
  if (!device || !pool) return 1;
  const std::vector<crayon::engine::sample> mine = {{"Add 5 days to 8 December.", "December 13"},
                                                    {"The sum of six and four?", "X"}};
  if (!device->customize(*pool, mine)) return 1;
  crayon::engine::hybrid_engine<my_config, somewhere> hybrid(
      *std::move(device), my_config::router(my_router{}, 0.5), somewhere{});
  for (const char* question :
       {"Add 4 days to 11 May.", "What is two plus three plus nine?", "What is nine plus seven?",
        "hey, i want to hear rock", "hey, play some jazz"}) {
    const auto answer = hybrid.answer(question);
    if (!answer) return 1;
    const auto& record = answer->record;
    std::printf("%-34s %-22s %s, %zu tokens wasted\n", question, answer->text.c_str(),
                std::string(name(record.reason)).c_str(), record.wasted_tokens);
  }
}
