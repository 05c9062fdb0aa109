// SPDX-License-Identifier: MIT
// The edge server's half of customization: scores in, one adapter out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/adapter/peft_body.hpp>
#include <crayon/adapter/pool_hash.hpp>
#include <crayon/blend/recorded.hpp>
#include <crayon/blend/weights.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/hash.hpp>
#include <crayon/core/result.hpp>
#include <crayon/match/blend_request.hpp>
#include <crayon/serve/pool_index.hpp>
#include <crayon/serve/score_media.hpp>

namespace crayon::serve {

/// Answers for one pool. Any number of threads may ask at once. The blend is the one that the pool
/// records; scores below `blend::negligible` are left out, as on a device that has the pool.
template <class Pool, kernel_backend B>
class blend_service {
 public:
  /// Errors: a pool without index vectors, with too many adapters, for a blend that is not known.
  [[nodiscard]] static result<blend_service> make(Pool pool) {
    if (pool.index().cols == 0) {
      return error{errc::bad_value, "the pool has no index vectors: no device can score it"};
    }
    if (pool.size() > match::blend_request::most_scores) {
      return error{errc::unsupported, "a pool of " + std::to_string(pool.size()) +
                                          " adapters, at most " +
                                          std::to_string(match::blend_request::most_scores)};
    }
    if (const auto known = blend::recorded<B>::policy(pool.info()); !known) return known.error();
    CRAYON_TRY(std::string index, pool_index_body(pool));
    const std::uint64_t hash = adapter::pool_hash(pool);
    return blend_service(std::move(pool), std::move(index), hash);
  }

  /// The body of GET /v1/pool/index.
  [[nodiscard]] const std::string& index() const noexcept { return index_; }
  [[nodiscard]] const Pool& pool() const noexcept { return pool_; }

  /// The body of POST /v1/blend -> that of its answer (`adapter::peft_body`). Errors: bad_format,
  /// bad_shape and bad_value for what is no request, mismatch for one about another pool.
  [[nodiscard]] result<std::string> answer(std::string_view type, std::string_view body) const {
    const auto encoding = encoding_of(type);
    if (!encoding) {
      return error{errc::unsupported, "the content type is \"" + std::string(type) + "\", needs " +
                                          std::string(scores_f32_type) + " or " +
                                          std::string(scores_u8_type)};
    }
    CRAYON_TRY(const auto request, match::blend_request::read(body, *encoding));
    if (request.pool() != hash_) {
      return error{errc::mismatch, "the request is about the pool " + hex(request.pool()) +
                                       ", this server has " + hex(hash_)};
    }
    if (request.size() != pool_.size()) {
      return error{errc::bad_shape, std::to_string(request.size()) + " scores, the pool has " +
                                        std::to_string(pool_.size()) + " adapters"};
    }
    CRAYON_TRY(const auto made,
               blend::recorded<B>::blend(
                   pool_, blend::slots_of(request.scores(), blend::negligible)));
    adapter::peft_info info;
    info.base_model = pool_.info().base_model;
    info.base_hash = pool_.info().base_hash;
    return adapter::peft_body("the blend", made, std::move(info));
  }

 private:
  blend_service(Pool pool, std::string index, std::uint64_t hash)
      : pool_(std::move(pool)), index_(std::move(index)), hash_(hash) {}

  Pool pool_;
  std::string index_;
  std::uint64_t hash_;
};

}  // namespace crayon::serve
