// SPDX-License-Identifier: MIT
// The blend service over HTTP: /v1/pool/index and /v1/blend.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include <httplib.h>

#include <crayon/core/result.hpp>
#include <crayon/serve/admission.hpp>
#include <crayon/serve/server_metrics.hpp>
#include <crayon/serve/server_options.hpp>

namespace crayon::serve {

/// 429 where too many wait already, 503 where no slot came free in time or the server stops; with
/// the time after which to try again.
inline void refuse(httplib::Response& out, refusal why, int retry_after_s) {
  if (why != refusal::closing) out.set_header("Retry-After", std::to_string(retry_after_s));
  refuse(out, why == refusal::full ? 429 : 503,
         why == refusal::full   ? "too many requests wait already"
         : why == refusal::late ? "all models are busy"
                                : "the server stops",
         why == refusal::full ? "rate_limit_exceeded" : "overloaded");
}

/// GET (or an empty POST) /v1/pool/index and POST /v1/blend of a `blend_service`. What is no
/// request is 400, another content type 415, another pool 409. `places` outlives the server's
/// threads: as many blends are made at a time as it has slots.
template <class Service>
void add_pool_routes(httplib::Server& http, std::shared_ptr<const Service> pool, admission& places,
                     std::chrono::milliseconds patience, server_metrics& metrics) {
  const auto index = [pool](const httplib::Request&, httplib::Response& out) {
    out.set_content(pool->index(), "application/octet-stream");
  };
  http.Get("/v1/pool/index", index);
  http.Post("/v1/pool/index", index);
  http.Post("/v1/blend", [pool, &places, &metrics, patience](const httplib::Request& in,
                                                             httplib::Response& out) {
    refusal why{};
    const auto place = places.enter(patience, why);
    if (!place) return refuse(out, why, 1);
    auto made = pool->answer(in.get_header_value("Content-Type"), in.body);
    if (!made) {
      const errc code = made.error().code;
      const bool type = code == errc::unsupported, other = code == errc::mismatch;
      return refuse(out, type ? 415 : other ? 409 : 400, made.error().text,
                    type ? "unsupported_media_type" : other ? "pool_mismatch" : "invalid_value");
    }
    metrics.count_blend();
    out.set_content(*std::move(made), "application/octet-stream");
  });
}

}  // namespace crayon::serve
