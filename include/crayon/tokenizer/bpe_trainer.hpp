// SPDX-License-Identifier: MIT
// A SentencePiece-like BPE vocabulary from texts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <crayon/core/result.hpp>
#include <crayon/tokenizer/llama2c_tokenizer.hpp>

namespace crayon::tokenizer {

struct bpe_options {
  std::size_t vocab = 512;         ///< at most; texts with few different pairs need fewer
  std::size_t longest_piece = 16;  ///< bytes
  std::size_t min_count = 2;       ///< a pair seen less often is not merged
};

/// Byte-pair encoding (Sennrich et al. 2016) over words. A word is a run of other characters with
/// at most one space before it; digits, newlines and tabs are words of their own without that
/// space, so pieces never hold a digit with anything else, nor a space but the first. The
/// vocabulary is laid out as llama2.c reads it: <unk>, <s>, </s>, 256 bytes, merges (score =
/// -order), characters.
class bpe_trainer {
 public:
  explicit bpe_trainer(bpe_options options = {}) : options_(options) {}

  /// Equal texts give equal vocabularies. Errors: no text, `vocab` without room for characters.
  [[nodiscard]] result<llama2c_tokenizer> train(std::span<const std::string> texts) {
    constexpr std::size_t reserved = 256 + llama2c_tokenizer::first_byte;
    if (options_.vocab <= reserved) {
      return error{errc::bad_value, "a vocabulary of " + std::to_string(options_.vocab) +
                                        " pieces has no room beside the " +
                                        std::to_string(reserved) + " reserved ones"};
    }
    count_words(texts);
    if (words_.empty()) return error{errc::bad_value, "no text to learn a vocabulary from"};
    choose_alphabet(options_.vocab - reserved);
    const std::size_t characters = symbols_.size();
    count_pairs();
    while (reserved + symbols_.size() < options_.vocab && merge_best()) {
    }
    std::vector<scored_piece> pieces{{"<unk>", 0}, {"<s>", 0}, {"</s>", 0}};
    for (std::size_t byte = 0; byte < 256; ++byte) pieces.push_back({byte_piece(byte), 0});
    float score = 0;
    for (std::size_t i = characters; i < symbols_.size(); ++i)
      pieces.push_back({symbols_[i], score--});
    for (std::size_t i = 0; i < characters; ++i) pieces.push_back({symbols_[i], score--});
    return llama2c_tokenizer::make(std::move(pieces));
  }

 private:
  struct word {
    std::vector<std::int32_t> symbols;
    std::size_t count = 0;
  };
  struct pair_use {
    std::size_t count = 0;
    std::vector<std::size_t> words;  // that have, or once had, the pair
  };
  using pair = std::pair<std::int32_t, std::int32_t>;
  static constexpr std::int32_t unknown = -1;

  static bool stands_alone(char c) noexcept {
    return (c >= '0' && c <= '9') || c == '\n' || c == '\t' || c == '\r';
  }

  void count_words(std::span<const std::string> texts) {
    words_.clear();
    spellings_.clear();
    std::map<std::string, std::size_t> counts;
    for (const std::string& text : texts) {
      if (text.empty()) continue;
      const std::string spaced = " " + text;  // as the encoder sees it
      for (std::size_t first = 0; first < spaced.size();) {
        std::size_t last = first + 1;
        if (!stands_alone(spaced[first])) {
          while (last < spaced.size() && spaced[last] != ' ' && !stands_alone(spaced[last])) ++last;
        }
        ++counts[spaced.substr(first, last - first)];
        first = last;
      }
    }
    for (const auto& [text, count] : counts) {
      spellings_.push_back(text);
      words_.push_back({{}, count});
    }
  }

