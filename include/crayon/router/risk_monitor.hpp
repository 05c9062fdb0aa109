// SPDX-License-Identifier: MIT
// Says when the risk of a threshold in use is no longer what was promised.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <string>

#include <crayon/core/result.hpp>

namespace crayon::router {

struct monitor_options {
  /// What the risk should not be above: the promise's alpha, or more. Of a promise in the mean,
  /// alpha itself is exceeded after about every second calibration: leave room.
  double bound = 0.1;
  double false_alarm = 0.01;  ///< probability of an alarm, ever, while the risk is at most `bound`
};

/// A test that may be looked at after each query, for as long as one likes. It bets on the next
/// loss being larger than `bound` allows: money grows by r/b after a loss of 1 and (1-r)/(1-b)
/// after 0 (b the bound, r > b what is bet on), which gains nothing in the mean unless the risk is
/// above b (Waudby-Smith, Ramdas 2024). Money is spread over five r, from odds a quarter above b's
/// to six times those, and over all times at which a drift may begin (Shiryaev; Shin, Ramdas,
/// Rinaldo 2023):
///   S_t = (S_{t-1} + w_t) factor_t,  w_t = 1/log2(t+1) - 1/log2(t+2), which sum to 1.
/// By Ville's inequality the sum is at least 1/p at some time with probability p at most. To notice
/// a drift to the risk q takes about (log(1/p) + log t + 2 log log t) / KL(q, b) queries after time
/// t.
///
/// It only says; nothing is adapted. Losses are of the queries that the promise counts (`of_all`:
/// of all, 0 where the server answered; `of_kept`: of those the device answered), or of a part of
/// them that was chosen without looking at whether they were right.
class risk_monitor {
 public:
  /// Errors: numbers outside (0, 1).
  [[nodiscard]] static result<risk_monitor> make(monitor_options options) {
    for (const double value : {options.bound, options.false_alarm}) {
      if (!(value > 0 && value < 1)) {
        return error{errc::bad_value, "risk monitor: " + std::to_string(value) +
                                          " is no probability between 0 and 1"};
      }
    }
    return risk_monitor(options);
  }

  /// The loss of the next query, 0 to 1. True: there is an alarm, now or since earlier.
  bool see(double loss) noexcept {
    CRAYON_ASSERT(loss >= 0 && loss <= 1);
    ++seen_;
    lost_ += loss;
    const auto t = static_cast<double>(seen_);
    const double starts = 1 / std::log2(t + 1) - 1 / std::log2(t + 2);
    evidence_ = 0;
    for (std::size_t j = 0; j < bets.size(); ++j) {
      money_[j] = (money_[j] + starts) * (loss * up_[j] + (1 - loss) * down_[j]);
      evidence_ += money_[j] / static_cast<double>(bets.size());
    }
    if (alarm_at_ == 0 && evidence_ * options_.false_alarm >= 1) alarm_at_ = seen_;
    return alarm();
  }

  /// It is time to calibrate again: the risk is above the bound, or the unlikely happened. Stays
  /// on.
  [[nodiscard]] bool alarm() const noexcept { return alarm_at_ != 0; }
  [[nodiscard]] std::size_t alarm_at() const noexcept { return alarm_at_; }  ///< query; 0: none
  [[nodiscard]] double evidence() const noexcept { return evidence_; }  ///< alarm: 1 / false_alarm
  [[nodiscard]] std::size_t seen() const noexcept { return seen_; }
  /// Mean loss so far.
  [[nodiscard]] double observed() const noexcept {
    return seen_ == 0 ? 0 : lost_ / static_cast<double>(seen_);
  }
  [[nodiscard]] const monitor_options& options() const noexcept { return options_; }

  /// For a new threshold.
  void restart() noexcept { *this = risk_monitor(options_); }

 private:
  static constexpr std::array<double, 5> bets{1.25, 1.5, 2, 3,
                                              6};  // odds, times those of the bound

  explicit risk_monitor(monitor_options options) noexcept : options_(options) {
    const double b = options.bound;
    for (std::size_t j = 0; j < bets.size(); ++j) {
      up_[j] = bets[j] / (1 - b + bets[j] * b);
      down_[j] = 1 / (1 - b + bets[j] * b);
    }
  }

  monitor_options options_;
  std::array<double, bets.size()> up_{}, down_{}, money_{};
  double evidence_ = 0;
  double lost_ = 0;
  std::size_t seen_ = 0;
  std::size_t alarm_at_ = 0;
};

}  // namespace crayon::router
