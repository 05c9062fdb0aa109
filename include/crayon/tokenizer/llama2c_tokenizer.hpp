// SPDX-License-Identifier: MIT
// The tokenizer of llama2.c: SentencePiece pieces with scores, in a `tokenizer.bin`.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <crayon/concepts.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>
#include <crayon/tokenizer/merge_queue.hpp>

namespace crayon::tokenizer {

/// One entry of a vocabulary.
struct scored_piece {
  std::string text;  ///< bytes, or "<0x0A>" for one raw byte
  float score = 0;   ///< the adjacent pair whose concatenation scores best is merged first

  friend bool operator==(const scored_piece&, const scored_piece&) = default;
};

/// Ids 0, 1, 2 are <unk>, <s>, </s>; 3 ... 258 are the raw bytes that code points outside the
/// vocabulary fall back to. Encodes and decodes as llama2.c's run.c, in n log n instead of n^2.
class llama2c_tokenizer {
 public:
  static constexpr std::int32_t end_of_sequence = 2;  ///< </s>
  static constexpr std::int32_t first_byte = 3;

  /// Errors: fewer than 3 pieces, a score that is NaN.
  [[nodiscard]] static result<llama2c_tokenizer> make(std::vector<scored_piece> pieces,
                                                      std::string_view source = "vocabulary") {
    if (pieces.size() < 3) {
      return error{errc::bad_format, std::string(source) + ": " + std::to_string(pieces.size()) +
                                         " pieces, a vocabulary has at least <unk>, <s>, </s>"};
    }
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      if (std::isnan(pieces[i].score)) {
        return error{errc::bad_value,
                     std::string(source) + ": the score of piece " + std::to_string(i) + " is NaN"};
      }
    }
    return llama2c_tokenizer(std::move(pieces));
  }

  /// Reads a tokenizer.bin: i32 longest piece, then f32 score, i32 length, bytes of each piece.
  /// Errors: a missing or truncated file, `vocab` pieces expected (0: any number) and others found.
  [[nodiscard]] static result<llama2c_tokenizer> load(const std::string& path,
                                                      std::size_t vocab = 0) {
    CRAYON_TRY(const io::mapped_file file, io::mapped_file::open(path));
    const std::string_view bytes(reinterpret_cast<const char*>(file.bytes().data()), file.size());
    reader in{bytes, 0};
    const auto longest = in.take<std::int32_t>();
    if (!in.good || longest <= 0 || longest > longest_allowed) {
      return error{errc::bad_format, path + ": not a tokenizer.bin: its longest piece would have " +
                                         (in.good ? std::to_string(longest) : std::string("no")) +
                                         " bytes"};
    }
    std::vector<scored_piece> pieces;
    while (in.at < bytes.size()) {
      const auto score = in.take<float>();
      const auto length = in.take<std::int32_t>();
      const std::size_t left = bytes.size() - in.at;
      if (!in.good || length < 0 || static_cast<std::size_t>(length) > left) {
        return error{errc::bad_format,
                     path + ": piece " + std::to_string(pieces.size()) + " needs " +
                         (in.good ? std::to_string(length) : std::string("8 header")) +
                         " bytes, the file has " + std::to_string(left) + " left"};
      }
      pieces.push_back({std::string(bytes.substr(in.at, static_cast<std::size_t>(length))), score});
      in.at += static_cast<std::size_t>(length);
    }
    if (vocab != 0 && pieces.size() != vocab) {
      return error{errc::mismatch, path + ": " + std::to_string(pieces.size()) +
                                       " pieces, the model's vocabulary has " +
                                       std::to_string(vocab)};
    }
    return make(std::move(pieces), path);
  }

  /// Writes a tokenizer.bin.
  [[nodiscard]] result<void> save(const std::string& path) const {
    std::string bytes;
    std::size_t longest = 1;
    for (const auto& p : pieces_) longest = std::max(longest, p.text.size());
    append(bytes, static_cast<std::int32_t>(longest));
    for (const auto& p : pieces_) {
      append(bytes, p.score);
      append(bytes, static_cast<std::int32_t>(p.text.size()));
      bytes += p.text;
    }
    return io::write_text(path, bytes);
  }

  [[nodiscard]] std::size_t size() const noexcept { return pieces_.size(); }
  [[nodiscard]] static constexpr std::int32_t bos() noexcept { return 1; }
  /// What ends a text that a model learns: </s>, unless it was told otherwise.
  [[nodiscard]] std::int32_t eos() const noexcept { return eos_; }
  /// Models that llama2.c trained separate texts with <s> and never saw </s>: an adapter on their
  /// projections cannot make them say it.
  void end_texts_with(std::int32_t id) noexcept {
    CRAYON_ASSERT(id >= 0 && static_cast<std::size_t>(id) < size());
    eos_ = id;
  }
  /// Whether what a model says ends here, whatever it learned.
  [[nodiscard]] bool ends_text(std::int32_t id) const noexcept {
    return id == bos() || id == end_of_sequence || id == eos_;
  }
  [[nodiscard]] std::span<const scored_piece> pieces() const noexcept { return pieces_; }

