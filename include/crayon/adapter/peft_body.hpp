// SPDX-License-Identifier: MIT
// A PEFT adapter in one piece, for the wire.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/adapter/peft.hpp>
#include <crayon/core/result.hpp>
#include <crayon/io/file.hpp>
#include <crayon/io/safetensors.hpp>
#include <crayon/io/safetensors_write.hpp>

namespace crayon::adapter {

/// The metadata entry that has the text of adapter_config.json.
inline constexpr std::string_view peft_config_key = "adapter_config";

/// The bytes of adapter_model.safetensors, with the text of adapter_config.json in its metadata:
/// saved under that name, beside a file with that text, it is what PEFT reads. Errors: as
/// `save_peft`; `name` stands in them.
template <element E>
[[nodiscard]] result<std::string> peft_body(const std::string& name, const lora_adapter<E>& adapter,
                                            peft_info info) {
  peft_keys::tensor_list list(name, dtype_of<E>);
  CRAYON_CHECK(peft_keys::fill(name, adapter, info, list));
  auto metadata = peft_keys::metadata_of(info);
  metadata[std::string(peft_config_key)] = peft_config_text(info);
  return io::safetensors_bytes(name, list.take(), metadata);
}

/// What `peft_body` gives, from a source of that name. Checked as a file from anywhere.
template <element E>
[[nodiscard]] result<peft_adapter<E>> read_peft_body(const std::string& name,
                                                     std::string_view body) {
  CRAYON_TRY(io::mapped_file bytes,
             io::mapped_file::copy_of(name, std::as_bytes(std::span(body))));
  CRAYON_TRY(const io::safetensors file, io::safetensors::read(std::move(bytes)));
  const auto text = file.metadata().find(std::string(peft_config_key));
  if (text == file.metadata().end()) {
    return error{errc::bad_format,
                 name + ": no " + std::string(peft_config_key) + " in the metadata"};
  }
  CRAYON_TRY(peft_info info, parse_peft_config(name, text->second));
  return read_peft<E>(std::move(info), file);
}

}  // namespace crayon::adapter
