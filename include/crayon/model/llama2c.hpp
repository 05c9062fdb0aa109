// SPDX-License-Identifier: MIT
// Checkpoints of llama2.c (https://github.com/karpathy/llama2.c, export.py): version 0, which has
// no magic number, and version 1 ("ak42"); both f32.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <crayon/core/result.hpp>
#include <crayon/core/view.hpp>
#include <crayon/io/file.hpp>
#include <crayon/io/tensor.hpp>
#include <crayon/model/llama_weights.hpp>

namespace crayon::model {

static_assert(std::endian::native == std::endian::little, "llama2.c files are little endian");

/// Reorders the rows of q or k (heads * head_dim, in) in place: from llama2.c's pairs (2j, 2j + 1)
/// to rotate_half's (j, j + head_dim / 2), or back.
template <element E>
void reorder_rope_rows(matrix_view<E> w, std::size_t head_dim, bool to_halves) {
  const std::size_t half = head_dim / 2;
  std::vector<E> head(head_dim * w.cols);
  for (std::size_t first = 0; first + head_dim <= w.rows; first += head_dim) {
    for (std::size_t r = 0; r < head_dim; ++r) {
      std::copy_n(w.row(first + r), w.cols, head.data() + r * w.cols);
    }
    for (std::size_t j = 0; j < half; ++j) {
      for (std::size_t part = 0; part < 2; ++part) {
        const std::size_t paired = 2 * j + part, halved = j + part * half;
        const std::size_t from = to_halves ? paired : halved, to = to_halves ? halved : paired;
        std::copy_n(head.data() + from * w.cols, w.cols, w.row(first + to));
      }
    }
  }
}

namespace llama2c_format {

inline constexpr std::uint32_t magic = 0x616B3432;  // "ak42"
inline constexpr std::size_t header_bytes_v0 = 28, header_bytes_v1 = 256;

/// A field of the file: a weight of `llama_weight_shapes`, or bytes that nobody reads any more.
struct field {
  std::size_t weight = 0;
  std::size_t skipped_floats = 0;
};

/// What follows the header.
[[nodiscard]] inline std::vector<field> fields(const llama_config& c, int version) {
  constexpr std::size_t norm_a = 0, norm_m = 1;
  constexpr auto nth = [](projection p) { return 2 + static_cast<std::size_t>(p); };
  const std::size_t final_norm = 1 + c.layers * weights_per_layer;
  std::vector<field> order;
  const auto all = [&](std::size_t which) {
    for (std::size_t layer = 0; layer < c.layers; ++layer) {
      order.push_back({1 + layer * weights_per_layer + which, 0});
    }
  };
  if (version == 0) order.push_back({0, 0});
  all(norm_a);
  if (version != 0) {
    all(norm_m);
    order.push_back({final_norm, 0});
    order.push_back({0, 0});
  }
  for (const projection p : {projection::q, projection::k, projection::v, projection::o}) {
    all(nth(p));
  }
  if (version == 0) all(norm_m);
  for (const projection p : {projection::gate, projection::down, projection::up}) all(nth(p));
  if (version == 0) {
    order.push_back({final_norm, 0});
    order.push_back({0, c.context * c.head_dim});  // cosines and sines of rope
  }
  if (!c.tied) order.push_back({final_norm + 1, 0});
  return order;
}

/// Whether that weight is a q or k projection, whose rows rope pairs.
[[nodiscard]] inline bool is_rotated(const llama_config& c, std::size_t weight) noexcept {
  if (weight == 0 || weight > c.layers * weights_per_layer) return false;
  const std::size_t nth = (weight - 1) % weights_per_layer;
  return nth == 2 + static_cast<std::size_t>(projection::q) ||
         nth == 2 + static_cast<std::size_t>(projection::k);
}

struct header {
  llama_config config;
  int version = 0;
  std::size_t bytes = 0;
};

[[nodiscard]] inline result<header> read_header(const std::string& path,
                                                std::span<const std::byte> bytes) {
  const auto bad = [&](const std::string& text) {
    return error{errc::bad_format, path + ": not a llama2.c checkpoint: " + text};
  };
  const auto needs = [&](std::size_t count) {
    return bad("its header has " + std::to_string(count) + " bytes, the file " +
               std::to_string(bytes.size()));
  };
  if (bytes.size() < header_bytes_v0) return needs(header_bytes_v0);
  header h;
  std::uint32_t first = 0;
  std::memcpy(&first, bytes.data(), 4);
  std::array<std::int32_t, 7> numbers{};
  h.bytes = first == magic ? header_bytes_v1 : header_bytes_v0;
  if (bytes.size() < h.bytes) return needs(h.bytes);
  if (first == magic) {
    std::int32_t version = 0;
    std::memcpy(&version, bytes.data() + 4, 4);
    if (version != 1) {
      return error{errc::unsupported,
                   path + ": llama2.c version " + std::to_string(version) + ", can read 0 and 1"};
    }
    h.version = version;
    std::memcpy(numbers.data(), bytes.data() + 8, sizeof numbers);
    h.config.tied = bytes[36] != std::byte{0};
  } else {
    std::memcpy(numbers.data(), bytes.data(), sizeof numbers);
    h.config.tied = numbers[5] > 0;  // a negative vocabulary says that the head is separate
    if (numbers[5] < 0 && numbers[5] > -(1 << 24)) numbers[5] = -numbers[5];
  }
  constexpr std::array<std::string_view, 7> names{"dim",        "hidden_dim", "n_layers", "n_heads",
                                                  "n_kv_heads", "vocab_size", "seq_len"};
  constexpr std::array<std::int32_t, 7> largest{1 << 16, 1 << 20, 1 << 12, 1 << 12,
                                                1 << 12, 1 << 24, 1 << 24};
  std::array<std::size_t, 7> n{};
  for (std::size_t i = 0; i < 7; ++i) {
    if (numbers[i] <= 0 || numbers[i] > largest[i]) {
      return bad(std::string(names[i]) + " = " + std::to_string(numbers[i]) + ", expected 1 ... " +
                 std::to_string(largest[i]));
    }
    n[i] = static_cast<std::size_t>(numbers[i]);
  }
  if (n[0] % n[3] != 0 || n[0] / n[3] % 2 != 0) {
    return bad("dim = " + std::to_string(n[0]) + " does not give " + std::to_string(n[3]) +
               " heads of an even size");
  }
  if (n[3] % n[4] != 0) {
    return bad("n_heads = " + std::to_string(n[3]) +
               " is no multiple of n_kv_heads = " + std::to_string(n[4]));
  }
  h.config.dim = n[0];
  h.config.hidden = n[1];
  h.config.layers = n[2];
  h.config.heads = n[3];
  h.config.kv_heads = n[4];
  h.config.head_dim = n[0] / n[3];
  h.config.vocab = n[5];
  h.config.context = n[6];
  return h;
}

}  // namespace llama2c_format

/// Reads a checkpoint of version 0 or 1. Errors: a missing file, a header that makes no sense, a
/// size that is not the header's (both are named), a weight that is NaN, infinite or too large for
/// E.
template <element E>
[[nodiscard]] result<llama_weights<E>> read_llama2c(const std::string& path) {
  CRAYON_TRY(const io::mapped_file file, io::mapped_file::open(path));
  CRAYON_TRY(const llama2c_format::header h, llama2c_format::read_header(path, file.bytes()));
  const std::vector<llama2c_format::field> fields = llama2c_format::fields(h.config, h.version);
  const std::vector<weight_shape> shapes = llama_weight_shapes(h.config);
  std::size_t expected = h.bytes;
  for (const auto& f : fields) {
    expected += 4 * (f.skipped_floats > 0 ? f.skipped_floats
                                          : shapes[f.weight].rows * shapes[f.weight].cols);
  }
  if (expected != file.size()) {
    return error{errc::bad_format, path + ": the header (dim " + std::to_string(h.config.dim) +
                                       ", " + std::to_string(h.config.layers) +
                                       " layers, vocabulary " + std::to_string(h.config.vocab) +
                                       ") needs a file of " + std::to_string(expected) +
                                       " bytes, this one has " + std::to_string(file.size())};
  }
  llama_weights<E> weights(h.config);
  std::size_t at = h.bytes;
  for (const auto& f : fields) {
    if (f.skipped_floats > 0) {
      at += 4 * f.skipped_floats;
      continue;
    }
    const weight_shape& s = shapes[f.weight];
    const std::size_t bytes = 4 * s.rows * s.cols;
    const io::tensor t{s.name, "F32", {s.rows, s.cols}, file.bytes().subspan(at, bytes)};
    at += bytes;
    if (s.norm) {
      CRAYON_CHECK(io::read_matrix(
          path, t, matrix_view<float>(weights.norms().data() + s.offset, s.rows, s.cols)));
      continue;
    }
    const matrix_view<E> w(weights.matrices().data() + s.offset, s.rows, s.cols);
    CRAYON_CHECK(io::read_matrix(path, t, w));
    if (llama2c_format::is_rotated(h.config, f.weight))
      reorder_rope_rows(w, h.config.head_dim, true);
  }
  return weights;
}

/// Writes version 0, f32. Errors: a configuration that the format cannot say (its rope_theta is
/// 10000, not scaled, its epsilon 1e-5, its heads share `dim`), a file that cannot be written.
template <element E>
[[nodiscard]] result<void> write_llama2c(const std::string& path, const llama_weights<E>& weights) {
  const llama_config& c = weights.config();
  if (c.q_dim() != c.dim || c.rope_theta != 10000.0F || c.norm_epsilon != 1e-5F ||
      c.scaling.factor != 1) {
    return error{errc::unsupported,
                 path +
                     ": llama2.c files have rope_theta 10000, not scaled, epsilon 1e-5 and heads * "
                     "head_dim = dim; the model has " +
                     std::to_string(c.rope_theta) + " scaled by " +
                     std::to_string(c.scaling.factor) + ", " + std::to_string(c.norm_epsilon) +
                     ", " + std::to_string(c.q_dim()) + " and dim " + std::to_string(c.dim)};
  }
  CRAYON_TRY(io::atomic_file file, io::atomic_file::create(path));
  const auto number = [](std::size_t n) { return static_cast<std::int32_t>(n); };
  const std::array<std::int32_t, 7> numbers{
      number(c.dim),    number(c.hidden),   number(c.layers),
      number(c.heads),  number(c.kv_heads), c.tied ? number(c.vocab) : -number(c.vocab),
      number(c.context)};
  CRAYON_CHECK(file.write(std::as_bytes(std::span(numbers))));
  std::vector<float> values;
  for (const auto& f : llama2c_format::fields(c, 0)) {
    if (f.skipped_floats > 0) {
      values.assign(f.skipped_floats, 0.0F);
      const std::size_t half = c.head_dim / 2;
      for (std::size_t i = 0; i < c.context * half; ++i) {
        const double frequency = std::pow(
            double{c.rope_theta}, -static_cast<double>(i % half) / static_cast<double>(half));
        const double angle = static_cast<double>(i / half) * frequency;
        values[i] = static_cast<float>(std::cos(angle));
        values[c.context * half + i] = static_cast<float>(std::sin(angle));
      }
    } else {
      const weight_shape& s = weights.shapes()[f.weight];
      values.resize(s.rows * s.cols);
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] =
            s.norm ? weights.norms()[s.offset + i] : to_float(weights.matrices()[s.offset + i]);
      }
      if (llama2c_format::is_rotated(c, f.weight)) {
        reorder_rope_rows(matrix_view<float>(values.data(), s.rows, s.cols), c.head_dim, false);
      }
    }
    CRAYON_CHECK(file.write(std::as_bytes(std::span(values))));
  }
  return file.commit();
}

}  // namespace crayon::model
