// SPDX-License-Identifier: MIT
// A model on the device, customized by a pool and a few samples.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/engine/answer_text.hpp>
#include <crayon/engine/base_model.hpp>
#include <crayon/engine/config.hpp>
#include <crayon/engine/device_answer.hpp>
#include <crayon/engine/hot_swap.hpp>
#include <crayon/engine/matched_samples.hpp>
#include <crayon/engine/next_token.hpp>
#include <crayon/engine/private_prompt.hpp>
#include <crayon/engine/question_measures.hpp>
#include <crayon/engine/sample.hpp>
#include <crayon/engine/sinks.hpp>
#include <crayon/model/delta.hpp>
#include <crayon/model/llama.hpp>
#include <crayon/router/signals.hpp>

namespace crayon::engine {

/// One conversation partner: a session over a shared model, with the adapter in use. Answers one
/// prompt at a time; `fork` makes another for another thread.
template <class Config = default_config>
class device_engine {
  static_assert(engine_config<Config>);

 public:
  using config_type = Config;
  using backend = typename Config::backend;
  using executor_type = typename Config::executor;
  using adapter_element = typename Config::adapter_element;
  using pool_type = adapter::pool<adapter_element>;
  /// What the blend policy makes of a pool.
  using blended_type = typename decltype(Config::blend::blend(
      std::declval<const pool_type&>(),
      std::declval<std::span<const weighted_slot>>()))::value_type;
  /// An adapter that is replaced while engines run with it.
  using live_type = hot_swap<backend, adapter_element>;

  /// `context`: the tokens that prompt and answer have room for, see `base_model::context`. Errors:
  /// one above the model's, a tokenizer whose size is not the model's vocabulary.
  [[nodiscard]] static result<device_engine> make(
      model::llama_weights<typename Config::element> weights, typename Config::tokenizer tokens,
      std::shared_ptr<executor_type> threads = std::make_shared<executor_type>(),
      std::size_t context = 0) {
    if (tokens.size() != weights.config().vocab) {
      return error{errc::mismatch, "the tokenizer has " + std::to_string(tokens.size()) +
                                       " pieces, the model's vocabulary " +
                                       std::to_string(weights.config().vocab)};
    }
    std::string hash = weights.hash();
    auto base = std::make_shared<const base_model<Config>>(
        base_model<Config>{std::move(weights), std::move(tokens), std::move(hash)});
    CRAYON_TRY(const std::size_t room, base->context(context));
    return device_engine(std::move(base), std::move(threads), room);
  }

  /// Another session over the same model with the same adapter and room. An executor that runs one
  /// region at a time must not be shared between sessions of different threads.
  [[nodiscard]] device_engine fork(
      std::shared_ptr<executor_type> threads = std::make_shared<executor_type>()) const {
    device_engine other(base_, std::move(threads), session_.context());
    other.owner_ = owner_;
    other.blended_ = blended_;
    other.delta_ = delta_;
    other.task_ = task_;
    other.live_ = live_;
    other.measures_ = measures_;
    return other;
  }

  [[nodiscard]] const base_model<Config>& base() const noexcept { return *base_; }
  [[nodiscard]] std::size_t context() const noexcept { return session_.context(); }

  /// What `begin` is to measure besides; before `customize`, which places the samples. Errors: a
  /// space of domains for states of another length.
  [[nodiscard]] result<void> also_measure(const question_measures& what) {
    CRAYON_TRY(measures_, what.checked(base_->weights.config().dim));
    return {};
  }

  /// Samples -> embeddings -> weights over the pool -> one adapter, in use from now on. Nothing is
  /// trained. After an error everything is as it was. Errors: no samples, a sample that is longer
  /// than the context, a pool that was made for something else and no override that names it.
  [[nodiscard]] result<customization> customize(const pool_type& pool,
                                                std::span<const sample> samples,
                                                pool_overrides overrides = {}) {
    const auto start = clock::now();
    CRAYON_TRY(auto matched, match_samples<Config>(*base_, session_, pool, samples, overrides,
                                                   measures_, *threads_));
    customization made{matched.weights(), matched.site_weights(), 0, 0};
    const auto done = clock::now();
    CRAYON_TRY(auto blended, matched.blend(pool, made, *threads_));
    made.embed_ms = milliseconds(done - start);
    made.blend_ms = milliseconds(clock::now() - done);
    CRAYON_CHECK(adopt(std::make_shared<const blended_type>(std::move(blended)), blended_));
    task_ = std::move(matched.task);
    return made;
  }

