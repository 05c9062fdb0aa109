// SPDX-License-Identifier: MIT
// expect: constraint
// expect: transport
#include <crayon/serve/circuit_breaker.hpp>
#include <crayon/serve/retrying.hpp>

struct nowhere {
#ifdef CRAYON_BAD
  static crayon::result<void> post(const crayon::serve::http_request& request,
                                   crayon::serve::body_sink){
#else
  static crayon::result<crayon::serve::http_response> post(
      const crayon::serve::http_request& request, crayon::serve::body_sink) {
#endif
      return crayon::error{crayon::errc::network_failed, request.url + ": nothing goes out"};
}
}
;

crayon::serve::retrying<crayon::serve::circuit_breaker<nowhere>> t;
