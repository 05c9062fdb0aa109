// SPDX-License-Identifier: MIT
// expect: constraint
// expect: element
#include <crayon/adapter/lora_adapter.hpp>

#ifdef CRAYON_BAD
crayon::adapter::lora_adapter<double> a;
#else
crayon::adapter::lora_adapter<crayon::bf16> a;
#endif
