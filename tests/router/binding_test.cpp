// SPDX-License-Identifier: MIT
#include <crayon/router/binding.hpp>

#include <string>

#include "../catch.hpp"

namespace {

using crayon::errc;
using crayon::router::binding;
using crayon::router::binding_fields;
using crayon::router::check_binding;
using crayon::router::check_stated;

}  // namespace

TEST_CASE("thresholds are refused wherever one field is another", "[router]") {
  const binding bound{"aa", "F32", "bb", "concat of cc", "none", "large", "dd"};
  CHECK(check_binding(bound, bound, "r.json"));
  for (const auto& [field, member] : binding_fields) {
    binding used = bound;
    used.*member = "zz";
    auto checked = check_binding(bound, used, "r.json");
    REQUIRE_FALSE(checked);
    CHECK(checked.error().code == errc::mismatch);
    CHECK(checked.error().text == "r.json: its thresholds were fitted to the " +
                                      std::string(field) + " " + bound.*member + ", not to zz");
    (used.*member).clear();  // not known: no match
    checked = check_binding(bound, used, "r.json");
    REQUIRE_FALSE(checked);
    CHECK(checked.error().text.find("not to one that is not known") != std::string::npos);

    binding empty = bound;  // an empty field does not match everything
    (empty.*member).clear();
    checked = check_binding(empty, bound, "r.json");
    REQUIRE_FALSE(checked);
    CHECK(checked.error().text.find("bound_to." + std::string(field) + " is missing or empty") !=
          std::string::npos);

    binding any = bound;  // that takes a word
    any.*member = binding::any_of_them;
    CHECK(check_binding(any, used, "r.json"));
    const bool may_vary = field == "adapter" || field == "server";
    CHECK(bool{check_stated(any, true, "r.json")} == may_vary);
    CHECK(check_stated(any, false, "r.json"));
  }
}
