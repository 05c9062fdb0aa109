// SPDX-License-Identifier: MIT
// expect: engine_config
// expect: text_tokenizer
#include <crayon/engine/config.hpp>

template <crayon::engine::engine_config C>
struct engine {};

struct config : crayon::engine::default_config {
#ifdef CRAYON_BAD
  using tokenizer = std::string;
#else
  using embedding = crayon::match::mean_pooling;
#endif
};

engine<config> e;
