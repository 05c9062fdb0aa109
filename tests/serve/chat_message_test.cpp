// SPDX-License-Identifier: MIT
#include <crayon/serve/chat_message.hpp>

#include <vector>

#include "../catch.hpp"

TEST_CASE("the prompt of a chat is its last user message", "[serve]") {
  using crayon::serve::chat_message;
  using crayon::serve::last_user_message;
  const std::vector<chat_message> chat{{"system", "Be brief."},
                                       {"user", "first"},
                                       {"assistant", "yes"},
                                       {"user", "second"},
                                       {"assistant", "and then"}};
  CHECK(last_user_message(chat) == "second");
  CHECK(last_user_message(chat).data() == chat[3].content.data());  // a view, not a copy
  CHECK(last_user_message(std::span(chat).first(3)) == "first");
  CHECK(last_user_message(std::span(chat).first(1)).empty());
  CHECK(last_user_message({}).empty());
  const std::vector<chat_message> other{{"User", "a role is its exact name"}, {"user", ""}};
  CHECK(last_user_message(other).empty());
}