  /// The same with a pool that is elsewhere (`serve::remote_pool`): its index comes here, scores go
  /// there, unless the pool is of another base model or embedding, and an adapter comes back. A
  /// matcher that weighs each site has no part in this: a request has room for one score each.
  template <remote_index Remote>
    requires crayon::matcher<typename Config::matcher>
  [[nodiscard]] result<customization> customize(Remote& pool, std::span<const sample> samples,
                                                const remote_options& options = {},
                                                pool_overrides overrides = {}) {
    const auto start = clock::now();
    CRAYON_TRY(auto matched, match_remotely<Config>(*base_, session_, pool, samples, options,
                                                    overrides, measures_, *threads_));
    const auto scores = matched.second.scores();
    customization made{{scores.begin(), scores.end()}, {}, 0, 0};
    const auto done = clock::now();
    CRAYON_TRY(auto answer, pool.template blend<adapter_element>(matched.second, base_->hash));
    made.embed_ms = milliseconds(done - start);
    made.blend_ms = milliseconds(clock::now() - done);
    CRAYON_CHECK(use(std::move(answer.adapter)));
    task_ = std::move(matched.first.task);
    return made;
  }

  /// Puts an adapter in use that was made elsewhere. The scope of its task is not known: scope
  /// distances are not measured. Errors: modules or shapes that are not the model's.
  template <adapter_storage A>
    requires std::same_as<typename A::element_type, adapter_element>
  [[nodiscard]] result<void> use(A made) { return use(std::make_shared<const A>(std::move(made))); }
  /// The same with one that several engines share.
  template <class A>
  [[nodiscard]] result<void> use(std::shared_ptr<const A> made) {
    std::shared_ptr<const A> same;
    CRAYON_CHECK(adopt(std::move(made), same));
    blended_ = nullptr;
    if constexpr (std::same_as<A, blended_type>) blended_ = same;
    task_ = nullptr;
    return {};
  }

  /// The same with weights that are known already, of all adapters of the pool or of some.
  [[nodiscard]] result<void> use(const pool_type& pool, std::span<const weighted_slot> weights) {
    CRAYON_TRY(auto blended, Config::blend::blend(pool, weights));
    return use(std::make_shared<const blended_type>(std::move(blended)));
  }

  /// From now on each answer is given with the adapter that is in use in `live` when it begins, the
  /// same to its end; another thread may update it at any time. The scope of its task is not known.
  void follow(std::shared_ptr<live_type> live) {
    use_base();
    live_ = std::move(live);
  }

  /// The model as it was before any adapter.
  void use_base() {
    live_ = nullptr;
    delta_ = delta_type(base_->weights.config());
    owner_ = nullptr;
    blended_ = nullptr;
    task_ = nullptr;
  }

  /// The adapter in use, if it is of the blend policy's type: to save it, to look at it.
  [[nodiscard]] const blended_type* blended() const noexcept { return blended_.get(); }

  /// The whole answer to a prompt; `on_piece` sees it grow.
  [[nodiscard]] result<device_answer> answer(std::string_view prompt,
                                             const generation_options& options = {},
                                             piece_sink on_piece = ignore_pieces) {
    CRAYON_CHECK(begin(prompt));
    return finish(options, on_piece);
  }
  [[nodiscard]] result<device_answer> answer(const private_prompt& prompt,
                                             const generation_options& options = {},
                                             piece_sink on_piece = ignore_pieces) {
    return answer(std::string_view(prompt.text_), options, on_piece);
  }

  /// The first half of `answer`: everything that is known before a token is generated. Errors: a
  /// prompt that does not fit the context.
  [[nodiscard]] result<signals> begin(std::string_view prompt) {
    const auto start = clock::now();
    const std::vector<std::int32_t> ids = encode_prompt(base_->tokens, prompt);
    session_.reset();
    CRAYON_CHECK(session_.check(ids));
    seen_ = measures_.measure(session_, ids, task_.get(), *threads_);
    if (live_) pinned_ = live_->pin();
    logits_ = session_.prefill(ids, delta(), *threads_);
    prompt_tokens_ = ids.size();
    seen_.look(router::measure<backend>(logits_, next_.likeliest(1)));
    spent_ = clock::now() - start;
    return seen_.value();
  }

