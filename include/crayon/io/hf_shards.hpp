// SPDX-License-Identifier: MIT
// The safetensors files of a model directory: one, or several with an index.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <crayon/core/config.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>
#include <crayon/io/json.hpp>
#include <crayon/io/safetensors.hpp>

namespace crayon::io {

/// Tensors by name, whichever file of the directory they are in.
class hf_shards {
 public:
  /// model.safetensors, or else what model.safetensors.index.json lists.
  [[nodiscard]] static result<hf_shards> open(const std::string& directory) {
    hf_shards shards;
    shards.directory_ = directory;
    auto single = safetensors::open(directory + "/model.safetensors");
    if (single) {
      shards.files_.push_back(*std::move(single));
      shards.index();
      return shards;
    }
    // One that is there and broken is the model; an index beside it is not looked for.
    if (single.error().code != errc::not_found) return single.error();
    const std::string index_path = directory + "/model.safetensors.index.json";
    auto text = read_text(index_path);
    if (!text) return single.error();  // neither: the usual file is the one to name
    const auto json = parse_json(*text);
    if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
      return error{errc::bad_format, index_path + ": has no weight_map"};
    }
    std::vector<std::string> names;
    for (const auto& [tensor_name, file] : json["weight_map"].items()) {
      if (!file.is_string() || file.get<std::string>().find('/') != std::string::npos) {
        return error{errc::bad_format, index_path + ": weight_map." + tensor_name +
                                           " is not a file name of the directory"};
      }
      names.push_back(file.get<std::string>());
    }
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    for (const auto& name : names) {
      CRAYON_TRY(safetensors file, safetensors::open(directory + "/" + name));
      shards.files_.push_back(std::move(file));
    }
    shards.index();
    return shards;
  }

  [[nodiscard]] std::vector<std::string_view> names() const {
    std::vector<std::string_view> all;
    for (const auto& [name, file] : by_name_) all.push_back(name);
    return all;
  }

  /// One of `names()`.
  [[nodiscard]] const tensor& at(std::string_view name) const {
    const auto found = by_name_.find(name);
    CRAYON_ASSERT(found != by_name_.end());
    return *files_[found->second].find(found->first);
  }

  /// Whether the tensor is there with that shape: (cols) for a vector, else (rows, cols).
  [[nodiscard]] result<void> check(const std::string& name, std::size_t rows, std::size_t cols,
                                   bool vector) const {
    CRAYON_TRY(const safetensors* file, file_of(name));
    const std::vector<std::size_t> needed =
        vector ? std::vector<std::size_t>{cols} : std::vector<std::size_t>{rows, cols};
    const tensor* t = file->find(name);
    if (t->shape == needed) return {};
    return error{errc::bad_shape, file->path() + ": tensor " + name + " has shape " +
                                      shape_text(t->shape) + ", the model's config.json needs " +
                                      shape_text(needed)};
  }

  /// Whether both are there, with the same bytes.
  [[nodiscard]] bool same(const std::string& one, const std::string& other) const {
    const auto a = file_of(one), b = file_of(other);
    if (!a || !b) return false;
    const tensor &x = *(*a)->find(one), &y = *(*b)->find(other);
    return x.dtype == y.dtype && x.shape == y.shape &&
           std::equal(x.bytes.begin(), x.bytes.end(), y.bytes.begin(), y.bytes.end());
  }

  /// Converts to E; the errors are those of `read_matrix`.
  template <element E>
  [[nodiscard]] result<void> read(const std::string& name, matrix_view<E> out) const {
    CRAYON_TRY(const safetensors* file, file_of(name));
    return read_matrix(file->path(), *file->find(name), out);
  }

 private:
  void index() {
    for (std::size_t i = 0; i < files_.size(); ++i) {
      for (const auto& t : files_[i].tensors()) by_name_.emplace(t.name, i);
    }
  }

  [[nodiscard]] result<const safetensors*> file_of(const std::string& name) const {
    const auto at = by_name_.find(name);
    if (at == by_name_.end()) {
      const std::string where = files_.size() == 1 ? files_[0].path() : directory_;
      return error{errc::not_found, where + ": tensor " + name + " is missing"};
    }
    return &files_[at->second];
  }

  std::string directory_;
  std::vector<safetensors> files_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
};

}  // namespace crayon::io
