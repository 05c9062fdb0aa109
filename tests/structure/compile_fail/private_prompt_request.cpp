// SPDX-License-Identifier: MIT
// expect: private_prompt
// expect: no match|no viable|cannot convert|conversion
#include <crayon/engine/private_prompt.hpp>

#include <crayon/serve/transport.hpp>

// What a transport sends, whatever is wrapped around it, is the text of a request's body.
crayon::serve::http_request request_of(std::string_view text) {
  crayon::serve::http_request request;
#ifdef CRAYON_BAD
  request.body = crayon::engine::private_prompt{std::string(text)};
#else
  request.body = text;
#endif
  return request;
}