  /// The most frequent characters that fit; the others are left to the byte fallback.
  void choose_alphabet(std::size_t room) {
    std::map<std::string_view, std::size_t> counts;
    const auto each = [](std::string_view text, auto&& visit) {
      for (std::size_t first = 0; first < text.size();) {
        std::size_t last = first + 1;
        while (last < text.size() && last - first < 4 &&
               (static_cast<unsigned char>(text[last]) & 0xC0U) == 0x80U) {
          ++last;
        }
        visit(text.substr(first, last - first));
        first = last;
      }
    };
    for (std::size_t i = 0; i < words_.size(); ++i) {
      each(spellings_[i], [&](std::string_view c) { counts[c] += words_[i].count; });
    }
    std::vector<std::pair<std::string_view, std::size_t>> order(counts.begin(), counts.end());
    std::stable_sort(order.begin(), order.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    if (order.size() > room) order.resize(room);
    symbols_.clear();
    ids_.clear();
    for (const auto& [text, count] : order) add_symbol(std::string(text));
    for (std::size_t i = 0; i < words_.size(); ++i) {
      each(spellings_[i], [&](std::string_view c) {
        const auto at = ids_.find(std::string(c));
        words_[i].symbols.push_back(at == ids_.end() ? unknown : at->second);
      });
    }
  }

  std::int32_t add_symbol(std::string text) {
    const auto id = static_cast<std::int32_t>(symbols_.size());
    ids_.emplace(text, id);
    symbols_.push_back(std::move(text));
    return id;
  }

  void count_pairs() {
    pairs_.clear();
    for (std::size_t i = 0; i < words_.size(); ++i) add_pairs(i);
  }

  void add_pairs(std::size_t i) {
    const word& w = words_[i];
    for (std::size_t j = 1; j < w.symbols.size(); ++j) {
      if (w.symbols[j - 1] == unknown || w.symbols[j] == unknown) continue;
      pair_use& use = pairs_[{w.symbols[j - 1], w.symbols[j]}];
      use.count += w.count;
      if (use.words.empty() || use.words.back() != i) use.words.push_back(i);
    }
  }

  void remove_pairs(std::size_t i) {
    const word& w = words_[i];
    for (std::size_t j = 1; j < w.symbols.size(); ++j) {
      if (w.symbols[j - 1] == unknown || w.symbols[j] == unknown) continue;
      pairs_[{w.symbols[j - 1], w.symbols[j]}].count -= w.count;
    }
  }

  /// Merges the most frequent pair; of equal ones the one that spells the smaller piece. False when
  /// no pair is left that may be merged.
  bool merge_best() {
    const std::pair<const pair, pair_use>* best = nullptr;
    std::string best_text;
    for (auto at = pairs_.begin(); at != pairs_.end();) {
      const auto& [p, use] = *at;
      const std::size_t length = text(p.first).size() + text(p.second).size();
      if (use.count < std::max<std::size_t>(options_.min_count, 1) ||
          length > options_.longest_piece) {
        at = use.count == 0 ? pairs_.erase(at) : std::next(at);
        continue;
      }
      if (best == nullptr || use.count >= best->second.count) {
        std::string joined = text(p.first) + text(p.second);
        if (best == nullptr || use.count > best->second.count || joined < best_text) {
          best = &*at;
          best_text = std::move(joined);
        }
      }
      ++at;
    }
    if (best == nullptr) return false;
    const auto known = ids_.find(best_text);
    const std::int32_t merged = known != ids_.end() ? known->second : add_symbol(best_text);
    const pair p = best->first;
    std::vector<std::size_t> touched = best->second.words;
    std::sort(touched.begin(), touched.end());
    touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
    for (const std::size_t i : touched) {
      if (!contains(words_[i].symbols, p)) continue;
      remove_pairs(i);
      replace(words_[i].symbols, p, merged);
      add_pairs(i);
    }
    return true;
  }

  static bool contains(const std::vector<std::int32_t>& symbols, pair p) noexcept {
    for (std::size_t j = 1; j < symbols.size(); ++j) {
      if (symbols[j - 1] == p.first && symbols[j] == p.second) return true;
    }
    return false;
  }

  static void replace(std::vector<std::int32_t>& symbols, pair p, std::int32_t merged) {
    std::size_t kept = 0;
    for (std::size_t j = 0; j < symbols.size(); ++j) {
      const bool both =
          j + 1 < symbols.size() && symbols[j] == p.first && symbols[j + 1] == p.second;
      symbols[kept++] = both ? merged : symbols[j];
      j += both ? 1 : 0;
    }
    symbols.resize(kept);
  }

  [[nodiscard]] const std::string& text(std::int32_t id) const noexcept {
    return symbols_[static_cast<std::size_t>(id)];
  }

  static std::string byte_piece(std::size_t byte) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    return {'<', '0', 'x', digits[byte / 16], digits[byte % 16], '>'};
  }

  bpe_options options_;
  std::vector<std::string> spellings_;  // of words_
  std::vector<word> words_;
  std::vector<std::string> symbols_;  // characters, then merges
  std::unordered_map<std::string, std::int32_t> ids_;
  std::map<pair, pair_use> pairs_;
};

}  // namespace crayon::tokenizer