  /// Without BOS. A space is put before text that is not empty.
  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text) const {
    std::vector<std::int32_t> ids;
    if (text.empty()) return ids;
    ids.reserve(text.size() + 1);
    append_code_point(" ", ids);
    for (std::size_t first = 0; first < text.size();) {
      std::size_t last = first + 1;  // up to 4 bytes, the later ones 10xxxxxx
      while (last < text.size() && last - first < 4 && is_continuation(text[last])) ++last;
      append_code_point(text.substr(first, last - first), ids);
      first = last;
    }
    std::string joined;
    merge_pairs(ids, [&](std::int32_t left, std::int32_t right) -> scored_merge {
      joined.assign(piece(left)).append(piece(right));
      const std::int32_t id = find(joined);
      if (id < 0) return {id, 0};
      const float score = pieces_[static_cast<std::size_t>(id)].score;
      return {score > -1e10F ? id : -1, score};  // run.c starts its search there
    });
    return ids;
  }

  /// The bytes of one token; empty for an id outside the vocabulary.
  [[nodiscard]] std::string_view decode(std::int32_t id) const noexcept {
    if (id < 0 || static_cast<std::size_t>(id) >= pieces_.size()) return {};
    return bytes_of(piece(id));
  }

  /// The bytes of `id` after `previous`: the piece after BOS loses its leading space.
  [[nodiscard]] std::string_view decode(std::int32_t previous, std::int32_t id) const noexcept {
    if (id < 0 || static_cast<std::size_t>(id) >= pieces_.size()) return {};
    std::string_view text = piece(id);
    if (previous == bos() && !text.empty() && text[0] == ' ') text.remove_prefix(1);
    return bytes_of(text);
  }

  /// The text of tokens that follow BOS; BOS and EOS among them are nothing.
  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids) const {
    std::string text;
    std::int32_t previous = bos();
    for (const std::int32_t id : ids) {
      if (!ends_text(id)) text += decode(previous, id);
      previous = id;
    }
    return text;
  }

  /// The id of exactly these bytes, the lowest one; -1 if no piece has them.
  [[nodiscard]] std::int32_t find(std::string_view text) const noexcept {
    const auto at = std::lower_bound(
        sorted_.begin(), sorted_.end(), text,
        [this](std::int32_t id, std::string_view other) { return piece(id) < other; });
    return at != sorted_.end() && piece(*at) == text ? *at : -1;
  }

 private:
  static constexpr std::int32_t longest_allowed = 1 << 16;

  static constexpr std::array<char, 256> all_bytes = [] {
    std::array<char, 256> bytes{};
    for (int i = 0; i < 256; ++i) bytes[static_cast<std::size_t>(i)] = static_cast<char>(i);
    return bytes;
  }();

  struct reader {
    std::string_view bytes;
    std::size_t at;
    bool good = true;

    template <class T>
    T take() noexcept {
      T value{};
      if (!good || bytes.size() - at < sizeof(T)) {
        good = false;
      } else {
        std::memcpy(&value, bytes.data() + at, sizeof(T));
        at += sizeof(T);
      }
      return value;
    }
  };

  template <class T>
  static void append(std::string& bytes, T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }

  explicit llama2c_tokenizer(std::vector<scored_piece> pieces) : pieces_(std::move(pieces)) {
    sorted_.resize(pieces_.size());
    for (std::size_t i = 0; i < sorted_.size(); ++i) sorted_[i] = static_cast<std::int32_t>(i);
    std::stable_sort(sorted_.begin(), sorted_.end(),
                     [this](std::int32_t a, std::int32_t b) { return piece(a) < piece(b); });
    byte_fallback_ = pieces_.size() >= 256 + std::size_t{first_byte} &&
                     raw_byte(pieces_[first_byte].text) == 0 &&
                     raw_byte(pieces_[first_byte + 255].text) == 255;
  }

  [[nodiscard]] std::string_view piece(std::int32_t id) const noexcept {
    return pieces_[static_cast<std::size_t>(id)].text;
  }

  [[nodiscard]] static std::string_view bytes_of(std::string_view text) noexcept {
    const int byte = raw_byte(text);
    return byte < 0 ? text : std::string_view(&all_bytes[static_cast<std::size_t>(byte)], 1);
  }

  void append_code_point(std::string_view bytes, std::vector<std::int32_t>& ids) const {
    if (const std::int32_t id = find(bytes); id >= 0) {
      ids.push_back(id);
      return;
    }
    for (const char c : bytes) {
      ids.push_back(byte_fallback_ ? static_cast<unsigned char>(c) + first_byte : 0);
    }
  }

  static constexpr bool is_continuation(char c) noexcept {
    return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U;
  }

  /// "<0x0A>" -> 10; -1 for any other piece.
  static constexpr int raw_byte(std::string_view text) noexcept {
    if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
    int value = 0;
    for (const char c : text.substr(3, 2)) {
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                               : -1;
      if (digit < 0) return -1;
      value = value * 16 + digit;
    }
    return value;
  }

  std::vector<scored_piece> pieces_;
  std::vector<std::int32_t> sorted_;  // ids in the order of their pieces
  bool byte_fallback_ = false;
  std::int32_t eos_ = end_of_sequence;
};
static_assert(text_tokenizer<llama2c_tokenizer>);

}  // namespace crayon::tokenizer
