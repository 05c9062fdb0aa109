// SPDX-License-Identifier: MIT
// Server-sent events, as the WHATWG HTML standard (9.2.6) parses them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace crayon::serve {

/// Valid during the call it is handed to.
struct sse_event {
  std::string_view type;  ///< the `event:` field; empty: "message"
  std::string_view data;  ///< all `data:` lines of the event, joined by LF
};

/// Bytes in, in chunks of any size; events out. Lines end in CR, LF or CRLF, also across chunks;
/// lines that start with ':' are comments; an event without data is none; an event that the stream
/// ends in the middle of is none. `id:` and `retry:` are for clients that reconnect, and ignored.
class sse_parser {
 public:
  /// Calls `on_event(sse_event) -> bool` for each event that these bytes complete. False when
  /// on_event said so, and then the rest of the bytes is lost.
  template <class OnEvent>
  bool feed(std::string_view bytes, OnEvent&& on_event) {
    while (!bytes.empty()) {
      if (after_cr_ && bytes.front() == '\n') bytes.remove_prefix(1);
      after_cr_ = false;
      const std::size_t end = bytes.find_first_of("\r\n");
      if (end == std::string_view::npos) {
        line_ += bytes;
        return true;
      }
      line_ += bytes.substr(0, end);
      after_cr_ = bytes[end] == '\r';
      bytes.remove_prefix(end + 1);
      if (!end_of_line(on_event)) return false;
    }
    return true;
  }

  /// Events so far.
  [[nodiscard]] std::size_t count() const noexcept { return count_; }

 private:
  template <class OnEvent>
  bool end_of_line(OnEvent& on_event) {
    if (first_line_ && line_.starts_with("\xEF\xBB\xBF")) line_.erase(0, 3);
    first_line_ = false;
    bool go_on = true;
    if (!line_.empty()) {
      take_field(line_);
    } else {
      if (has_data_) {
        ++count_;
        data_.pop_back();  // the LF of the last line
        go_on = on_event(sse_event{type_, data_});
      }
      data_.clear();
      type_.clear();
      has_data_ = false;
    }
    line_.clear();
    return go_on;
  }

  void take_field(std::string_view line) {
    const std::size_t colon = line.find(':');
    if (colon == 0) return;
    const std::string_view field = line.substr(0, colon);
    std::string_view value = colon == std::string_view::npos ? "" : line.substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (field == "data") {
      data_.append(value).push_back('\n');
      has_data_ = true;
    } else if (field == "event") {
      type_ = value;
    }
  }

  std::string line_, data_, type_;
  std::size_t count_ = 0;
  bool has_data_ = false, after_cr_ = false, first_line_ = true;
};

}  // namespace crayon::serve
