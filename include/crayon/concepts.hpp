// SPDX-License-Identifier: MIT
// The contract: every policy axis as a concept. The trailing comments are what a compiler prints.
#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <crayon/core/element.hpp>
#include <crayon/core/function_ref.hpp>
#include <crayon/core/ranked_token.hpp>
#include <crayon/core/result.hpp>
#include <crayon/core/view.hpp>

namespace crayon {

// ---------------------------------------------------------------------------------- plain seams

/// Adapter `slot` of a pool takes part in a blend with `weight`.
struct weighted_slot {
  std::size_t slot = 0;
  float weight = 0;
};

/// What a router sees of one answer. NaN means: not measured.
struct signals {
  float max_probability;  ///< softmax of the best token, lowest over the answer so far
  float margin;           ///< best minus second probability, lowest so far
  float entropy;          ///< nats, highest so far
  float mean_log_prob;    ///< nats per token of the answer so far
  float scope_distance;   ///< distance of the query to the customized task in index space
  std::size_t tokens;     ///< tokens of the answer so far: 0 right after prefill
  float max_logit = std::numeric_limits<float>::quiet_NaN();  ///< of the best token, lowest so far
  /// -log sum_j exp(logit_j), highest so far (Liu et al., Energy-based out-of-distribution
  /// detection, 2020).
  float energy = std::numeric_limits<float>::quiet_NaN();
  /// Quantiles of the log-probabilities of the answer's tokens so far: a tenth and a half of them
  /// lie below, to 2 percent.
  float low_log_prob = std::numeric_limits<float>::quiet_NaN();
  float median_log_prob = std::numeric_limits<float>::quiet_NaN();
  /// Log-odds that the question is of no domain of the user's samples.
  float domain_mismatch = std::numeric_limits<float>::quiet_NaN();
  /// Of the question's tokens under the model without an adapter, nats per token: the logarithm of
  /// its perplexity.
  float question_surprise = std::numeric_limits<float>::quiet_NaN();
  std::size_t asked = 0;  ///< how often the router was asked about this query before
};

/// Who answers.
enum class route : std::uint8_t { device, server };

/// Takes an answer piece by piece (whole UTF-8 characters) as it comes; false stops it.
using piece_sink = function_ref<bool(std::string_view)>;

/// What to generate, for a model here or elsewhere.
struct generation_options {
  std::size_t max_tokens = 64;
  float temperature = 0;  ///< 0: greedy
  float top_p = 1;        ///< 1: off
  std::size_t top_k = 0;  ///< 0: off
  std::uint64_t seed = 0;
  std::vector<std::string> stop = {};            ///< the answer ends before the first of these
  std::uint32_t deadline_ms = 0;                 ///< for the whole call; 0: the callee's own
  const std::atomic<bool>* cancelled = nullptr;  ///< set by another thread: stop soon
};

/// What came back from a model elsewhere. `text` is what arrived, also when it failed on the way.
struct remote_answer {
  result<void> outcome;  ///< an error: the text is not a whole answer
  std::string text;
  std::size_t prompt_tokens = 0;  ///< as the server counts them; 0: it did not say
  std::size_t completion_tokens = 0;
  std::size_t attempts = 0;     ///< requests sent
  std::size_t bytes_sent = 0;   ///< of these requests, as HTTP
  int status = 0;               ///< of the last HTTP response; 0: there was none
  double deadline_left_ms = 0;  ///< when the call returned; below 0: it was late by that much
  std::string endpoint = {};    ///< whose answer or failure this is, a URL; empty: it has none
};

/// The low-rank factors of one adapter at one site: dW = scale * b * a.
template <element E>
struct factors_view {
  matrix_view<const E> a;  ///< (rank, in)
  matrix_view<const E> b;  ///< (out, rank)
  float scale = 1;

