// SPDX-License-Identifier: MIT
// expect: constraint
// expect: post
#include <crayon/serve/transport.hpp>

template <crayon::serve::transport T>
struct client {};

struct nowhere {
#ifdef CRAYON_BAD
  static crayon::result<crayon::serve::http_response> post(
      const crayon::serve::http_request& request){
#else
  static crayon::result<crayon::serve::http_response> post(
      const crayon::serve::http_request& request, crayon::serve::body_sink) {
#endif
      return crayon::error{crayon::errc::network_failed, request.url + ": nothing goes out"};
}
}
;

client<nowhere> c;