  /// The second half; once after each `begin`, and before anything else is asked of this engine.
  [[nodiscard]] result<device_answer> finish(const generation_options& options = {},
                                             piece_sink on_piece = ignore_pieces,
                                             token_sink on_token = ignore_tokens,
                                             signals_sink go_on = always_go_on) {
    CRAYON_ASSERT(!logits_.empty() && "begin comes first");
    const auto start = clock::now();
    const auto deadline = start - spent_ + std::chrono::milliseconds(options.deadline_ms);
    answer_text text(options.stop, puts_space_first_, on_piece);
    auto draw = sampler_of<Config>(options);
    device_answer done;
    done.prompt_tokens = prompt_tokens_;
    done.finished = finish_reason::length;
    while (done.tokens < options.max_tokens) {
      const std::int32_t token = next_.draw(draw, logits_);
      if (tokenizer::ends_text(base_->tokens, token)) {
        done.finished = finish_reason::stop;
        break;
      }
      seen_.take(logits_[static_cast<std::size_t>(token)]);
      ++done.tokens;
      on_token(token, logits_);
      if (!go_on(seen_.value())) {
        done.finished = finish_reason::handed_over;
      } else if (!text.add(base_->tokens.decode(token))) {
        done.finished = text.stopped() ? finish_reason::stop : finish_reason::cancelled;
      }
      if (done.finished != finish_reason::length) break;
      if (done.tokens == options.max_tokens || session_.position() == session_.context()) break;
      const bool cancelled = options.cancelled != nullptr && options.cancelled->load();
      if (cancelled || (options.deadline_ms != 0 && clock::now() >= deadline)) {
        done.finished = cancelled ? finish_reason::cancelled : finish_reason::deadline;
        break;
      }
      logits_ = session_.forward(token, delta(), *threads_);
      seen_.look(router::measure<backend>(logits_, next_.likeliest(options.top_k)));
    }
    logits_ = {};
    pinned_ = {};
    if (done.finished < finish_reason::cancelled) text.finish();
    done.text = std::move(text.text());
    done.seen = seen_.value();
    done.milliseconds = milliseconds(spent_ + (clock::now() - start));
    return done;
  }

 private:
  using clock = std::chrono::steady_clock;
  using delta_type = model::lora_delta<backend, adapter_element>;
  using session_type = model::llama_session<backend, typename Config::element>;
  device_engine(std::shared_ptr<const base_model<Config>> base,
                std::shared_ptr<executor_type> threads, std::size_t context)
      : base_(std::move(base)),
        threads_(std::move(threads)),
        session_(base_->weights, context),
        delta_(base_->weights.config()) {
    const auto ids = base_->tokens.encode("a");
    puts_space_first_ = !ids.empty() && base_->tokens.decode(ids.front()).starts_with(' ');
  }

  [[nodiscard]] const delta_type& delta() const noexcept { return pinned_ ? *pinned_ : delta_; }

  [[nodiscard]] static double milliseconds(clock::duration time) noexcept {
    return std::chrono::duration<double, std::milli>(time).count();
  }

  template <class A>
  [[nodiscard]] result<void> adopt(std::shared_ptr<const A> made, std::shared_ptr<const A>& slot) {
    CRAYON_TRY(auto bound, delta_type::bind(base_->weights.config(), *made));
    live_ = nullptr;
    delta_ = std::move(bound);
    owner_ = made;
    slot = std::move(made);
    return {};
  }

  std::shared_ptr<const base_model<Config>> base_;
  std::shared_ptr<executor_type> threads_;
  session_type session_;
  delta_type delta_;  // refers to the factors of owner_; nothing where live_ is followed
  std::shared_ptr<const void> owner_;
  std::shared_ptr<const blended_type> blended_;          // null unless owner_ has that type
  std::shared_ptr<const customized_task<Config>> task_;  // null unless customized from samples
  std::shared_ptr<live_type> live_;                      // null unless followed
  question_measures measures_;
  bool puts_space_first_ = false;
  // Between begin and finish.
  typename live_type::pinned pinned_;
  std::span<float> logits_;
  next_token next_;
  router::answer_signals seen_;
  std::size_t prompt_tokens_ = 0;
  clock::duration spent_{};
};

}  // namespace crayon::engine
