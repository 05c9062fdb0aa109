// SPDX-License-Identifier: MIT
#include <array>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <crayon/adapter/pool_file.hpp>
#include <crayon/core/rng.hpp>
#include <crayon/engine/open.hpp>
#include <crayon/engine/router_binding.hpp>
#include <crayon/router/conformal_risk_control.hpp>
#include <crayon/router/fixed_sequence.hpp>
#include <crayon/router/risk_monitor.hpp>
#include <crayon/serve/router_file.hpp>

using namespace crayon;
using router::signal_kind;

namespace {

/// A question and its answer, as the adapter "date/month day" gives it.
engine::sample date_question(rng& random) {
  static constexpr std::array<std::pair<const char*, std::size_t>, 12> year{{{"January", 31},
                                                                             {"February", 28},
                                                                             {"March", 31},
                                                                             {"April", 30},
                                                                             {"May", 31},
                                                                             {"June", 30},
                                                                             {"July", 31},
                                                                             {"August", 31},
                                                                             {"September", 30},
                                                                             {"October", 31},
                                                                             {"November", 30},
                                                                             {"December", 31}}};
  const std::size_t m = random.below(12);
  const auto [month, days] = year[m];
  const std::size_t day = 1 + random.below(days), ahead = 1 + random.below(9);
  const bool next = day + ahead > days;
  return {"Add " + std::to_string(ahead) + " days to " + std::to_string(day) + " " + month + ".",
          year[next ? (m + 1) % 12 : m].first +
              (" " + std::to_string(day + ahead - (next ? days : 0)))};
}

/// How risky the device's answer looked, and whether it was wrong.
struct outcome {
  float risk, loss;
};

outcome ask(engine::device_engine<>& device, const engine::sample& about) {
  const auto answer = device.answer(about.prompt);
  if (!answer) return {router::not_measured, 1};
  return {router::as_risk(answer->seen.max_probability, signal_kind::max_probability),
          answer->text == about.completion ? 0.0F : 1.0F};
}

}  // namespace

int main() {
  auto device = engine::open("device", "device/tokenizer.bin");
  const auto pool = adapter::load_pool<float>("pool.safetensors");
  if (!device || !pool || !device->use(pool->extract(10))) return 1;  // date/month day

  rng random(1);
  std::vector<float> risks, losses;
  for (int i = 0; i < 250; ++i) {
    const auto [risk, loss] = ask(*device, date_question(random));
    risks.push_back(risk);
    losses.push_back(loss);
  }

  // The grid does not come from these risks: a probability is between 0 and 1.
  const router::fixed_sequence calibrator(router::even_grid(-1, 0, 101),
                                          {.alpha = 0.1, .delta = 0.05});
  const auto fitted = calibrator.fit(risks, losses);
  if (!fitted) return 1;  // fitted.error().text says why
  serve::router_file made;
  made.policy.promised = {*fitted, signal_kind::max_probability, router::seen_at::after_answer};
  made.bound_to = engine::binding_of(device->base(), *device->blended());
  made.bound_to.server = router::binding::any_of_them;
  if (!serve::write_router("router.json", made)) return 1;
  std::puts(router::words(fitted->made).c_str());

  // Later: the file holds for this adapter, and for no other.
  const auto read = serve::read_router("router.json");
  if (!read) return 1;
  const auto check = [&] {
    const auto used = engine::binding_of(device->base(), *device->blended());
    const auto holds = router::check_binding(read->bound_to, used, "router.json");
    std::puts(holds ? "router.json holds" : holds.error().text.c_str());
  };
  check();
  if (!device->use(pool->extract(11))) return 1;
  check();
  // What cannot be promised is not guessed.
  const auto none = router::conformal_risk_control(0.001).fit(risks, losses);
  std::puts(none ? "?" : none.error().text.c_str());

  // In use, where right answers become known. The adapter is another one now.
  auto monitor = router::risk_monitor::make({.bound = 0.1, .false_alarm = 0.01});
  for (int i = 0; i < 200 && !monitor->alarm(); ++i) {
    const auto [risk, loss] = ask(*device, date_question(random));
    monitor->see(read->policy.promised->at.keeps(risk) ? double{loss} : 0.0);
  }
  std::puts(monitor->alarm() ? "the risk is above 0.1: calibrate again" : "no alarm");
}