  [[nodiscard]] std::size_t rank() const noexcept { return a.rows; }
};

/// Sums the products of a vector with N weighted rows: dst = sum_i weight[i] * src[i].
template <class E>
struct weighted_rows {
  const float* weight;
  const E* const* src;
  std::size_t count;
};

/// Rows in tiles of `tile` elements that lie `stride` elements apart: src[i] is the first tile of
/// row i. An interleaved pool has its factors like this.
template <class E>
struct weighted_tiles {
  const float* weight;
  const E* const* src;
  std::size_t count;
  std::size_t tile;
  std::size_t stride;
};

// ----------------------------------------------------------------------------------------- axes

/// Runs independent tasks: `serial_executor`, `thread_pool`.
template <class X>
concept executor = requires(X& x, void (*task)(std::size_t)) {
  { x.concurrency() } -> std::convertible_to<std::size_t>;  // threads that may run tasks
  // task(0) ... task(n-1), then returns; what a task throws is thrown when no task runs any more
  x.parallel_for(std::size_t{}, task);
};

/// An executor, as a forwarding reference takes it.
template <class X>
concept executor_reference = executor<std::remove_reference_t<X>>;

/// The kernels for one element type of the stored operand; activations are always f32.
template <class B, class E>
concept kernels_for = requires(float s, const float* x, float* y, E* e, const E* p, std::size_t n,
                               matrix_view<const E> w, matrix_view<const float> u,
                               matrix_view<float> m, weighted_rows<E> rows,
                               weighted_tiles<E> tiles) {
  { B::dot(p, x, n) } -> std::same_as<float>;  // sum_j p[j] x[j]
  B::axpy(s, p, y, n);                         // y[j] += s p[j]
  B::gemv(w, x, y);                            // y = W x; y has W.rows, x has W.cols
  B::gemv_t(w, x, y);                          // y = W^T x; y has W.cols, x has W.rows
  B::gemv_add(s, w, x, y);                     // y += s W x
  B::weighted_sum(rows, e, n);                 // e[j] = sum_i w_i src_i[j], rounded once
  B::weighted_sum(tiles, e, n, bool{});        // the same; true: e is not read soon, past caches
  B::weighted_sums(tiles, n, e, n, n);         // e[q, j] = sum_i w_iq src_i[j]; w (count, sums)
  B::weighted_row_sums(tiles, n, n, e, n, y);  // e (rows, sums) = [S_1 S_2 ...] W; S_i (rows, cols)
  B::gemm_nt(u, w, m, bool{});                 // M (+)= U W^T; U (m,k), W (n,k), M (m,n)
  B::gemm_nn(u, w, m, bool{});                 // M (+)= U W;   U (m,k), W (k,n), M (m,n)
};

/// A closed set of kernels, compiled for some instruction set: `simd::scalar`,
/// `simd::highway_static`, `simd::highway_dynamic`, `simd::xsimd_static`.
template <class B>
concept kernel_backend = kernels_for<B, float> && kernels_for<B, bf16> && kernels_for<B, f16> &&
    requires(float s, const float* x, float* y, std::size_t n, matrix_view<const float> u,
             matrix_view<float> m, std::span<ranked_token> likeliest) {
  { B::name() } -> std::convertible_to<std::string_view>;  // "highway_static/AVX3"
  B::ger(s, x, x, m);           // M += s x y^T; x has M.rows, y has M.cols
  B::gemm_tn(u, u, m, bool{});  // M (+)= U^T V; U (k,m), V (k,n), M (m,n)
  B::softmax(y, n);             // in place, the maximum subtracted first
  B::rms_norm(x, x, s, y, n);   // y = x / sqrt(mean(x^2) + s) * weight
  B::silu_mul(x, x, y, n);      // y = x * sigmoid(x) * up
  // from x, up and dy: dx and d_up, which may not be the same memory as what is read
  B::silu_mul_backward(x, x, x, y, y, n);
  B::softmax_backward(s, x, y, n);  // from p: y = s p (y - sum_j p_j y_j)
  { B::sum_squares(x, n) } -> std::same_as<float>;
  // of n logits, and the likeliest of them in falling order, equal ones in the order of tokens
  { B::summarize(x, n, likeliest) } -> std::same_as<logit_summary>;
};

/// One adapter: low-rank factors at named sites.
template <class A>
concept adapter_storage = element<typename A::element_type> &&
    requires(const A& a, std::size_t i, std::string_view module) {
  { a.size() } -> std::convertible_to<std::size_t>;          // number of sites
  { a.module(i) } -> std::convertible_to<std::string_view>;  // "model.layers.0.mlp.up_proj"
  { a.factors(i) } -> std::same_as<factors_view<typename A::element_type>>;
};

/// What the forward pass adds at each site: nothing, one adapter, or a weighted set of adapters.
template <class D>
concept adapter_delta = requires(const D& d, std::size_t site, matrix_view<const float> x,
                                 matrix_view<float> y, std::span<const std::int32_t> tokens,
                                 float* scratch) {
  { d.scratch_size() } -> std::convertible_to<std::size_t>;  // floats needed per token
  d.add(site, x, y, scratch);           // y (tokens, out) += x (tokens, in) dW^T, and d bias
  d.add_embedding(tokens, y, scratch);  // y (tokens, dim) += the change of each token's embedding
};

/// Several adapters of one base model over the same sites, each with an index vector.
template <class P>
concept adapter_pool = element<typename P::element_type> && requires(const P& p, std::size_t i) {
  { p.size() } -> std::convertible_to<std::size_t>;               // number of adapters
  { p.sites() } -> std::convertible_to<std::size_t>;              // number of sites of each adapter
  { p.index(i) } -> std::convertible_to<std::span<const float>>;  // unit vector of adapter i
};

/// Which sites of a mapped pool stay in memory: `adapter::keep_all`, `adapter::lru`,
/// `adapter::pinned`. Whatever it lets go comes back from the file when it is read again.
template <class R>
concept residency_policy = std::move_constructible<R> &&
    requires(R& r, std::span<const std::size_t> bytes, std::size_t site,
             function_ref<result<void>(std::size_t)> pin, function_ref<void(std::size_t)> let_go) {
  // before anything else: the bytes of every site; pin(site) keeps one in memory for good
  { r.start(bytes, pin) } -> std::same_as<result<void>>;
  r.use(site, let_go);  // the site is about to be read; several threads may call it at once
};

/// Pool and weights -> one adapter (or a delta that keeps the sum exact).
template <class B, class Pool>
concept blend_policy = requires(const Pool& pool, std::span<const weighted_slot> weights) {
  { B::name() } -> std::convertible_to<std::string_view>;
  {B::blend(pool, weights)};  // result<adapter or delta>; refuses weights that are not finite
};

/// Hidden states of one sample's tokens -> its vector f(x); the part of the prompt comes first.
template <class F>
concept embedding_policy = std::constructible_from<F, std::size_t, std::span<float>> &&
    requires(F& f, std::size_t i, std::span<const float> hidden) {
  { F::name() } -> std::convertible_to<std::string_view>;
  { F::size(i) } -> std::convertible_to<std::size_t>;  // length of f(x) for hidden states of i
  {
    F::known(i, i)
    } -> std::convertible_to<std::size_t>;          // (states of, prompt tokens): so many
                                                    // elements of f(x) need no completion
  { F::uses_errors } -> std::convertible_to<bool>;  // true: also add_error(i, error of token i+1)
  f.add(i, hidden);                                 // the state of token i, in order
  f.finish();                                       // f(x) is in the span it was made with
};

/// Embeddings of a user's samples -> one weight per adapter of the pool.
template <class M>
concept matcher = requires(const M& m, matrix_view<const float> index,
                           matrix_view<const float> samples) {
  { M::name() } -> std::convertible_to<std::string_view>;
  // index (N, c d): c centroids of each adapter side by side, mostly one; samples (S, d); rows of
  // unit length -> N weights
  { m.weights(index, samples) } -> std::convertible_to<std::vector<float>>;
};

/// The input of one layer -> one weight per adapter there: `match::arrow`.
template <class M>
concept site_matcher = requires(const M& m, matrix_view<const float> prototypes, const float* x,
                                float* weights) {
  { M::name() } -> std::convertible_to<std::string_view>;
  m.coefficients(prototypes, x, weights);  // (N, in), x (in) -> weights (N), sum 1, none below 0
};

/// Signals -> who answers.
template <class R>
concept router_policy = requires(const R& r, const signals& s) {
  { r.decide(s) } -> std::same_as<route>;
};

/// A larger model elsewhere.
template <class R>
concept remote = requires(R& r, std::string_view prompt, const generation_options& options,
                          piece_sink on_piece) {
  // returns before the deadline, whatever the network does; on_piece runs on the calling thread
  { r.complete(prompt, options, on_piece) } -> std::same_as<remote_answer>;
};

/// Logits -> the next token. The span may be reordered and overwritten.
template <class S>
concept sampler = requires(S& s, std::span<float> logits) {
  { s(logits) } -> std::convertible_to<std::int32_t>;
};

/// Text <-> token ids. (The namespace has the shorter name.)
template <class T>
concept text_tokenizer = requires(const T& t, std::string_view text, std::int32_t id) {
  { t.size() } -> std::convertible_to<std::size_t>;                      // vocabulary
  { t.encode(text) } -> std::convertible_to<std::vector<std::int32_t>>;  // without BOS
  { t.decode(id) } -> std::convertible_to<std::string_view>;             // the bytes of one token
  { t.bos() } -> std::convertible_to<std::int32_t>;
  { t.eos() } -> std::convertible_to<std::int32_t>;
};

}  // namespace crayon
