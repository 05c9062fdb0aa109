// SPDX-License-Identifier: MIT
// Names without definitions, for headers of a program that only pass crayon's types on.
#pragma once

#include <crayon/core/element.hpp>

namespace crayon {

template <class T>
class result;
struct error;
template <class T>
struct matrix_view;
template <element E>
struct factors_view;
struct weighted_slot;
struct signals;
struct serial_executor;
class thread_pool;

namespace simd {
struct scalar;
}  // namespace simd

namespace adapter {
struct site_shape;
template <element E>
class lora_adapter;
}  // namespace adapter

namespace model {
struct llama_config;
template <element E>
class llama_weights;
}  // namespace model

}  // namespace crayon
