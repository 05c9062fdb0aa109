// SPDX-License-Identifier: MIT
// All of crayon that needs the standard library alone. Not here, because they cost more:
// core/thread_pool.hpp, the SIMD backends, io/, serve/, train/, interop/.
#pragma once

#include <crayon/adapter/lora_adapter.hpp>
#include <crayon/concepts.hpp>
#include <crayon/core/executor.hpp>
#include <crayon/model/generate.hpp>
#include <crayon/model/llama.hpp>
#include <crayon/model/sampler.hpp>
#include <crayon/router/all_of.hpp>
#include <crayon/router/always.hpp>
#include <crayon/router/any_of.hpp>
#include <crayon/router/confidence.hpp>
#include <crayon/router/scope.hpp>
#include <crayon/router/signals.hpp>
#include <crayon/router/threshold.hpp>
#include <crayon/simd/scalar.hpp>
#include <crayon/version.hpp>
