// SPDX-License-Identifier: MIT
// What is known about a pool besides its factors, and what every pool must satisfy.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/core/aligned.hpp>
#include <crayon/core/result.hpp>
#include <crayon/core/view.hpp>

namespace crayon::adapter {

/// What a pool was trained for. Using it otherwise is an error or a named override.
struct pool_info {
  std::string base_model;          ///< name or path, for people
  std::string base_hash;           ///< llama_weights::hash() of the base model
  std::string embedding;           ///< name() of the embedding policy of the index vectors
  std::string matcher;             ///< name() of the matcher
  std::string blend;               ///< name() of the blend policy used in training
  float tau = 0.1F;                ///< temperature of the matcher
  std::vector<std::string> names;  ///< one per adapter; "adapter-<k>" where none is given
  std::vector<float> centre;       ///< (D), subtracted from embeddings; empty: nothing is
  std::vector<float> projection;   ///< (d, D), then multiplied with; empty: nothing is, d = D
  std::map<std::string, std::string> notes;
  std::size_t layer = 0;      ///< blocks that the embedded states have been through; 0: all
  std::size_t centroids = 1;  ///< of each adapter: unit vectors (d) side by side in its row of the
                              ///< index, each over sqrt(centroids), so that the row is one too
  std::size_t top_k = 0;      ///< of the matcher; 0: it keeps all adapters

  friend bool operator==(const pool_info&, const pool_info&) = default;
};

/// "module (out, in) rank r scale s", and the kind where it is not linear
[[nodiscard]] inline std::string describe(const site_shape& s) {
  return s.module + " (" + std::to_string(s.out) + ", " + std::to_string(s.in) + ") rank " +
         std::to_string(s.rank) + " scale " + std::to_string(s.scale) +
         (s.kind == site_kind::linear ? "" : " " + std::string(name(s.kind)));
}

/// One adapter fits into a pool of these shapes: the same modules in any order.
template <class Adapter>
[[nodiscard]] result<void> check_shapes(const std::string& who, const Adapter& adapter,
                                        std::span<const site_shape> shapes) {
  for (const auto& shape : shapes) {
    const auto at = adapter.find(shape.module);
    if (!at) {
      return error{errc::bad_shape,
                   who + " has no module " + shape.module + ", which the others have"};
    }
    if (adapter.shape(*at) != shape) {
      return error{errc::bad_shape, who + " has " + describe(adapter.shape(*at)) +
                                        ", the others have " + describe(shape)};
    }
  }
  for (std::size_t i = 0; i < adapter.size(); ++i) {
    const std::string& module = adapter.shape(i).module;
    if (std::none_of(shapes.begin(), shapes.end(),
                     [&](const site_shape& s) { return s.module == module; })) {
      return error{errc::bad_shape, who + " has module " + module + ", which the others have not"};
    }
  }
  return {};
}

/// An index vector has unit length.
[[nodiscard]] inline result<void> check_index(const std::string& who,
                                              std::span<const float> vector) {
  double squares = 0;
  for (const float x : vector) squares += double{x} * double{x};
  if (!(std::abs(squares - 1) < 1e-3)) {  // also when it is NaN
    return error{errc::bad_value, "index vector of " + who + " has length " +
                                      std::to_string(std::sqrt(squares)) + ", needs 1"};
  }
  return {};
}

/// The index vectors of `count` adapters, and the space that they are in, agree; adapters without a
/// name get one. `index` is (count, d) or has no columns.
[[nodiscard]] inline result<void> check_index_of(std::size_t count, matrix_view<const float> index,
                                                 pool_info& info) {
  if (index.cols != 0 && index.rows != count) {
    return error{errc::bad_shape, std::to_string(count) + " adapters, but " +
                                      std::to_string(index.rows) + " index vectors"};
  }
  if (!info.names.empty() && info.names.size() != count) {
    return error{errc::bad_shape, std::to_string(count) + " adapters, but " +
                                      std::to_string(info.names.size()) + " names"};
  }
  for (std::size_t k = info.names.size(); k < count; ++k) {
    info.names.push_back("adapter-" + std::to_string(k));
  }
  if (info.centroids == 0 || index.cols % info.centroids != 0) {
    return error{errc::bad_shape, "index vectors of length " + std::to_string(index.cols) +
                                      " are not " + std::to_string(info.centroids) + " centroids"};
  }
  const std::size_t width = index.cols / info.centroids;
  if (!info.projection.empty()) {
    if (info.projection.size() != width * info.centre.size()) {
      return error{errc::bad_shape, "index vectors of length " + std::to_string(width) +
                                        " and a centre of " + std::to_string(info.centre.size()) +
                                        ", but a projection of " +
                                        std::to_string(info.projection.size()) + " elements"};
    }
  } else if (!info.centre.empty() && info.centre.size() != width) {
    return error{errc::bad_shape, "index vectors of length " + std::to_string(width) +
                                      ", but a centre of " + std::to_string(info.centre.size())};
  }
  for (std::size_t k = 0; index.cols != 0 && k < count; ++k) {
    CRAYON_CHECK(check_index(info.names[k], {index.row(k), index.cols}));
  }
  return {};
}

/// The parts of a pool of `count` adapters agree; adapters without a name get one. `index` is
/// (count, d) or has no columns; a tile is `tile` elements of `element_size` bytes.
[[nodiscard]] inline result<void> check_pool(std::span<const site_shape> shapes, std::size_t count,
                                             matrix_view<const float> index, pool_info& info,
                                             std::size_t tile, std::size_t element_size) {
  if (count == 0 || shapes.empty()) {
    return error{errc::bad_value, "a pool of " + std::to_string(count) + " adapters with " +
                                      std::to_string(shapes.size()) + " sites"};
  }
  const std::size_t line = alignment / element_size;
  if (tile == 0 || tile % line != 0) {
    return error{errc::bad_value, "a tile of " + std::to_string(tile) +
                                      " elements, needs a multiple of " + std::to_string(line)};
  }
  CRAYON_CHECK(check_index_of(count, index, info));
  for (const auto& s : shapes) {
    if (s.rank == 0 || s.in == 0 || s.out == 0) {
      return error{errc::bad_shape, "an empty factor: " + describe(s)};
    }
  }
  return {};
}

}  // namespace crayon::adapter
