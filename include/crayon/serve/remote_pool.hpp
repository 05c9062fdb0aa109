// SPDX-License-Identifier: MIT
// The device's half of customization by a pool that it does not have.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include <crayon/adapter/peft_body.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/json.hpp>
#include <crayon/match/blend_request.hpp>
#include <crayon/serve/pool_index.hpp>
#include <crayon/serve/score_media.hpp>
#include <crayon/serve/transport.hpp>

namespace crayon::serve {

struct remote_pool_options {
  std::string base_url;  ///< "http://host:port/v1"
  std::chrono::milliseconds deadline{30'000};                  ///< for each of the two requests
  std::size_t most_index_bytes = std::size_t{64} << 20;        ///< a longer index is refused
  std::size_t most_adapter_bytes = std::size_t{1} << 30;       ///< and so is a longer adapter
};

/// What left the device and what came back.
struct exchange_record {
  std::size_t sent_bytes = 0;  ///< of the body: the `blend_request` and nothing else
  std::size_t http_bytes = 0;  ///< that body, the download of the index, and the heads of both
  std::size_t index_bytes = 0;
  std::size_t adapter_bytes = 0;
};

/// Downloads a pool's index, and has the adapter made that its scores ask for. A `blend_request` is
/// the only thing that it can send: it has no way to a sample, an embedding or a prompt.
template <transport Transport>
class remote_pool {
 public:
  explicit remote_pool(remote_pool_options options, Transport carrier = Transport())
      : options_(std::move(options)), transport_(std::move(carrier)) {
    while (options_.base_url.ends_with('/')) options_.base_url.pop_back();
  }

  /// The index, downloaded by an empty POST (a `transport` knows no other method).
  [[nodiscard]] result<pool_index> index() {
    CRAYON_TRY(const std::string body,
               post("/pool/index", {}, "application/octet-stream", options_.most_index_bytes));
    record_.index_bytes = body.size();
    return read_pool_index(options_.base_url + "/pool/index", body);
  }

  /// The adapter for these scores. Errors: one that was made for another base model than
  /// `base_hash` (empty: any), and whatever else is wrong with it as a file; that its shapes are
  /// the model's is asked by whoever puts it in use.
  template <element E = float>
  [[nodiscard]] result<adapter::peft_adapter<E>> blend(const match::blend_request& request,
                                                       std::string_view base_hash) {
    std::string bytes = request.bytes();
    record_.sent_bytes = bytes.size();
    CRAYON_TRY(const std::string body,
               post("/blend", std::move(bytes), content_type(request.encoding()),
                    options_.most_adapter_bytes));
    record_.adapter_bytes = body.size();
    const std::string name = options_.base_url + "/blend";
    CRAYON_TRY(auto made, adapter::read_peft_body<E>(name, body));
    if (!base_hash.empty() && !made.info.base_hash.empty() && made.info.base_hash != base_hash) {
      return error{errc::mismatch, name + ": an adapter for the base model " +
                                       made.info.base_hash + ", this model has " +
                                       std::string(base_hash)};
    }
    if (!made.info.saved.empty()) {
      return error{errc::unsupported, name + ": an adapter with weights of its own, " +
                                          made.info.saved[0].name + ": a blend has none"};
    }
    return made;
  }

  [[nodiscard]] const exchange_record& record() const noexcept { return record_; }

 private:
  [[nodiscard]] result<std::string> post(const std::string& path, std::string body,
                                         std::string_view type, std::size_t most) {
    http_request request;
    request.url = options_.base_url + path;
    request.headers = {{"Content-Type", std::string(type)}};
    request.body = std::move(body);
    request.deadline = clock::now() + options_.deadline;
    request.max_response_bytes = most;
    request.limits.first_token = std::chrono::milliseconds(0);  // large blends take their time
    traffic counted;
    request.counted = &counted;
    std::string answer;
    const auto response =
        transport_.post(request, [&](const response_head&, std::string_view bytes) {
          answer += bytes;
          return true;
        });
    record_.http_bytes += counted.bytes_sent;
    if (!response) return response.error();
    const response_head& head = response->head;
    if (head.status == 200) return answer;
    const auto said = io::parse_json(answer.substr(0, 4096));
    std::string message;
    if (said.is_object() && said.contains("error") && said["error"].is_object()) {
      const auto text = said["error"].find("message");
      if (text != said["error"].end() && text->is_string()) message = text->get<std::string>();
    }
    return error{head.status == 409 ? errc::mismatch : errc::network_failed,
                 request.url + ": HTTP " + std::to_string(head.status) +
                     (message.empty() ? "" : ": " + message)};
  }

  remote_pool_options options_;
  Transport transport_;
  exchange_record record_;
};

}  // namespace crayon::serve
